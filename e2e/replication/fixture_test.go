//go:build replication

package replication

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// playTimeout ends a scenario that hangs: the longest, which makes MySQL's data four times, takes
// three minutes on a busy machine.
const playTimeout = 8 * time.Minute

// patience bounds one wait within a scenario.
const patience = time.Minute

// fixture is a set of three members: ordinal 0 is the primary.
type fixture struct {
	*set.Set
	words

	dir string
	p   *set.Member
	r1  *set.Member
	r2  *set.Member
	// read is how much of each sidecar's log a scenario has looked at.
	read map[*set.Member]int
}

func newFixture(t *testing.T, in testserver.Installation, sidecar ...string) *fixture {
	t.Helper()
	dir := t.TempDir()
	s, err := set.New(set.Config{
		Binary: program, Install: in, Dir: dir,
		InitFlags:    []string{"--members=3", "--semi-sync=preferred"}, // loads MySQL's plugins, no more
		SidecarFlags: append(sidecar, "--members=3"),                   // others would be waited for
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Set: s, words: languages[in.Flavor], dir: dir, p: s.Member(0), r1: s.Member(1), r2: s.Member(2), read: map[*set.Member]int{}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := s.End(ctx); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) all() []*set.Member { return []*set.Member{f.p, f.r1, f.r2} }

// play runs one scenario under a writer; at its end all members are ready and equal.
func (f *fixture) play(t *testing.T, s scenario) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), playTimeout)
	defer cancel()
	begun := time.Now()
	for _, m := range f.all() {
		f.read[m] = len(f.log(t, m))
	}
	t.Cleanup(func() {
		if t.Failed() {
			f.show(t)
		}
	})
	finish := func() {}
	if !s.quiet {
		finish = f.write(ctx, t)
	}
	s.run(ctx, t, f)
	if s.quiet {
		finish = f.write(ctx, t)
	}
	for _, m := range f.all() {
		f.ready(ctx, t, m)
	}
	finish()
	for _, m := range f.all() {
		f.until(ctx, t, m.Name()+" has nothing to do", func() bool { return f.settled(t, m) })
	}
	t.Logf("%.1f s", time.Since(begun).Seconds())
}

// write starts a writer on the primary. The function it returns ends it, waits until every replica
// has its last commit, and compares all members.
func (f *fixture) write(ctx context.Context, t *testing.T) (finish func()) {
	t.Helper()
	db, err := f.p.Server.Open("root", f.RootPassword()) // lives on when the server restarts
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := load.New(db, load.Config{Seed: 1, Rate: 50, Reconnect: true})
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(w.Stop)
	commits := func() int { return w.Since(load.Mark{}).Commits }
	another := func() {
		t.Helper()
		begin := commits()
		f.until(ctx, t, "another commit", func() bool {
			select {
			case err := <-done:
				t.Fatalf("the writer ended: %v", err)
			default:
			}
			return commits() > begin
		})
	}
	another()
	return func() {
		t.Helper()
		another()
		w.Stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		f.equal(ctx, t, w)
	}
}

func (f *fixture) equal(ctx context.Context, t *testing.T, w *load.Load) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := w.VerifyLedger(ctx, f.p.Server.DB()); err != nil {
		t.Errorf("%s: %v", f.p.Name(), err)
	}
	for _, r := range []*set.Member{f.r1, f.r2} {
		if _, err := w.CompareReplica(ctx, f.p.Server.DB(), r.Server.DB()); err != nil {
			t.Errorf("%s: %v", r.Name(), err)
		}
	}
}

func (f *fixture) log(t *testing.T, m *set.Member) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "sidecar.log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return text
}

// show prints the end of all logs.
func (f *fixture) show(t *testing.T) {
	t.Helper()
	logs, err := f.Logs()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		t.Logf("%s:\n%s", l.Path, l.Tail())
	}
}

// says waits for a line of the member's sidecar that has all these words, after the line that was
// found last.
func (f *fixture) says(ctx context.Context, t *testing.T, m *set.Member, words ...string) {
	t.Helper()
	f.until(ctx, t, fmt.Sprintf("%s says %q", m.Name(), words), func() bool {
		at := f.read[m]
		for line := range bytes.Lines(f.log(t, m)[at:]) {
			if line[len(line)-1] != '\n' {
				break
			}
			at += len(line)
			found := true
			for _, w := range words {
				found = found && strings.Contains(unquote(line), w)
			}
			if found {
				f.read[m] = at
				return true
			}
		}
		return false
	})
}

