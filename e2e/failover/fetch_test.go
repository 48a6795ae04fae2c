//go:build failover

package failover

import (
	"context"
	"strings"
	"syscall"
	"testing"
)

// The only acknowledger of a commit is paused, and may not lead: the heir receives the commit from it
// before it opens.
func TestFetchesFromPaused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, false, "--semi-sync=required", "--fence=sidecar")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader, paused, heir := f.byName("db-0"), f.byName("db-1"), f.byName("db-2")

	// db-2 receives nothing more, and nobody there starts it again.
	heir.Sidecar().Signal(syscall.SIGSTOP)
	if err := heir.Execute(ctx, "STOP REPLICA IO_THREAD"); err != nil {
		t.Fatal(err)
	}
	w.more(ctx, 20)
	r, err := f.Call(ctx, nil, "pause", "--volume="+paused.Volume, "--reason=a look at it")
	if err != nil || r.Code != 0 {
		t.Fatalf("pause ended with %d: %s %v", r.Code, r.LastLine(), err)
	}
	f.await(ctx, "db-1 is paused", func() (bool, string) {
		_, body, err := paused.Get(ctx, "/readyz")
		return strings.Contains(body, "paused"), body + errText(err)
	})
	leader.KillSidecar()
	leader.Server.Kill()
	heir.Sidecar().Signal(syscall.SIGCONT)

	f.moved(ctx, before)
	if r := f.lease(ctx); r.Holder != heir.Name() {
		t.Errorf("%s leads, not %s: %+v", r.Holder, heir.Name(), r)
	}
	if text := f.log(heir); !strings.Contains(text, "it receives what only another member has") {
		t.Error("the heir did not say that it receives what it lacks")
	}
	missing, err := w.missing(ctx, heir)
	if err != nil || len(missing) > 0 {
		t.Errorf("the new leader lacks %v %v", missing, err)
	}
	r, err = f.Call(ctx, nil, "resume", "--volume="+paused.Volume)
	if err != nil || r.Code != 0 {
		t.Fatalf("resume ended with %d: %s %v", r.Code, r.LastLine(), err)
	}
	w.more(ctx, 50)
	f.up(ctx, leader)
	f.rejoin(ctx, leader)
	stop()
	f.check(ctx, w)
}
