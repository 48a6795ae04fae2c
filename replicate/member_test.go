package replicate

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// installations are the servers that the tests below run on.
var installations = testserver.All

const (
	sidecarUser = "understudy_sidecar"
	cloneUser   = "understudy_clone"
)

// login is an account whose passwords change.
func login(user string, password, previous *string) Login {
	return Login{
		User:     user,
		Password: func() (string, error) { return *password, nil },
		Previous: func() (string, error) { return *previous, nil },
	}
}

const rootPassword = "r00t of the test"

func installed(t *testing.T, name string) testserver.Installation {
	t.Helper()
	t.Parallel() // each test has servers of its own, and mostly waits for them
	in, err := installations[name](t.Context())
	if errors.Is(err, testserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// member is a server with an agent, and what a journal would keep.
type member struct {
	in       testserver.Installation
	settings Settings
	extra    []string
	data     string
	conf     string
	server   *testserver.Server
	agent    *Agent
	recorded Recorded
	password string // of the replication account
	previous string // the one before it
	// root and rootPrevious are the administrator's.
	root, rootPrevious string
	// These are of the accounts of sidecar and clones. Without a password there is none.
	own, ownPrevious, clone, clonePrevious string
	log                                    bytes.Buffer
}

// newMember makes a member of a data directory, which it takes over, but starts nothing.
func newMember(t *testing.T, in testserver.Installation, id uint32, data string) *member {
	t.Helper()
	f, err := flavor.Parse(in.Flavor)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{in: in, data: data, conf: t.TempDir(), password: secret, root: rootPassword, own: "the sidecar's", clone: "the clone's"}
	m.settings = Settings{Flavor: f, ServerID: id, ReportHost: fmt.Sprintf("db-%d.db", id), Replica: id != 100}
	// Each pod has a host name, and with it names of relay logs, of its own. MariaDB would write
	// statements, which do not miss a row.
	m.extra = []string{fmt.Sprintf("--relay-log=db-%d-relay-bin", id), "--binlog-format=ROW"}
	return m
}

// boot starts the server as init has configured it.
func (m *member) boot(t *testing.T) {
	t.Helper()
	text := append(Render(Defaults(m.settings.Flavor)), Render(Options(m.settings))...)
	if err := os.WriteFile(filepath.Join(m.conf, "understudy.cnf"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testserver.Config{DataDir: m.data, ConfDir: m.conf, RootPassword: rootPassword, Extra: m.extra}
	if m.server != nil {
		cfg.Addr = m.server.Config().Addr
	}
	var err error
	if m.server, err = m.in.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	server := m.server
	t.Cleanup(server.Kill)
}

// reboot stops the server cleanly and starts it again.
func (m *member) reboot(t *testing.T) {
	t.Helper()
	if err := m.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.boot(t)
}

// follow makes the member's agent. Without a source it is the primary's.
func (m *member) follow(t *testing.T, primary *member) {
	t.Helper()
	cfg := m.server.Config()
	to := Source{Host: "none", Port: cfg.Port, User: source.User}
	if primary != nil {
		to.Host = primary.server.Config().Addr
	}
	var err error
	m.agent, err = New(Config{
		Flavor: m.settings.Flavor, Primary: primary == nil, Server: net.JoinHostPort(cfg.Addr, strconv.Itoa(cfg.Port)),
		Admin:   login("root", &m.root, &m.rootPrevious),
		Sidecar: login(sidecarUser, &m.own, &m.ownPrevious), Clone: login(cloneUser, &m.clone, &m.clonePrevious),
		Source: to, ReplicationPassword: func() (string, error) { return m.password, nil },
		ReplicationPasswordPrevious: func() (string, error) { return m.previous, nil },
		Options:                     Options(m.settings), Interval: time.Second, Record: m.record(), SemiSync: m.settings.SemiSync,
		Log: slog.New(slog.NewTextHandler(&m.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	agent := m.agent
	t.Cleanup(func() {
		if err := agent.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the agent of server %d said:\n%s", m.settings.ServerID, &m.log)
		}
	})
}

func (m *member) record() *record {
	mark := func(what *bool, value bool) func() error {
		return func() error { *what = value; return nil }
	}
	return &record{
		standing:     func() Recorded { return m.recorded },
		markComplete: mark(&m.recorded.Initialising, false),
		configured:   mark(&m.recorded.Configured, true),
		attached:     mark(&m.recorded.Attached, true),
		semiSynced:   mark(&m.recorded.SemiSynced, true),
		fresh: func(o origin.Origin) error {
			m.recorded.Origin, m.recorded.Configured, m.recorded.Attached = &o, false, false
			return nil
		},
		parted: func(what string) error { m.recorded.Parted = what; return nil },
	}
}

// settle turns the loop until it comes to the step that is wanted, and returns the steps that
// changed something on the way.
func (m *member) settle(t *testing.T, want Step) []Step {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(100*time.Millisecond)
	defer ticker.Stop()
	var taken []Step
	for {
		step, err := m.agent.turn(t.Context())
		if step == want {
			return taken
		}
		if step.changes() && err == nil {
			taken = append(taken, step)
			continue
		}
		select {
		case <-deadline:
			t.Fatalf("no %q in a minute, after %q; last: %+v", want, taken, m.agent.Status().Action)
		case <-ticker.C:
		}
	}
}

// steps settles, and checks the way there.
func (m *member) steps(t *testing.T, want ...Step) {
	t.Helper()
	if d := cmp.Diff(want[:len(want)-1], m.settle(t, want[len(want)-1]), cmpEmpty); d != "" {
		t.Errorf("steps of server %d: %s\n%s", m.settings.ServerID, d, &m.log)
	}
}

// reports settles at a report, and checks its words.
func (m *member) reports(t *testing.T, words string) {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(100*time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := m.agent.turn(t.Context()); err != nil {
			t.Log(err)
		}
		action := m.agent.Status().Action
		if (action.Step == Report || action.Step == Reseed) && strings.Contains(action.Reason, words) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("no report of %q in a minute; last: %+v", words, action)
		case <-ticker.C:
		}
	}
}

var cmpEmpty = cmp.Transformer("nil", func(s []Step) []Step {
	if len(s) == 0 {
		return []Step{}
	}
	return slices.Clip(s)
})

func (m *member) run(t *testing.T, statements ...string) {
	t.Helper()
	for _, text := range statements {
		if _, err := m.server.DB().ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func (m *member) ask(t *testing.T, query string) string {
	t.Helper()
	var got string
	if err := m.server.DB().QueryRowContext(t.Context(), query).Scan(&got); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return got
}

// arrives waits until a query has a result.
func (m *member) arrives(t *testing.T, query, want string) {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer ticker.Stop()
	for {
		var got string
		err := m.server.DB().QueryRowContext(t.Context(), query).Scan(&got)
		if err == nil && got == want {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %q, %v; want %q", query, got, err, want)
		case <-ticker.C:
		}
	}
}

// dialect has the statements with which people disturb a member.
func (m *member) dialect() dialect { return dialectOf(m.version()) }

func (m *member) version() flavor.Version {
	v, _ := flavor.ParseServer(m.in.Version + map[string]string{testserver.MySQL: "", testserver.MariaDB: "-MariaDB"}[m.in.Flavor])
	return v
}

// connections is how many the server has had.
func (m *member) connections(t *testing.T) string {
	t.Helper()
	var name, value string
	if err := m.server.DB().QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Connections'").Scan(&name, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

const rows = "SELECT COALESCE(GROUP_CONCAT(a ORDER BY a), '') FROM d.t"

// freshDirs are two directories as an image makes them.
func freshDirs(t *testing.T, in testserver.Installation) (first, second string) {
	t.Helper()
	dir := t.TempDir()
	first, second = filepath.Join(dir, "first"), filepath.Join(dir, "second")
	if err := in.Initialise(t.Context(), first, rootPassword); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(second, os.DirFS(first)); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(second, "auto.cnf")) // MySQL's server_uuid
	return first, second
}

// newPair makes a primary and a copy of it, of which neither runs yet.
func newPair(t *testing.T, in testserver.Installation) (p, r *member) {
	t.Helper()
	first, second := freshDirs(t, in)
	p, r = newMember(t, in, 100, first), newMember(t, in, 101, second)
	r.recorded.Origin = &origin.Origin{Mode: origin.GTID, Of: origin.Donor}
	return p, r
}

// openPair is newPair on a server of this name, with the primary open.
func openPair(t *testing.T, name string) (p, r *member) {
	t.Helper()
	p, r = newPair(t, installed(t, name))
	p.recorded.Initialising, p.recorded.Image.Ended = true, true // by us, just now
	p.boot(t)
	p.follow(t, nil)
	p.settle(t, Rest)
	return p, r
}

// reaches waits until the server shows something, without a step.
func (m *member) reaches(t *testing.T, what func(Facts) bool) {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer ticker.Stop()
	for {
		s, err := m.agent.standing()
		if err != nil {
			t.Fatal(err)
		}
		f := m.agent.observe(t.Context(), s)
		if what(f) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("facts are %+v, channel %+v", f, f.Channel)
		case <-ticker.C:
		}
	}
}
