//go:build failover

package failover

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/set"

	"github.com/go-sql-driver/mysql"
)

// writer appends numbered rows through whoever lets it, and notes which were acknowledged.
type writer struct {
	f   *fixture
	dbs []*sql.DB

	mu     sync.Mutex
	acked  []int
	gap    time.Duration // the longest time between two acknowledgements since the last reset
	last   time.Time
	tried  int
	leader int
	err    error
	rest   time.Duration // between two rows
}

func (f *fixture) newWriter() *writer {
	w := &writer{f: f}
	for i := range f.n {
		cfg := mysql.NewConfig()
		cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "tcp", f.Member(i).Host+":3306", writerUser, writerPassword
		cfg.Timeout, cfg.ReadTimeout = time.Second, 3*time.Second
		cfg.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			f.t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		db.SetMaxOpenConns(4)
		f.t.Cleanup(func() { _ = db.Close() })
		w.dbs = append(w.dbs, db)
	}
	return w
}

// The account of the writer: one that may not write to a server that is read-only, as MariaDB's root
// may.
const (
	writerUser     = "writer"
	writerPassword = "writes"
)

// run writes until ctx ends.
func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		w.tried++
		n, i, rest := w.tried, w.leader, w.rest
		w.mu.Unlock()
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := w.dbs[i].ExecContext(short, "INSERT INTO acked.t VALUES (?, "+w.f.ofServer()+")", n)
		cancel()
		w.mu.Lock()
		if err == nil {
			now := time.Now()
			if !w.last.IsZero() {
				w.gap = max(w.gap, now.Sub(w.last))
			}
			w.last = now
			w.acked = append(w.acked, n)
		} else {
			w.err = err
			w.leader = (i + 1) % len(w.dbs)
		}
		w.mu.Unlock()
		if err != nil {
			rest = 10 * time.Millisecond
		}
		time.Sleep(rest)
	}
}

