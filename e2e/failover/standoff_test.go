//go:build failover

package failover

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// In mode required both replicas lose their data while somebody writes: commits wait for a replica,
// and the clone that a replica needs waits for the commits. The leader ends that by itself, once for
// both.
func TestStandoff(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--max-commit-block=3s")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader, first, second := f.byName("db-0"), f.byName("db-1"), f.byName("db-2")
	second.KillSidecar()
	second.Server.Kill()
	w.pause()
	f.reseed(ctx, first) // ends when its server and its sidecar have been started
	w.more(ctx, 50)
	t.Logf("writes were away for %v", w.pause().Round(10*time.Millisecond))
	if now := f.lease(ctx); now.Holder != leader.Name() || now.Term != before.Term+1 {
		t.Errorf("%+v leads after %+v", now, before)
	}
	if log, err := os.ReadFile(filepath.Join(leader.Dir, "sidecar.log")); !strings.Contains(string(log), "clone that a replica needs waits for them") {
		t.Error("there was no standoff: the test shows nothing", err)
	}
	f.reseed(ctx, second)
	f.named(ctx, 2)
	stop()
	f.check(ctx, w)
}
