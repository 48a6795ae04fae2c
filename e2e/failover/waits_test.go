//go:build failover

package failover

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/set"
)

// Not enough reports: nobody opens, members say for whom they wait, and elections become rare. When
// the missing reporter is back, writes are, without waiting for the next of those elections.
func TestWaitsForReporter(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, false, "--semi-sync=required", "--fence=sidecar", "--election-timeout=4s", "--report-timeout=1s")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader, away, waits := f.byName("db-0"), f.byName("db-1"), f.byName("db-2")
	away.Sidecar().Signal(syscall.SIGSTOP)
	leader.KillSidecar()
	leader.Server.Kill()
	f.await(ctx, "the one that is left says for whom it waits", func() (bool, string) {
		_, body, err := waits.Get(ctx, "/readyz")
		return strings.Contains(body, "it waits for db-1, db-0: 1 of 2 acknowledgers"), body + " " + errText(err)
	})
	f.await(ctx, "five elections have failed", func() (bool, string) {
		r := f.lease(ctx)
		return r.Term >= before.Term+5 && r.Holder == "", ""
	})
	if r := f.lease(ctx); r.Phase == "opened" {
		t.Errorf("it was opened: %+v", r)
	}
	begun := time.Now() // the next election would begin in 16 s
	away.Sidecar().Signal(syscall.SIGCONT)
	w.more(ctx, 50)
	if took := time.Since(begun); took > 12*time.Second {
		t.Errorf("writes came back %v after the reporter", took)
	} else {
		t.Logf("writes came back %v after the reporter", took.Round(10*time.Millisecond))
	}
	f.up(ctx, leader)
	f.rejoin(ctx, leader)
	stop()
	f.check(ctx, w)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// log is what a member's sidecar has said.
func (f *fixture) log(m *set.Member) string {
	f.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "sidecar.log"))
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}
