package lead

import (
	"context"
	"slices"
	"testing"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/flavor"
)

// scaled are the members of a set that is to have so many.
type scaled struct {
	Members
	away []string
}

func (s scaled) ScaledAway(context.Context, []string) ([]string, error) { return s.away, nil }

// leaderSince is a leader that has led for so long.
func leaderSince(t *testing.T, members Members, since time.Duration, change func(*failover.Record)) (*Controller, *store) {
	t.Helper()
	c, _, s := newMember(t, "db-0", members, change)
	c.Flavor = flavor.MySQL
	c.since = fence.Now() - since
	c.work = &leading{answers: map[string]heard{}, lost: map[string]time.Duration{}}
	return c, s
}

func says(t *testing.T, s *store) failover.Record {
	t.Helper()
	r, err := failover.Decode(s.record)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A member that was scaled away, and does not answer, is registered no more. One that answers, or is
// an acknowledger, is.
func TestUnregister(t *testing.T) {
	all := func(r *failover.Record) {
		r.Members = []string{"db-0", "db-1", "db-2", "db-3", "db-4"}
		r.Acknowledgers = []failover.Acknowledger{{Member: "db-3", Receipt: "r"}}
	}
	c, s := leaderSince(t, scaled{away: []string{"db-2", "db-3", "db-4"}}, silentFor, all)
	c.work.answers["db-2"] = heard{at: fence.Now()}
	eventually(t, "a member is unregistered", func() bool { return c.unregister(t.Context(), c.line.view()) })
	if r := says(t, s); !slices.Equal(r.Members, []string{"db-0", "db-1", "db-2", "db-3"}) {
		t.Errorf("registered are %v", r.Members)
	}
	c, s = leaderSince(t, scaled{away: []string{"db-2", "db-4"}}, silentFor/2, all)
	for range 10 {
		if c.unregister(t.Context(), c.line.view()) {
			t.Error("a member was unregistered that is silent for a moment")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if r := says(t, s); len(r.Members) != 5 {
		t.Errorf("registered are %v", r.Members)
	}
}

// A leader that has led for long says that its term was not short.
func TestSteadies(t *testing.T) {
	short := func(r *failover.Record) { r.Quick = 8 }
	c, s := leaderSince(t, nil, time.Second, short)
	if c.steadies(t.Context(), c.line.view()) || says(t, s).Quick != 8 {
		t.Error("after a second")
	}
	if f := c.foresee(c.line.view(), failover.Sight{}); f.After != c.Timings.BackOff(8) {
		t.Errorf("an election would wait for %v, and it says %v", c.Timings.BackOff(8), f.After)
	}
	c, s = leaderSince(t, nil, c.Timings.Stable, short)
	if !c.steadies(t.Context(), c.line.view()) || says(t, s).Quick != 0 {
		t.Error("not after it was stable")
	}
}

// A leader takes what it has executed under another name into the ledger.
func TestAdopt(t *testing.T) {
	const other = "3f2a0000-0000-0000-0000-00000000ffff:1-3"
	c, s := leaderSince(t, nil, time.Hour, nil)
	state := State{Writable: true, Position: "3f2a0000-0000-0000-0000-000000000001:1-10," + other}
	if !c.adopt(t.Context(), c.line.view(), state) {
		t.Fatal("it does not")
	}
	if r := says(t, s); r.Ledger.Terms[0].Begins != other || r.Naming != 2 {
		t.Errorf("the term begins at %q", r.Ledger.Terms[0].Begins)
	}
	c.work.adoptedAt = 0
	if c.adopt(t.Context(), c.line.view(), state) {
		t.Error("it does so again")
	}
}

// While a replica acknowledges that is no member, nobody is named; with the source's side off, too.
func TestShun(t *testing.T) {
	c, s := leaderSince(t, nil, time.Hour, func(r *failover.Record) {
		r.Acknowledgers = []failover.Acknowledger{{Member: "db-1", Receipt: "r"}}
	})
	c.leading = c.work
	c.part = leader
	shuns := func(c *Controller, state State) bool {
		is, _ := c.shun(t.Context(), c.line.view(), state)
		return is
	}
	state := State{Writable: true, Waiting: true, Strangers: []string{"dr@10.0.0.9"}}
	if !shuns(c, state) || len(says(t, s).Acknowledgers) != 1 {
		t.Error("at the first look nobody is named any more, and nobody is removed")
	}
	c.work.strangers.Since -= failover.ShunAfter
	if !shuns(c, state) || len(says(t, s).Acknowledgers) != 0 {
		t.Error("it is still named")
	}
	if note := c.Status().Note("db-0"); note == "" || c.Status().Strangers == nil {
		t.Errorf("nobody is told: %q", note)
	}
	state.Waiting = false
	if !shuns(c, state) {
		t.Error("forgotten while nothing waits")
	}
	state.Strangers = nil
	if !shuns(c, state) {
		t.Error("it may be back in a moment")
	}
	c.work.strangers.Last -= failover.ShunGone
	state.StrangersUnknown = errSilent
	if !shuns(c, state) {
		t.Error("nobody knows whether it is gone")
	}
	state.StrangersUnknown = nil
	if shuns(c, state) || c.Status().Strangers != nil {
		t.Error("it is gone")
	}
}

// A pod of the leader's name does not give away a Lease that somebody renews.
func TestNamesake(t *testing.T) {
	c, s := leaderSince(t, nil, 0, nil)
	_ = c.line.read(t.Context())
	v := c.line.view()
	v.beatAt = fence.Now()
	c.mine(t.Context(), v, State{Boot: "other"}, true, Memory{Seen: 1})
	if r := says(t, s); r.Holder != "db-0" {
		t.Errorf("it has released the Lease: %+v", r)
	}
}

// A member that has for a moment what its leader is about to adopt follows on, and acknowledges. It does
// for as long as its leader renews nothing, and so cannot adopt.
func TestSurplus(t *testing.T) {
	const uuid, foreign = "3f2a0000-0000-0000-0000-000000000001:1-10", "3f2a0000-0000-0000-0000-00000000ffff"
	c, _, _ := newMember(t, "db-1", nil, nil)
	c.Flavor = flavor.MySQL
	c.role = Role{Follows: "db-0"}
	v := c.line.view()
	asks := Role{Follows: "db-0", Reseed: "why"}
	renewed := func() { v.beatAt = fence.Now() }
	has := func(last string) Role { return c.surplus(asks, v, State{Has: uuid + "," + foreign + ":1-" + last}) }
	renewed()
	if got := has("3"); got != c.role {
		t.Errorf("at once: %+v", got)
	}
	c.surplusAt -= surplusFor / 2
	if got := has("4"); got != c.role {
		t.Errorf("with more: %+v", got)
	}
	adopted, err := v.record.Adopt(foreign + ":1-3")
	if err != nil {
		t.Fatal(err)
	}
	v.record = &adopted
	c.surplusAt -= surplusFor
	if got := has("4"); got != c.role {
		t.Errorf("with what was adopted, and more: %+v", got)
	}
	c.surplusAt = fence.Now() - 2*surplusFor
	v.beatAt = c.surplusAt + surplusFor/2
	if got := has("5"); got != c.role {
		t.Errorf("for long, and nobody renews: %+v", got)
	}
	renewed()
	if got := has("5"); got != asks {
		t.Errorf("for long: %+v", got)
	}
	if c.surplusOf != foreign+":4" {
		t.Errorf("it counts for %s", c.surplusOf)
	}
}
