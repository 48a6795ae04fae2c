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
	name       string // as --flavor has it
	namespace  string
	overlay    string // the one that is shipped, with this machine's images
	server     string // its image, which has the client, too
	client     string // the client's name
	understudy string // our image
	base       string // what our image is built upon
	readOnly   string // the variable that holds everybody off
	position   string // SQL: what this member has
	reached    string // SQL: 0 as soon as this member has that, %s, too
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
)

// scenario is one row of the table: what is done to the set, and what must follow. Before and after each row the set
// has three members that are ready, and a writer that does not stop.
type scenario struct {
	name string
	run  func(context.Context, *testing.T, *set)
}

var onMariaDB = []scenario{
	{"first start of three", firstStart},
	{"scale from 3 to 5, to 3, to 5, to 3", scaling},
	{"each pod deleted", podsDeleted},
	{"each pod deleted by force", podsForced},
	{"the volume of ordinal 2 deleted", volumeDeleted},
	{"sidecar killed", sidecarKilled},
	{"server killed", serverKilled},
	{"init killed in each phase", initKilled},
	{"the prepare runs out of memory", outOfMemory},
	{"rolling restart", rollingRestart},
	{"image update", imageUpdate},
	// The kubelet's back-off grows with each crash in a pod's life: the pods are new here.
	{"the sidecar of the primary crashes again and again", crashLoop},
	{"a secret that is too short, and one that is missing", wrongSecret},
	{"eviction is refused by the budget", eviction},
	{"kubelet restarted", kubeletRestarted},
	{"a partition between primary and replica heals", partition},
	{"the API server is away", apiServerAway},
	{"the set deleted and made again, with its volumes", setDeleted},
	{"all volumes lost, consent given, the image killed half-way", beginAnew},
	{"the volume of the first ordinal deleted", firstVolumeLost},
	{"a replica with a transaction of its own cloned anew", reseeded},
	{"all secrets rotated under load", secretsRotated},
	{"no more than was granted is used", leastPrivilege},
	{"a set of the tutorial moves over", fromTutorial},
	{"a set that was wrong from the beginning is corrected", wrongFromTheBeginning},
}

// What MySQL has in common with MariaDB was shown there.
var onMySQL = []scenario{
	{"first start of three", firstStart},
	{"scale from 3 to 4, to 3", scaleByOne},
	{"server killed", serverKilled},
	{"each pod deleted", podsDeleted},
	{"the volume of ordinal 2 deleted", volumeDeleted},
	{"the volume of the first ordinal deleted", firstVolumeLost},
	{"a replica with a transaction of its own cloned anew", reseeded},
	{"all secrets rotated under load", secretsRotated},
	{"no more than was granted is used", leastPrivilege},
}

// rowTimeout bounds one row.
const rowTimeout = 6 * time.Minute

// TestScenarios walks the table of each flavour on one cluster; with ENGINE=mysql, or mariadb, of that one only.
func TestScenarios(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a node")
	}
	ctx := t.Context()
	c, err := Up(ctx)
	check(t, err)
	t.Cleanup(func() { check(t, c.Down(context.WithoutCancel(ctx))) })
	var results []string
	for _, of := range []struct {
		flavour
		rows []scenario
	}{{mariaDB, onMariaDB}, {mySQL, onMySQL}} {
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

// walk makes a set, runs the rows on it, and counts those that passed. The set is gone afterwards: the next one has the
// machine for itself.
func walk(ctx context.Context, t *testing.T, shared *Cluster, f flavour, rows []scenario) (passed int) {
	t.Helper()
	c := *shared
	s := &set{Cluster: &c, flavour: f}
	s.build(ctx, t)
	s.begin(ctx, t)
	walkBegun := time.Now()
	for i, row := range rows {
		ran := false
		fmt.Printf("e2e-cluster: %s, row %d of %d: %s (%d s since the first)\n", f.name, i+1, len(rows), row.name, int(time.Since(walkBegun).Seconds()))
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
	_, err := c.Kubectl(ctx, "delete", "namespace", s.Namespace, "--wait=false")
	check(t, err)
	return passed
}

// mended waits, after a row that failed, until the set is as the next row wants it.
func (s *set) mended(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i := range members {
		if s.WaitPodReady(ctx, name(i)) != nil {
			return false
		}
	}
	return true
}

// begin makes the namespace, as it is shipped but for its name, the Secret and volumes.
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
