package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// flavour is what the sets of the two servers differ in.
type flavour struct {
	name       string // as ENGINE has it
	namespace  string
	overlay    string // the one that is shipped, with this machine's images
	server     string // its image, which has the client, too
	client     string // the client's name
	understudy string // our image
	base       string // what our image is built upon
	readOnly   string // the variable that holds everybody off
	position   string // SQL: what this member has
	reached    string // SQL: 0 as soon as this member has that, %s, too
	lease      bool   // the Lease names the primary, not the first ordinal
	ordinal    string // with lease: the overlay of the same set without it
}

var (
	mariaDB = flavour{
		name: "mariadb", namespace: "database", overlay: "testdata/mariadb", server: "local/server-mariadb:1", client: "mariadb",
		understudy: "local/understudy:test", base: "local/server-mariadb:1", readOnly: "@@read_only",
		position: "SELECT @@gtid_binlog_pos", reached: "SELECT MASTER_GTID_WAIT('%s', 60)",
	}
	mySQL = flavour{
		name: "mysql", namespace: "mysql", overlay: "testdata/mysql", server: "local/server-mysql:1", client: "mysql",
		understudy: "local/understudy:none", base: "scratch", readOnly: "@@super_read_only",
		position: `SELECT REPLACE(@@gtid_executed, '\n', '')`, reached: "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 60)",
	}
	byLease        = mySQL.led("lease", "testdata/lease", "testdata/lease-ordinal")
	mariaDBByLease = mariaDB.led("lease-mariadb", "testdata/lease-mariadb", "testdata/lease-mariadb-ordinal")
)

// led is the flavour with a primary that the Lease names.
func (f flavour) led(name, overlay, ordinal string) flavour {
	f.name, f.namespace, f.overlay, f.ordinal, f.lease = name, name, overlay, ordinal, true
	return f
}

// scenario is one row of the table: what is done to the set, and what must follow. Before and after
// each row the set has three members that are ready, and a writer that does not stop.
type scenario struct {
	name    string
	seconds int // what it usually takes on two cores, for the time left that is printed
	run     func(context.Context, *testing.T, *set)
}

var onMariaDB = []scenario{
	{"first start of three", 20, firstStart},
	{"scale from 3 to 5, to 3, to 5, to 3", 35, scaling},
	{"each pod deleted", 25, podsDeleted},
	{"each pod deleted by force", 18, podsForced},
	{"the volume of ordinal 2 deleted", 12, volumeDeleted},
	{"sidecar killed", 9, sidecarKilled},
	{"server killed", 12, serverKilled},
	{"init killed in each phase", 45, initKilled},
	{"the prepare runs out of memory", 17, outOfMemory},
	{"rolling restart", 18, rollingRestart},
	{"image update", 16, imageUpdate},
	// The kubelet's back-off grows with each crash in a pod's life: the pods are new here.
	{"the sidecar of the primary crashes again and again", 25, crashLoop},
	{"a secret that is too short, and one that is missing", 16, wrongSecret},
	{"eviction is refused by the budget", 10, eviction},
	{"kubelet restarted", 6, kubeletRestarted},
	{"a partition between primary and replica heals", 5, partition},
	{"the API server is away", 125, apiServerAway},
	{"the set deleted and made again, with its volumes", 90, setDeleted},
	{"all volumes lost, consent given, the image killed half-way", 75, beginAnew},
	{"the volume of the first ordinal deleted", 17, firstVolumeLost},
	{"a replica with a transaction of its own is reseeded", 25, reseeded},
	{"all secrets rotated under load", 30, secretsRotated},
	{"no more than was granted is used", 4, leastPrivilege},
	{"a set of the tutorial moves over", 45, fromTutorial},
	{"a set that was wrong from the beginning is corrected", 45, wrongFromTheBeginning},
}

// What MySQL has in common with MariaDB was shown there.
var onMySQL = []scenario{
	{"first start of three", 30, firstStart},
	{"scale from 3 to 4, to 3", 20, scaleByOne},
	{"server killed", 16, serverKilled},
	{"each pod deleted", 50, podsDeleted},
	{"the volume of ordinal 2 deleted", 12, volumeDeleted},
	{"the volume of the first ordinal deleted", 55, firstVolumeLost},
	{"a replica with a transaction of its own is reseeded", 20, reseeded},
	{"all secrets rotated under load", 25, secretsRotated},
	{"no more than was granted is used", 3, leastPrivilege},
}

// rowTimeout bounds one row that hangs: the longest takes two minutes, and several times that on a
// busy machine.
const rowTimeout = 12 * time.Minute

