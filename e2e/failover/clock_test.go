//go:build failover

package failover

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/e2e/set"
)

// jumps are by how much a server's clock may be off: one that was never set, or wrongly, is off by a
// lot.
var jumps = []time.Duration{-time.Hour, time.Hour, -40 * 24 * time.Hour, 400 * 24 * time.Hour}

// onClocks gives each server a wall clock of its own, which can jump: libfaketime stands between the
// server and the C library. Clocks that only go forward are the machine's. Programs in Go do not
// notice it; what understudy decides about terms rests on CLOCK_BOOTTIME alone, see lead.TestClock.
func (f *fixture) onClocks() {
	f.t.Helper()
	library, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if err != nil || len(library) != 1 {
		f.t.Skipf("libfaketime is not installed: %v %v", library, err)
	}
	for i := range f.n {
		m := f.Member(i)
		if err := m.MakeDirs(); err != nil {
			f.t.Fatal(err)
		}
		m.Before = append([]string{
			"env", "LD_PRELOAD=" + library[0], "FAKETIME_TIMESTAMP_FILE=" + clockOf(m), "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_FORCE_MONOTONIC_FIX=0",
		}, m.Before...)
		f.setClock(m, 0)
	}
}

func clockOf(m *set.Member) string { return filepath.Join(m.Dir, "clock") }

// setClock sets a member's clock; its server has it within a second.
func (f *fixture) setClock(m *set.Member, offset time.Duration) {
	f.t.Helper()
	next := clockOf(m) + ".next"
	err := os.WriteFile(next, fmt.Appendf(nil, "%+d\n", int64(offset.Seconds())), 0o600)
	if err == nil {
		err = os.Rename(next, clockOf(m))
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// hasClock fails if a server does not have the clock that was set: then nothing is tested.
func (f *fixture) hasClock(ctx context.Context, m *set.Member, offset time.Duration) {
	f.t.Helper()
	f.within(ctx, time.Minute, fmt.Sprintf("%s has a clock that is off by %v", m.Name(), offset), func() (bool, string) {
		var now int64
		err := m.Server.DB().QueryRowContext(ctx, "SELECT FLOOR(UNIX_TIMESTAMP(SYSDATE(6)))").Scan(&now)
		off := time.Until(time.Unix(now, 0))
		return err == nil && (off-offset).Abs() < 10*time.Second, fmt.Sprintf("off by %v, %v", off, err)
	})
}

// jumped has the clock of one server jump, for a while, or until another leads.
func jumped(offset time.Duration) fault {
	return fault{fmt.Sprintf("a server's clock jumps by %v", offset), "", func(ctx context.Context, n *nemesis) func() {
		m := n.any()
		n.setClock(m, offset)
		n.hasClock(ctx, m, offset)
		n.pause(ctx, n.lasting())
		if n.random.IntN(2) == 0 {
			n.t.Log("the leader's server is killed meanwhile")
			kill(ctx, n.leader, processServer)
			n.clients.more(ctx, 20)
		}
		return func() { n.setClock(m, 0) }
	}}
}

// A leader goes on, and is followed, whatever the time is that its server has: before it is set right
// again, too. A member whose clock is wrong can be elected.
func TestClocks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--stable-after=1s")
	f.onClocks()
	w, stop := f.begin(ctx)
	for _, offset := range jumps {
		r := f.named(ctx, 2)
		leader := f.byName(r.Holder)
		w.more(ctx, 20)
		w.pause()
		for i := range f.n {
			if m := f.Member(i); (m == leader) == (offset < 0) { // the leader's, or all others'
				f.setClock(m, offset)
				f.hasClock(ctx, m, offset)
			}
		}
		time.Sleep(3 * time.Second)
		w.more(ctx, 20)
		t.Logf("%v: writes were away for %v", offset, w.pause().Round(10*time.Millisecond))
		if now := f.lease(ctx); now.Term != r.Term {
			t.Errorf("%v: term %d, now %d", offset, r.Term, now.Term)
		}
		kill(ctx, leader, processServer)
		w.more(ctx, 20)
		away := w.pause()
		sum.away(away, true)
		t.Logf("%v, and the leader's server killed: writes were away for %v", offset, away.Round(10*time.Millisecond))
		f.moved(ctx, r)
		f.together(ctx)
		for i := range f.n {
			f.setClock(f.Member(i), 0)
			f.hasClock(ctx, f.Member(i), 0)
		}
		time.Sleep(3 * time.Second)
		w.more(ctx, 20)
		f.together(ctx)
	}
	stop()
	f.check(ctx, w)
}
