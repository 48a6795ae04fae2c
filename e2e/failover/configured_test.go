//go:build failover

package failover

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A set of one has nobody to wait for, also in mode required, and after its server was killed.
func TestSetOfOne(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 1, true, "--semi-sync=required")
	f.acks = 0
	w, stop := f.begin(ctx)
	m := f.Member(0)
	w.more(ctx, 20)
	for range 2 {
		before := f.lease(ctx)
		kill(ctx, m, processServer)
		f.await(ctx, "the next term", func() (bool, string) {
			r := f.lease(ctx)
			return r.Term > before.Term && r.Phase == "opened" && r.Holder == m.Name(), fmt.Sprintf("%+v", r)
		})
		w.more(ctx, 20)
	}
	stop()
	f.check(ctx, w)
}

// Replicas that cannot connect acknowledge nothing, whatever their sides are: in mode preferred the
// leader does not wait for them.
func TestReceiversRefused(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=preferred")
	cuts := f.cuttable()
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader := f.byName(before.Holder)
	w.more(ctx, 20)
	w.pause()
	var others []int
	for i := range f.n {
		if i != leader.Ordinal {
			others = append(others, i)
		}
	}
	cuts.refused(leader.Ordinal, others...)
	f.await(ctx, "the set is empty", func() (bool, string) {
		r := f.lease(ctx)
		return r.Term == before.Term && len(r.Acknowledgers) == 0, fmt.Sprintf("%+v", r)
	})
	w.more(ctx, 50)
	away := w.pause()
	t.Logf("writes were away for %v", away.Round(10*time.Millisecond))
	if limit := 15 * time.Second; away > limit {
		t.Errorf("that is more than %v", limit)
	}
	cuts.heal()
	f.named(ctx, 2)
	w.more(ctx, 20)
	stop()
	f.check(ctx, w)
}

// Where understudy run is asked for and is not there, the server is not opened, and its member says why.
func TestFenceIsMissing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 1, false, "--semi-sync=preferred", "--fence=run")
	m := f.Member(0)
	f.up(ctx, m)
	f.within(ctx, 30*time.Second, "it says what is missing", func() (bool, string) {
		_, body, err := m.Get(ctx, "/readyz")
		return strings.Contains(body, "understudy run, which is to end it, does not answer") && strings.Contains(body, "--fence=sidecar"), fmt.Sprint(body, err)
	})
	time.Sleep(5 * time.Second)
	if r := f.lease(ctx); r.Term > 1 || r.Phase == "opened" {
		t.Errorf("the Lease says %+v", r)
	}
}
