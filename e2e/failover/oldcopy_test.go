//go:build failover

package failover

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// A former leader is given a copy that lacks the last of what it wrote itself. It gets that back from
// its source: a server leaves out events with its own server_id, if it is not told otherwise.
func TestOldCopyOfLeader(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader, donor := f.byName(before.Holder), f.Member(2)
	release := f.holdBy(ctx, donor.Server.DB())
	w.more(ctx, 100)
	// The other replica leads next, which can apply: if it has received as much. For that the writer
	// rests.
	w.slow(5 * time.Second)
	w.more(ctx, 2)
	f.awaitExecuted(ctx, f.Member(1), f.executed(ctx, leader))
	leader.Server.Kill() // its sidecar learns that another leads: then it may be reseeded
	w.slow(0)
	f.await(ctx, "the next term is open", func() (bool, string) {
		r := f.lease(ctx)
		return r.Phase == "opened" && r.Term > before.Term && r.Holder == f.Member(1).Name(), fmt.Sprintf("%+v", r)
	})
	f.reseed(ctx, leader) // of the two others its donor is the replica
	release()
	w.more(ctx, 100)
	f.named(ctx, 2)
	stop()
	f.check(ctx, w)
}
