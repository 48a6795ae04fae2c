//go:build failover

package failover

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// A leader whose disk is full, or stands still, answers its sidecar as ever, and takes no commits:
// another member leads. Where nobody else could, it goes on.
func TestLeaderWithoutDisk(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--disk-unhealthy-after=4s")
	f.onDisks()
	w, stop := f.begin(ctx)
	w.slow(50 * time.Millisecond)
	for _, fault := range []struct {
		name string
		do   func(*set.Member) func()
	}{{"full", f.fill}, {"stands still", f.freeze}} {
		before := f.named(ctx, 2)
		old := f.byName(before.Holder)
		w.more(ctx, 50)
		w.pause()
		heal := fault.do(old)
		f.await(ctx, "another member leads", func() (bool, string) {
			r := f.lease(ctx)
			return r.Phase == "opened" && r.Holder != "" && r.Holder != old.Name(), fmt.Sprintf("%+v", r)
		})
		w.more(ctx, 50)
		away := w.pause()
		sum.away(away, false)
		t.Logf("the disk of %s %s: writes were away for %v", old.Name(), fault.name, away.Round(10*time.Millisecond))
		if !strings.Contains(f.log(old), "its volume has taken no writes") {
			t.Errorf("%s does not say why it leads no more", old.Name())
		}
		heal()
		f.rejoin(ctx, old) // MySQL looks once a minute whether there is room again
	}
	before := f.named(ctx, 2)
	leader := f.byName(before.Holder)
	var heal []func()
	for i := range f.n {
		if m := f.Member(i); m != leader {
			heal = append(heal, f.fill(m))
		}
	}
	heal = append(heal, f.fill(leader))
	f.await(ctx, "the leader says that nobody else could lead", func() (bool, string) {
		return strings.Contains(f.log(leader), "it goes on leading: nobody else could"), ""
	})
	time.Sleep(3 * time.Second)
	if r := f.lease(ctx); r.Term != before.Term || r.Holder != leader.Name() {
		t.Errorf("before %+v, and now %+v", before, r)
	}
	for _, h := range heal {
		h()
	}
	sum.other()
	w.more(ctx, 50)
	stop()
	f.check(ctx, w)
}

// A server that found its disk full looks again after a minute. A leader does not wait for that: another
// member leads once there is room again.
func TestDiskFullShortly(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required")
	f.onDisks()
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	old := f.byName(before.Holder)
	w.more(ctx, 50)
	w.pause()
	heal := f.fill(old)
	time.Sleep(3 * time.Second)
	heal()
	w.more(ctx, 50)
	away := w.pause()
	sum.away(away, false)
	t.Logf("the disk of %s full for 3 s: writes were away for %v", old.Name(), away.Round(10*time.Millisecond))
	if limit := 20 * time.Second; away > limit {
		t.Errorf("that is more than %v", limit)
	}
	if !strings.Contains(f.log(old), "its server waits for room") {
		t.Errorf("%s does not say why it leads no more", old.Name())
	}
	f.rejoin(ctx, old)
	stop()
	f.check(ctx, w)
}
