//go:build failover

package failover

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// In mode off the leader writes on while nobody receives anything. Then it dies: the others are too
// far behind to lead, and say so, until it is back.
func TestTooFarBehind(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=off", "--failover-max-lag=3s")
	f.acks = 0
	cuts := f.cuttable()
	w, stop := f.begin(ctx)
	before := f.named(ctx, 0)
	leader := f.byName(before.Holder)
	f.measures(ctx, leader, "understudy_failover_possible 1")
	for i := range f.n {
		if i != leader.Ordinal {
			cuts.pair(leader.Ordinal, i)
		}
	}
	time.Sleep(6 * time.Second)
	w.more(ctx, 50)
	kill(ctx, leader, processServer, processSidecar, processRun)
	cuts.heal()
	other := f.Member((leader.Ordinal + 1) % f.n)
	f.await(ctx, "the others say why nobody leads", func() (bool, string) {
		_, body, err := other.Get(ctx, "/readyz")
		return strings.Contains(body, "was behind by") && strings.Contains(body, "--failover-max-lag allows 3s"), body + " " + errText(err)
	})
	if r := f.lease(ctx); r.Phase == "opened" && r.Term > before.Term {
		t.Errorf("somebody leads: %+v", r)
	}
	sum.other()
	f.up(ctx, leader)
	f.await(ctx, "the leader leads again", func() (bool, string) {
		r := f.lease(ctx)
		return r.Phase == "opened" && r.Holder == leader.Name(), fmt.Sprintf("%+v", r)
	})
	w.more(ctx, 50)
	stop()
	f.check(ctx, w)
}
