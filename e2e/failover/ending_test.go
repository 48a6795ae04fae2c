//go:build failover

package failover

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/set"
)

// remove deletes a member's pod, as the kubelet sees it: the hook, then the signals.
func (f *fixture) remove(ctx context.Context, m *set.Member) {
	f.must(f.api.Do(ctx, http.MethodDelete, "/api/v1/namespaces/default/pods/"+m.Name(), "", ""))
	f.removing.Lock()
	delete(f.uids, m.Name()) // the next pod of that name is another one
	f.removing.Unlock()
	begun := time.Now()
	if status, body, err := m.Get(ctx, "/prestop"); err != nil || status != http.StatusOK {
		f.t.Errorf("the hook of %s: %d %s %v", m.Name(), status, body, err)
	}
	f.t.Logf("the hook of %s: %v", m.Name(), time.Since(begun).Round(10*time.Millisecond))
	f.ends(ctx, m)
	if err := m.StopSidecar(ctx); err != nil {
		f.t.Error(err)
	}
}

// ends tells the server's container to stop: its server ends well, and nobody kills it.
func (f *fixture) ends(ctx context.Context, m *set.Member) {
	begun := time.Now()
	if err := m.StopServer(ctx); err != nil {
		f.t.Error(err)
	}
	f.t.Logf("the server of %s ended in %v", m.Name(), time.Since(begun).Round(10*time.Millisecond))
}

// A leader whose server's container or whose pod ends gives the Lease away before: one planned
// change, a graceful end, and no acknowledged row is missing.
func TestEnding(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=preferred")
	w, stop := f.begin(ctx)
	for _, end := range []string{"container", "pod"} {
		r := f.named(ctx, 2)
		old := f.byName(r.Holder)
		w.more(ctx, 50)
		w.pause()
		if end == "pod" {
			f.remove(ctx, old)
			f.uid(ctx, old) // the next pod of that name
		} else {
			f.ends(ctx, old)
		}
		f.moved(ctx, r)
		w.more(ctx, 50)
		away := w.pause()
		sum.mu.Lock()
		sum.faults++
		sum.planned = append(sum.planned, away)
		sum.mu.Unlock()
		now := f.lease(ctx)
		t.Logf("%s of the leader ended: writes were away for %v; term %d", end, away.Round(10*time.Millisecond), now.Term)
		if now.Term != r.Term+1 || now.Holder == old.Name() {
			t.Errorf("it is not one planned change: %+v, before %+v", now, r)
		}
		if end == "pod" {
			f.up(ctx, old)
		} else if err := old.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		f.named(ctx, 2) // without a reseed: it had nothing that the others lack
	}

	f.named(ctx, 2)
	w.more(ctx, 50)
	var wg sync.WaitGroup
	for i := range f.n {
		wg.Go(func() { f.remove(ctx, f.Member(i)) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if r := f.lease(ctx); r.Holder != "" {
		t.Errorf("all members have ended, and the Lease is held: %+v", r)
	}
	w.pause()
	begun := time.Now()
	for i := range f.n {
		f.up(ctx, f.Member(i))
	}
	w.more(ctx, 50)
	t.Logf("all members ended and came back: the next row %v after the first of them began to start; %+v", time.Since(begun).Round(10*time.Millisecond), f.lease(ctx))
	f.named(ctx, 2)
	stop()
	f.check(ctx, w)
}

// MySQL acknowledges commits that wait when it shuts down, MariaDB does not. The leader whose server has done so keeps
// the Lease, and what its clients were told is kept.
func TestShutDownBySQL(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required")
	w, stop := f.begin(ctx)
	r := f.named(ctx, 2)
	leader := f.byName(r.Holder)
	w.more(ctx, 50)
	for i := range f.n {
		if m := f.Member(i); m != leader {
			m.Sidecar().Signal(syscall.SIGSTOP) // it would start the receiver again
			if _, err := m.Server.DB().ExecContext(ctx, "STOP REPLICA IO_THREAD"); err != nil {
				t.Fatal(err)
			}
		}
	}
	const row = 1 << 40
	told := make(chan error, 1)
	go func() {
		_, err := leader.Server.DB().ExecContext(ctx, "INSERT INTO acked.t VALUES (?, 'at its shutdown')", row)
		told <- err
	}()
	f.await(ctx, "the commit waits", func() (bool, string) {
		var waits int
		err := leader.Server.DB().QueryRowContext(ctx, f.waitingFor("at its shutdown")).Scan(&waits)
		return err == nil && waits == 1, fmt.Sprint(waits, err)
	})
	w.pause()
	if _, err := leader.Server.DB().ExecContext(ctx, "SHUTDOWN"); err != nil {
		t.Fatal(err)
	}
	acknowledged := <-told
	if (acknowledged == nil) == f.mariaDB {
		t.Errorf("MySQL acknowledges the commit, and MariaDB does not: %v", acknowledged)
	}
	for i := range f.n {
		f.Member(i).Sidecar().Signal(syscall.SIGCONT)
	}
	f.moved(ctx, r)
	w.more(ctx, 50)
	t.Logf("SHUTDOWN of the leader: writes were away for %v; %+v", w.pause().Round(10*time.Millisecond), f.lease(ctx))
	f.rejoin(ctx, leader)
	stop()
	if acknowledged == nil {
		w.acked = append(w.acked, row)
	}
	f.check(ctx, w)
}
