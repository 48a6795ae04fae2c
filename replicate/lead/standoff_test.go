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
	const pause = 400 * time.Millisecond // more than standoffAfter here
	away := failover.Acknowledger{Member: "db-1", Receipt: "b/a"}
	// looks waits for longer than standoffAfter, and until the leader has looked at the clones as they
	// are: it goes by what it has seen change.
	looks := func(t *testing.T, o *own) {
		t.Helper()
		asked := func() (n int) { o.locked(func() { n = o.asked }); return n }
		before := asked()
		time.Sleep(pause)
		eventually(t, "it looks at the clones", func() bool { return asked() >= before+3 })
	}
	back := func(o *own) { // the next server, closed
		o.locked(func() { o.state.Boot, o.state.Writable, o.state.Held = "2", false, 0 })
	}
	// begins has a leader whose clone was given up in a standoff, and whose server is back.
	begins := func(t *testing.T) (*own, *Controller, *shared) {
		t.Helper()
		o := &own{mode: failover.Required, state: State{Held: 1}}
		o.clones.HeldOff = 3 // in an earlier term
		c, s := leads(t, o, 0, away)
		looks(t, o)
		if p, _ := c.now(); p != leader {
			t.Fatalf("it is a %s, and no clone was given up", p)
		}
		o.locked(func() { o.clones.HeldOff++ })
		eventually(t, "the Lease is released", func() bool { return s.says(t).Holder == "" })
		o.locked(func() {
			if !o.killed {
				t.Error("the Lease was released, and its server was not killed")
			}
		})
		return o, c, s
	}
	stands := func(t *testing.T, c *Controller, s *shared, words string) {
		t.Helper()
		time.Sleep(pause)
		eventually(t, "it is not elected: "+words, func() bool { return strings.Contains(c.barred(State{}), words) })
		if r := s.says(t); r.Term != 1 {
			t.Errorf("an election has begun: %+v", r)
		}
	}
	elects := func(t *testing.T, s *shared) {
		t.Helper()
		eventually(t, "an election", func() bool { return s.says(t).Term == 2 })
	}
	gives := func(o *own, g ...Clone) { o.locked(func() { o.clones.Giving = g }) }
	const asks, giving = "to ask for a clone", "gives a clone"

	t.Run("a clone was given up", func(t *testing.T) {
		t.Parallel()
		o, c, s := begins(t)
		back(o)
		stands(t, c, s, asks)
		gives(o, Clone{Stream: "old", Age: time.Hour, Bytes: 1}) // of the server that was killed
		stands(t, c, s, asks)
		gives(o, Clone{Stream: "refused"})
		stands(t, c, s, asks)
		gives(o)
		stands(t, c, s, asks)
		gives(o, Clone{Stream: "new", Bytes: 1})
		stands(t, c, s, giving)
		o.locked(func() { o.hangs = true }) // one look
		time.Sleep(pause)
		o.locked(func() { o.hangs = false })
		stands(t, c, s, giving)
		gives(o) // it broke
		stands(t, c, s, asks)
		o.locked(func() { o.clones.Given++ })
		elects(t, s)
	})
	t.Run("a joiner waits", func(t *testing.T) {
		t.Parallel()
		o := &own{mode: failover.Required, state: State{Held: 1}}
		c, s := leads(t, o, 0, away)
		o.locked(func() { // it goes on, beside one whose joiner is slow
			o.clones.Giving, o.grows = []Clone{{Stream: "a", Age: time.Hour, Awaited: true}, {Stream: "b", Bytes: 1}}, true
		})
		looks(t, o)
		if p, _ := c.now(); p != leader {
			t.Fatalf("it is a %s, though the clone goes on", p)
		}
		o.locked(func() {
			o.clones.Giving, o.grows = []Clone{{Stream: "a", Age: time.Hour, Bytes: 1, Awaited: true}}, false
		})
		eventually(t, "the Lease is released", func() bool { return s.says(t).Holder == "" })
		stands(t, c, s, asks)
	})
	t.Run("another member has opened a term", func(t *testing.T) {
		t.Parallel()
		o, c, s := begins(t)
		back(o)
		stands(t, c, s, asks)
		r := s.says(t).Seek("db-2").Choose("db-2").Open(failover.Opening{
			Leader: failover.Leader{Member: "db-2", Data: "other"}, Server: "3f2a0000-0000-0000-0000-000000000002", Begins: o.state.Executed,
		})
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.record, s.n = text, s.n+1
		s.mu.Unlock()
		if err := c.line.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it does not stand back", func() bool { return c.StandsBack() == "" })
	})
	t.Run("a server that shut down is elected at once", func(t *testing.T) {
		t.Parallel()
		o := &own{mode: failover.Required, state: State{Held: 1}, shutDown: true}
		c, s := leads(t, o, 0, away)
		looks(t, o)
		o.locked(func() { o.clones.HeldOff++ })
		eventually(t, "it leads no more", func() bool { p, _ := c.now(); return p == follower })
		back(o)
		elects(t, s)
	})
	t.Run("without understudy run", func(t *testing.T) {
		t.Parallel()
		o := &own{mode: failover.Required, noRun: true, locks: true, state: State{Held: 1}}
		c, _ := leads(t, o, 0, away)
		c.mu.Lock()
		c.locks = true
		c.mu.Unlock()
		looks(t, o)
		o.locked(func() { o.clones.HeldOff++ })
		looks(t, o)
		if p, _ := c.now(); p != leader || c.StandsBack() != "" {
			t.Fatalf("it is a %s: its server cannot be killed", p)
		}
		o.locked(func() { o.state.Boot, o.locks = "", false }) // a person has killed it
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
			eventually(t, "the members have answered", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return o.others == nil || c.leading != nil && c.leading.answers["db-1"].Side
			})
			looks(t, o)
			o.locked(func() { o.clones.HeldOff++ })
			looks(t, o)
			if p, _ := c.now(); p != leader || o.killed {
				t.Errorf("it is a %s", p)
			}
		})
	}
}