// sample looks at all servers, again and again, whether two are open for writes at one instant: one
// that is open before and after another is.
func (w *writer) sample(ctx context.Context) {
	open := func(i int) bool {
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		var is bool
		err := w.dbs[i].QueryRowContext(short, "SELECT "+w.f.isOpen()).Scan(&is)
		return err == nil && is
	}
	for ctx.Err() == nil {
		for i := range w.dbs {
			for j := range w.dbs {
				if i != j && open(i) && open(j) && open(i) {
					sum.mu.Lock()
					sum.doubles++
					sum.mu.Unlock()
					w.f.t.Errorf("%s and %s are open for writes at one instant: %+v", w.f.Member(i).Name(), w.f.Member(j).Name(), w.f.lease(ctx))
				}
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// slow has it rest after each row, so that who was away for a minute can catch up.
func (w *writer) slow(rest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = rest
}

// pause is the longest time without an acknowledgement since the last call.
func (w *writer) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	gap := w.gap
	w.gap = 0
	return gap
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// more waits for n further acknowledgements.
func (w *writer) more(ctx context.Context, n int) {
	w.f.t.Helper()
	begin := w.count()
	w.f.await(ctx, fmt.Sprintf("%d more rows are acknowledged", n), func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.acked)-begin >= n, fmt.Sprintf("%d, last error %v", len(w.acked)-begin, w.err)
	})
}

// missing are acknowledged rows that a member does not have.
func (w *writer) missing(ctx context.Context, m *set.Member) ([]int, error) {
	rows, err := m.Server.DB().QueryContext(ctx, "SELECT n FROM acked.t")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	has := map[int]int{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		has[n]++
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var missing []int
	for _, n := range w.acked {
		if has[n] != 1 {
			missing = append(missing, n)
		}
	}
	return missing, rows.Err()
}

// The leader's server is killed: another member leads within seconds, and no acknowledged row is
// missing.
func TestKilledServer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, false, "--semi-sync=required", "--fence=sidecar")
	w, stop := f.begin(ctx)
	for round := range 3 {
		r := f.named(ctx, 2)
		old := f.byName(r.Holder)
		w.more(ctx, 50)
		w.pause()
		old.Server.Kill()
		w.more(ctx, 50)
		away := w.pause()
		sum.away(away, true)
		t.Logf("round %d: writes were away for %v; term %d", round, away.Round(10*time.Millisecond), f.lease(ctx).Term)
		f.moved(ctx, r)
		if err := old.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		f.rejoin(ctx, old)
	}
	stop()
	f.check(ctx, w)
}

// moved waits until a later term is open, and the pods' labels say who leads. The old leader may
// lead again: it has most.
func (f *fixture) moved(ctx context.Context, before record) {
	f.t.Helper()
	f.await(ctx, "a later term is open, and the labels say so", func() (bool, string) {
		r := f.lease(ctx)
		if r.Holder == "" || r.Phase != "opened" || r.Term <= before.Term {
			return false, fmt.Sprintf("%+v", r)
		}
		var primaries []string
		for i := range f.n {
			if m := f.Member(i); f.role(ctx, m) == "primary" {
				primaries = append(primaries, m.Name())
			}
		}
		return len(primaries) == 1 && primaries[0] == r.Holder, fmt.Sprintf("%s leads, and labelled are %v", r.Holder, primaries)
	})
}

// rejoin waits until a former leader acknowledges. What it had logged and nobody acknowledged is
// its tail: then it is reseeded, as it asks for.
func (f *fixture) rejoin(ctx context.Context, m *set.Member) {
	f.t.Helper()
	reseeded := false
	f.await(ctx, m.Name()+" acknowledges again", func() (bool, string) {
		r := f.lease(ctx)
		_, body, err := m.Get(ctx, "/readyz")
		switch {
		case r.Phase == "opened" && r.Holder != "" && len(r.Acknowledgers) == 2:
			return true, ""
		case strings.Contains(body, "outside the set's history") && !reseeded:
			reseeded = true
			f.t.Logf("%s has a tail, and is reseeded: %s", m.Name(), body)
			f.reseed(ctx, m)
		}
		return false, fmt.Sprintf("%+v; %s %v", r, body, err)
	})
}

// reseed replaces a member's data.
func (f *fixture) reseed(ctx context.Context, m *set.Member) {
	f.t.Helper()
	m.KillSidecar()
	pid, err := m.Server.ServerPid()
	m.Server.Kill()
	for err == nil && syscall.Kill(pid, 0) == nil && ctx.Err() == nil { // understudy run's watchdog ends it
		time.Sleep(20 * time.Millisecond)
	}
	run, err := f.Call(ctx, nil, "reseed", "--volume="+m.Volume, "--pod-name="+m.Name(), "--primary=lease", "--kube=off", "--reason=its tail")
	if err != nil || run.Code != 0 {
		f.t.Fatalf("reseed ended with %d: %s %v", run.Code, run.LastLine(), err)
	}
	f.up(ctx, m)
}

// check waits until each member has all acknowledged rows.
func (f *fixture) check(ctx context.Context, w *writer) {
	f.t.Helper()
	for i := range f.n {
		m := f.Member(i)
		f.await(ctx, fmt.Sprintf("%s has all %d acknowledged rows", m.Name(), w.count()), func() (bool, string) {
			missing, err := w.missing(ctx, m)
			if ctx.Err() != nil {
				sum.mu.Lock()
				sum.lost = max(sum.lost, len(missing))
				sum.mu.Unlock()
			}
			_, body, _ := m.Get(ctx, "/readyz")
			return err == nil && len(missing) == 0, fmt.Sprintf("%d of %d are missing: %v %v; %s", len(missing), w.count(), missing, err, body)
		})
	}
}

// first brings all members up: the first one leads.
func (f *fixture) first(ctx context.Context) {
	f.t.Helper()
	for i := range f.n {
		f.up(ctx, f.Member(i))
	}
	for i := range f.n {
		f.await(ctx, f.Member(i).Name()+" is ready", func() (bool, string) {
			status, body, err := f.Member(i).Get(ctx, "/readyz")
			return status == 200, fmt.Sprint(body, err, f.lease(ctx))
		})
	}
	r := f.named(ctx, f.acks)
	if r.Holder != "db-0" || r.Term != 1 {
		f.t.Errorf("the first term is %+v", r)
	}
	f.completed(ctx)
}

// begin brings all members up, and a writer.
func (f *fixture) begin(ctx context.Context) (w *writer, stop func()) {
	f.t.Helper()
	f.first(ctx)
	for _, text := range []string{
		"CREATE DATABASE acked", "CREATE TABLE acked.t (n BIGINT PRIMARY KEY, server CHAR(36))",
		"CREATE USER " + writerUser + "@'%' IDENTIFIED BY '" + writerPassword + "'", "GRANT ALL ON acked.* TO " + writerUser + "@'%'",
	} {
		if _, err := f.Member(0).Server.DB().ExecContext(ctx, text); err != nil {
			f.t.Fatal(err)
		}
	}
	w = f.newWriter()
	writing, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.run(writing) })
	stop = func() {
		cancel()
		wg.Wait()
	}
	f.t.Cleanup(stop)
	go w.sample(writing)
	w.more(ctx, 100)
	return w, stop
}