// unquote undoes JSON's escapes in a message, as far as the tests search for them.
func unquote(line []byte) string {
	return strings.NewReplacer(`\"`, `"`, `\u003c`, "<", `\u003e`, ">").Replace(string(line))
}

// does waits until the member has taken a step.
func (f *fixture) does(ctx context.Context, t *testing.T, m *set.Member, steps ...string) {
	t.Helper()
	for _, step := range steps {
		f.says(ctx, t, m, `"step done"`, `"step":"`+step+`"`)
	}
}

// reports waits until the member says that manual action is required.
func (f *fixture) reports(ctx context.Context, t *testing.T, m *set.Member, words string) {
	t.Helper()
	f.says(ctx, t, m, "manual action required", words)
}

// rests waits until the member has nothing to do.
func (f *fixture) rests(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	f.says(ctx, t, m, "nothing to do")
}

// settled reports whether "nothing to do" is the last that the member logged.
func (f *fixture) settled(t *testing.T, m *set.Member) bool {
	t.Helper()
	text := f.log(t, m)
	last := func(msg string) int { return bytes.LastIndex(text, []byte(`"msg":"`+msg+`"`)) }
	return last("nothing to do") > max(last("waiting"), last("manual action required"))
}

func (f *fixture) until(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

func (f *fixture) ready(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := m.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// unready waits until a member is not ready for this reason.
func (f *fixture) unready(ctx context.Context, t *testing.T, m *set.Member, words string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		status, body, err := m.Get(ctx, "/readyz")
		if err == nil && status != http.StatusOK && strings.Contains(body, words) {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%s: /readyz answers %d, %q (%v); want %q", m.Name(), status, body, err, words)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// run executes statements on one connection of a member's server.
func (f *fixture) run(ctx context.Context, t *testing.T, m *set.Member, statements ...string) {
	t.Helper()
	if err := m.Execute(ctx, statements...); err != nil {
		t.Fatal(err)
	}
}

// ask reads one value.
func (f *fixture) ask(ctx context.Context, t *testing.T, m *set.Member, query string) string {
	t.Helper()
	var text sql.NullString
	if err := m.Server.DB().QueryRowContext(ctx, query).Scan(&text); err != nil {
		t.Fatalf("%s: %s: %v", m.Name(), query, err)
	}
	return text.String
}

// restartSidecar ends a sidecar and starts it again with these additional flags.
func (f *fixture) restartSidecar(ctx context.Context, t *testing.T, m *set.Member, more ...string) {
	t.Helper()
	if err := m.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.StartSidecar(more...); err != nil {
		t.Fatal(err)
	}
}

// onBoth runs a test on a server of each flavour, side by side.
func onBoth(t *testing.T, test func(*testing.T, testserver.Installation)) {
	t.Helper()
	onEach(t, test, "mariadb-10.11", "mysql-9.7")
}

// onEach runs a test on each of the servers, side by side.
func onEach(t *testing.T, test func(*testing.T, testserver.Installation), names ...string) {
	t.Helper()
	for _, name := range names {
		in, err := testserver.All[name](t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, in)
		})
	}
}

// down stops a member, as the deletion of its pod does.
func (f *fixture) down(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	if err := m.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
}

// up starts a member from its volume, whatever is on it.
func (f *fixture) up(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	f.initialise(ctx, t, m)
	if err := m.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	if err := m.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) initialise(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	if r, err := m.Init(ctx, nil); err != nil || r.Code != 0 {
		t.Fatalf("init of %s ended with %d (%v): %s", m.Name(), r.Code, err, r.LastLine())
	}
}

// loseVolume deletes a member's pod and its volume.
func (f *fixture) loseVolume(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	f.down(ctx, t, m)
	if err := os.RemoveAll(m.Volume); err != nil {
		t.Fatal(err)
	}
}

// reseed reseeds a replica that replication cannot repair, in the documented way.
func (f *fixture) reseed(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	f.loseVolume(ctx, t, m)
	f.up(ctx, t, m)
	f.does(ctx, t, m, "configure replication", "start replication", "record that the member is attached")
}