// TestScenarios walks the table of each flavour on one cluster; with ENGINE=mysql, mariadb, lease
// or lease-mariadb, of that one only. With KEEP=1 the cluster and the set stay, and the next run with KEEP=1 goes on
// with them; with -run that may be a row alone.
func TestScenarios(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a node")
	}
	ctx := t.Context()
	kept := os.Getenv("KEEP") != ""
	c, err := Attach(ctx)
	if !kept || err != nil {
		c, err = Up(ctx)
	}
	check(t, err)
	t.Cleanup(func() {
		if !kept {
			check(t, c.Down(context.WithoutCancel(ctx)))
		}
	})
	var results []string
	for _, of := range []struct {
		flavour
		rows []scenario
	}{{mariaDB, onMariaDB}, {mySQL, onMySQL}, {byLease, onLease}, {mariaDBByLease, onLease}} {
		if only := os.Getenv("ENGINE"); only != "" && only != of.name {
			continue
		}
		passed, ran := 0, false
		t.Run(of.name, func(t *testing.T) {
			ran = true
			passed = walk(ctx, t, c, of.flavour, of.rows)
		})
		if !ran {
			t.Errorf("%s: did not run: it is ENGINE that chooses one flavour, not -run", of.name)
		}
		results = append(results, fmt.Sprintf("%d passed, %d failed (%s)", passed, len(of.rows)-passed, of.name))
	}
	if len(results) == 0 {
		t.Errorf("ENGINE=%s is no flavour", os.Getenv("ENGINE"))
	}
	fmt.Println("e2e-cluster: " + strings.Join(results, ", "))
}

// walk makes a set, runs the rows on it, and counts those that passed. The set is gone afterwards:
// the next one has the machine for itself.
func walk(ctx context.Context, t *testing.T, shared *Cluster, f flavour, rows []scenario) (passed int) {
	t.Helper()
	c := *shared
	s := &set{Cluster: &c, flavour: f}
	fmt.Printf("e2e-cluster: %s, building the image of understudy, about a minute\n", f.name)
	s.build(ctx, t)
	if !s.goesOn(ctx) {
		s.begin(ctx, t)
	}
	walkBegun := time.Now()
	for i, row := range rows {
		ran := false
		fmt.Printf("e2e-cluster: %s, row %d of %d, about %s left: %s\n", f.name, i+1, len(rows), timeLeft(rows, i, time.Since(walkBegun)), row.name)
		ok := t.Run(row.name, func(t *testing.T) {
			ran = true
			ctx, cancel := context.WithTimeout(ctx, rowTimeout)
			defer cancel()
			defer func() {
				if t.Failed() {
					c.Dump(ctx, t)
				}
			}()
			begun := time.Now()
			row.run(ctx, t, s)
			s.ready(ctx, t, members)
			s.equal(ctx, t, members)
			s.roles(ctx, t, members)
			if s.lease {
				s.settled(ctx, t)
			}
			t.Logf("%.1f s", time.Since(begun).Seconds())
		})
		switch {
		case !ran: // -run chose other rows
			t.Errorf("%s: did not run", row.name)
		case ok:
			passed++
		case !s.mended(ctx): // each of the others would wait for members that are not there
			t.Fatalf("the set is not whole after %q: the %d rows behind it were not run", row.name, len(rows)-i-1)
		}
	}
	if os.Getenv("KEEP") == "" {
		_, err := c.Kubectl(ctx, "delete", "namespace", s.Namespace, "--wait=false")
		check(t, err)
	}
	return passed
}

// timeLeft estimates how long rows[i:] take when those before took so long: what they usually take,
// at the pace of this machine so far.
func timeLeft(rows []scenario, i int, took time.Duration) time.Duration {
	usual := func(rows []scenario) (total time.Duration) {
		for _, row := range rows {
			total += time.Duration(row.seconds) * time.Second
		}
		return total
	}
	left := usual(rows[i:])
	if before := usual(rows[:i]); before > 0 {
		left = time.Duration(left.Seconds() * took.Seconds() / before.Seconds() * float64(time.Second))
	}
	return left.Round(10 * time.Second)
}

// mended waits, after a row that failed, until all members are ready for the next row.
func (s *set) mended(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for i := range members {
		if s.WaitPodReady(ctx, name(i)) != nil {
			return false
		}
	}
	return true
}

// goesOn says that the set is there, of an earlier run with KEEP=1, and its writer.
func (s *set) goesOn(ctx context.Context) bool {
	s.Namespace = s.namespace
	_, err := s.Kubectl(ctx, "get", "pod", "writer")
	s.writing = err == nil
	return s.writing
}

// begin makes the namespace (the shipped one with another name), the Secret and volumes.
func (s *set) begin(ctx context.Context, t *testing.T) {
	t.Helper()
	manifest, err := os.ReadFile("../../manifests/namespace.yaml")
	check(t, err)
	check(t, s.ApplyText(ctx, strings.Replace(string(manifest), "name: database", "name: "+s.namespace, 1)))
	s.Namespace = s.namespace
	s.secret(ctx, t)
	for i := range members + 2 {
		check(t, s.AddVolumes(ctx, fmt.Sprintf("%s-%d", s.name, i)))
	}
}

func TestTimeLeft(t *testing.T) {
	rows := []scenario{{seconds: 20}, {seconds: 40}, {seconds: 60}}
	for _, c := range []struct {
		at   int
		took time.Duration
		want time.Duration
	}{
		{0, 0, 2 * time.Minute},
		{1, 20 * time.Second, 100 * time.Second},
		{1, 40 * time.Second, 200 * time.Second}, // half as fast as usual
		{2, 30 * time.Second, 30 * time.Second},
	} {
		if got := timeLeft(rows, c.at, c.took); got != c.want {
			t.Errorf("before row %d, after %s: %s, want %s", c.at+1, c.took, got, c.want)
		}
	}
}