// completed waits until the configuration of the first ordinal has what init leaves out while the
// image is to make the data directory. MariaDB has no such option.
func (f *fixture) completed(ctx context.Context) {
	f.t.Helper()
	f.await(ctx, "the configuration of db-0 is complete", func() (bool, string) {
		text, err := os.ReadFile(filepath.Join(f.Member(0).Config, "understudy.cnf"))
		return f.mariaDB || strings.Contains(string(text), "\nsuper_read_only=ON\n"), fmt.Sprint(err)
	})
}

// With understudy run: whatever of the leader is killed or stopped, another member leads, and no
// acknowledged row is missing.
func TestWithRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--stable-after=1s") // no term counts as short
	w, stop := f.begin(ctx)
	for _, fault := range []string{"server killed", "sidecar killed", "sidecar stopped", "server stopped"} {
		r := f.named(ctx, 2)
		old := f.byName(r.Holder)
		pid, err := old.Server.ServerPid()
		if err != nil {
			t.Fatal(err)
		}
		w.more(ctx, 50)
		w.pause()
		switch fault {
		case "server killed":
			err = syscall.Kill(pid, syscall.SIGKILL)
		case "server stopped":
			err = syscall.Kill(pid, syscall.SIGSTOP)
		case "sidecar killed":
			old.KillSidecar()
		case "sidecar stopped":
			old.Sidecar().Signal(syscall.SIGSTOP)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.moved(ctx, r) // a leader without its sidecar writes until its permission ends
		w.more(ctx, 50)
		away := w.pause()
		sum.away(away, fault == "server killed")
		t.Logf("%s: writes were away for %v; term %d", fault, away.Round(10*time.Millisecond), f.lease(ctx).Term)
		switch fault {
		case "sidecar killed":
			err = old.StartSidecar("--pod-uid=" + f.uid(ctx, old))
		case "sidecar stopped":
			old.Sidecar().Signal(syscall.SIGCONT)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.rejoin(ctx, old)
	}
	stop()
	f.check(ctx, w)
}

// A planned change: the member that was asked for leads, writes are away for a moment only, and the
// old leader follows.
func TestSwitchover(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=preferred")
	w, stop := f.begin(ctx)
	for _, to := range []string{"db-2", "db-1", ""} {
		before := f.named(ctx, 2)
		old := f.byName(before.Holder)
		w.more(ctx, 50)
		w.pause()
		said, err := f.switchover(ctx, to)
		if err != nil {
			t.Fatal(err)
		}
		w.more(ctx, 50)
		away := w.pause()
		sum.switched(away)
		now := f.lease(ctx)
		t.Logf("switchover from %s to %q: %s; writes were away for %v; term %d", old.Name(), to, said, away.Round(10*time.Millisecond), now.Term)
		if to != "" && now.Holder != to {
			t.Errorf("%s leads, not %s", now.Holder, to)
		}
		f.moved(ctx, before)
	}
	f.named(ctx, 2)
	stop()
	f.check(ctx, w)
}

// switchover has that member lead, or whichever is best, and returns what the command said. On a
// machine that is busy the next one may be too far behind, which changes nothing: then it is asked
// again.
func (f *fixture) switchover(ctx context.Context, to string) (said string, err error) {
	f.t.Helper()
	for begun := time.Now(); ; {
		r := f.verb(ctx, "switchover", "--to="+to)
		if r.Code == 0 {
			return strings.TrimSpace(r.Stdout), nil
		}
		err = fmt.Errorf("switchover ended with %d: %s", r.Code, r.LastLine())
		text := err.Error()
		behind := strings.Contains(text, "try again when it has caught up") || strings.Contains(text, "has not executed all that this server has")
		if !behind || time.Since(begun) > longest || ctx.Err() != nil {
			return "", err
		}
		f.t.Log(err)
	}
}

// killServer kills a member's server, and nothing beside it.
func (f *fixture) killServer(m *set.Member) {
	f.t.Helper()
	pid, err := m.Server.ServerPid()
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}
