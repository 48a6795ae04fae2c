package lead

import (
	"strings"
	"testing"
	"time"

	"understudy/replicate/failover"
)

// The rows of the table of standoff.go.
func TestStandoff(t *testing.T) {
	t.Parallel()
	away := failover.Acknowledger{Member: "db-1", Receipt: "b/a"}
	eventually := func(t *testing.T, what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not so: ", what)
			}
		}
	}
	t.Run("its server is killed, and it gives a clone first", func(t *testing.T) {
		t.Parallel()
		o := &own{mode: failover.Required, state: State{Held: 1}}
		o.heldOff.Store(3) // in an earlier term
		c, s := leads(t, o, 0, away)
		time.Sleep(50 * time.Millisecond)
		if p, _ := c.now(); p != leader {
			t.Fatalf("it is a %s, and no clone was given up", p)
		}
		o.heldOff.Store(4)
		eventually(t, "the Lease is released", func() bool { return s.says(t).Holder == "" })
		o.locked(func() {
			if !o.killed {
				t.Error("the Lease was released, and its server was not killed")
			}
			o.state.Boot, o.state.Writable, o.state.Held = "2", false, 0 // it is back, closed
		})
		time.Sleep(50 * time.Millisecond)
		if why := c.barred(State{}); !strings.Contains(why, "to ask for a clone") {
			t.Errorf("it may be elected at once: %q", why)
		}
		o.giving.Store(1)
		eventually(t, "it gives a clone", func() bool { return strings.Contains(c.StandsBack(), "gives a clone") })
		if r := s.says(t); r.Term != 1 {
			t.Errorf("an election has begun while it gives a clone: %+v", r)
		}
		o.giving.Store(0)
		eventually(t, "an election", func() bool { return s.says(t).Term == 2 })
	})
	t.Run("a clone does not go on", func(t *testing.T) {
		t.Parallel()
		o := &own{mode: failover.Required, state: State{Held: 1}}
		c, s := leads(t, o, 0, away)
		o.giving.Store(1)
		time.Sleep(time.Second)
		o.bytes.Add(1)
		last := time.Now()
		for s.says(t).Holder != "" {
			if time.Sleep(time.Millisecond); time.Since(last) > 2*standoffAfter {
				t.Fatal("the clone is waited for, and it for commits")
			}
		}
		if time.Since(last) < standoffAfter-100*time.Millisecond {
			t.Error("too soon after the last byte")
		}
		if why := c.StandsBack(); !strings.Contains(why, "to ask for a clone") {
			t.Errorf("the clone of the server that was killed counts: %q", why)
		}
	})
	t.Run("nobody asks for a clone", func(t *testing.T) {
		t.Parallel()
		o := &own{mode: failover.Required, state: State{Held: 1}}
		c, s := leads(t, o, 0, away)
		o.heldOff.Store(1)
		eventually(t, "the Lease is released", func() bool { return s.says(t).Holder == "" })
		c.mu.Lock()
		c.standoff.since -= standFor
		c.mu.Unlock()
		if why := c.StandsBack(); why != "" {
			t.Errorf("it stands back: %s", why)
		}
	})
	t.Run("without understudy run, once its server has died", func(t *testing.T) {
		t.Parallel()
		o := &own{mode: failover.Required, noRun: true, state: State{Held: 1}}
		c, _ := leads(t, o, 0, away)
		o.heldOff.Store(1)
		time.Sleep(50 * time.Millisecond)
		if p, _ := c.now(); p != leader || c.StandsBack() != "" {
			t.Fatalf("it is a %s: its server cannot be killed", p)
		}
		o.locked(func() { o.state.Boot, o.state.Writable, o.state.Held = "2", false, 0 })
		eventually(t, "it stands back", func() bool { return c.StandsBack() != "" })
	})
	for name, change := range map[string]func(*own){
		"no commit waits": func(o *own) { o.state.Held = 0 },
		"an acknowledger is there": func(o *own) {
			o.others = map[string]Answer{"db-1": {Member: "db-1", Receipt: "b/a", Side: true, Follows: "db-0"}}
		},
		"mode preferred": func(o *own) { o.mode = failover.Preferred },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &own{mode: failover.Required, state: State{Held: 1}}
			change(o)
			c, _ := leads(t, o, 0, away)
			time.Sleep(100 * time.Millisecond) // the members have answered
			o.heldOff.Store(1)
			time.Sleep(100 * time.Millisecond)
			if p, _ := c.now(); p != leader || o.killed {
				t.Errorf("it is a %s", p)
			}
		})
	}
}
