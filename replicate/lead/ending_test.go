package lead

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/flavor"
)

// own is a server in memory, and the fence, the volume and the other members beside it.
type own struct {
	Server // what a test does not expect panics

	mu       sync.Mutex
	state    State
	others   map[string]Answer
	running  []string
	disarmed bool
	shutDown bool
	fenced   string // the server that understudy run has by now; empty: "fenced"
	killed   bool
	memory   Memory
	locks    bool
	hangs    bool
	noFence  bool          // understudy run does not answer
	noRun    bool          // there is none
	mode     failover.Mode // of the Lease; empty: preferred
	clones   Clones
	// scaledAway are the members that the set is not to have any more.
	scaledAway []string
	// closedLog says that the server has closed its binary log.
	closedLog bool
	// asked and ran are how often the leader has asked for its clones, and for what runs; grows says
	// that each time the first clone has more bytes.
	asked, ran int
	grows      bool
}

// eventually waits for an effect. The bound is for a hang: a slow machine takes its time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not so: ", what)
		}
	}
}

func (o *own) locked(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
}

func (o *own) Settle(context.Context) error        { return nil }
func (o *own) StopReceiving(context.Context) error { return nil }

func (o *own) Look(context.Context) (s State, err error) {
	o.locked(func() {
		s = o.state
		switch {
		case o.hangs:
			err = context.DeadlineExceeded
		case s.Boot == "":
			err = ErrDead
		}
	})
	return s, err
}

func (o *own) Bar(context.Context, string) error        { return errSilent }
func (o *own) Shut(context.Context) error               { return errSilent }
func (o *own) SetOffline(context.Context, bool) error   { return errSilent }
func (o *own) SetWaiting(context.Context, bool) error   { return errSilent }
func (o *own) Locked(context.Context) ([]string, error) { return nil, nil }

func (o *own) Admitted(context.Context) ([]string, error) { return nil, nil }

func (o *own) Running(context.Context) (names []string, err error) {
	o.locked(func() { o.ran++; names = slices.Clone(o.running) })
	return names, nil
}

func (o *own) Block(context.Context) (err error) {
	o.locked(func() {
		if o.state.Held > 0 {
			err = errors.New("commits wait")
			return
		}
		o.state.Writable = false
	})
	return err
}

func (o *own) Report(context.Context, string, Ask) (failover.Report, error) {
	return failover.Report{}, errSilent
}

func (o *own) Tell(_ context.Context, member string, _ Ask) (a Answer, err error) {
	err = errSilent
	o.locked(func() {
		if said, ok := o.others[member]; ok {
			a, err = said, nil
		}
	})
	return a, err
}

func (o *own) Follow(context.Context, string, Follow) (Promise, error) { return Promise{}, errSilent }

func (o *own) All(context.Context) []string            { return nil }
func (o *own) Known(context.Context) ([]string, error) { return nil, nil }
func (o *own) ScaledAway(_ context.Context, members []string) ([]string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(members, func(m string) bool { return !slices.Contains(o.scaledAway, m) }), nil
}

func (o *own) Boot(context.Context) (boot string, err error) {
	o.locked(func() { boot = cmp.Or(o.fenced, "fenced") })
	return boot, nil
}

func (o *own) Arm(_ context.Context, boot string, _ uint64, _ time.Duration) (err error) {
	o.locked(func() {
		if o.fenced != "" && boot != o.fenced {
			err = fence.ErrBoot
		}
	})
	return err
}

func (o *own) ShutDown(_ context.Context, boot string) (is bool, err error) {
	o.locked(func() { is = o.shutDown && boot == cmp.Or(o.fenced, "fenced") })
	return is, nil
}

func (o *own) Disarm(_ context.Context, boot string, term uint64) (err error) {
	o.locked(func() { o.disarmed = boot == "fenced" && term == 1 })
	return nil
}

func (o *own) Kill(_ context.Context, boot, _ string) (err error) {
	o.locked(func() {
		if o.noFence {
			err = errSilent
			return
		}
		o.killed = o.killed || boot == "fenced" || boot == ""
	})
	return err
}
func (o *own) Load() (m Memory, err error) { o.locked(func() { m = o.memory }); return m, nil }
func (o *own) Save(m Memory) error         { o.locked(func() { o.memory = m }); return nil }
func (o *own) Try(int64) error             { return nil }

func (o *own) Served() (is bool, err error) {
	o.locked(func() { is = o.locks })
	return is, nil
}

func (o *own) LeftOpen() (is bool, err error) {
	o.locked(func() { is = !o.closedLog })
	return is, nil
}

// shared is a store that the test reads while the leader works.
type shared struct {
	mu sync.Mutex
	store
}

func (s *shared) Read(ctx context.Context) (Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.Read(ctx)
}

func (s *shared) Write(ctx context.Context, from Version, record, holder string) (Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.Write(ctx, from, record, holder)
}

func (s *shared) says(t *testing.T) failover.Record {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := failover.Decode(s.record)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// leads makes the leader of term 1, and takes its steps until the test ends.
func leads(t *testing.T, o *own, drain time.Duration, named ...failover.Acknowledger) (*Controller, *shared) {
	t.Helper()
	const has = "3f2a0000-0000-0000-0000-000000000001:1-10"
	o.state = State{Boot: "1", Data: "3f2a0000-0000-0000-0000-000000000001", Writable: true, Position: has, Executed: has, Has: has, Held: o.state.Held, Waiting: named != nil}
	r := testRecord()
	r.Mode, r.Acknowledgers, r.Members = cmp.Or(o.mode, failover.Preferred), named, []string{"db-0", "db-1", "db-2"}
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s := &shared{store: store{record: text, n: 1}}
	config := Config{
		Name: "db-0", Flavor: flavor.MySQL, Mode: r.Mode, Timings: failover.DefaultTimings, Drain: drain,
		Clones: o.given, Lease: s, Server: o, Members: o, Store: o, Tell: func(bool, string, string) {}, Log: slog.New(slog.DiscardHandler),
	}
	if !o.noRun {
		config.Fence = o
	}
	c := New(config)
	o.memory.Opened = 1
	c.memory = o.memory
	c.standoffAfter = 200 * time.Millisecond
	if err := c.line.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	fenced := ""
	if !o.noRun {
		fenced = "fenced"
	}
	c.leads(1, "1", fenced, fence.Now()+time.Hour)
	c.settled = true
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			_, _ = c.look(ctx)
			c.step(ctx)
			wait(ctx, time.Millisecond, nil)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c, s
}

func (o *own) given() (all Clones) {
	o.locked(func() {
		o.asked++
		all = o.clones
		if o.grows {
			all.Giving = slices.Clone(all.Giving)
			all.Giving[0].Bytes = int64(o.asked)
		}
	})
	return all
}

func level(member string) Answer {
	return Answer{Member: member, Receipt: "b/a", Follows: "db-0", Executed: "3f2a0000-0000-0000-0000-000000000001:1-10"}
}

// A row each of the table of ending.go, for a leader.
func TestEnd(t *testing.T) {
	t.Parallel()
	ends, behind := level("db-1"), level("db-1")
	ends.Barred, behind.Executed = podEnds, ""
	for name, tt := range map[string]struct {
		others map[string]Answer
		held   int
		phase  failover.Phase
		holder string
		ended  bool
	}{
		"a member that is level leads next":      {map[string]Answer{"db-2": level("db-2")}, 0, failover.Heir, "db-2", true},
		"one that ends, too, does not":           {map[string]Answer{"db-1": ends, "db-2": level("db-2")}, 0, failover.Heir, "db-2", true},
		"nobody may lead: the Lease is released": {map[string]Answer{"db-1": ends}, 0, failover.Opened, "", true},
		"nobody is level: the others elect":      {map[string]Answer{"db-1": behind}, 0, failover.Opened, "", true},
		"commits wait: it is not closed":         {map[string]Answer{"db-2": level("db-2")}, 1, failover.Opened, "db-0", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &own{others: tt.others, state: State{Held: tt.held}}
			c, s := leads(t, o, 0)
			ctx, cancel := context.WithTimeout(t.Context(), EndPatience)
			defer cancel()
			if !tt.ended {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			err := c.End(ctx, podEnds)
			if r := s.says(t); r.Phase != tt.phase || r.Holder != tt.holder {
				t.Errorf("the Lease says %s, held by %q", r.Phase, r.Holder)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if (err == nil) != tt.ended || o.disarmed != tt.ended || o.state.Writable == tt.ended {
				t.Errorf("ended with %v, disarmed %v, writable %v", err, o.disarmed, o.state.Writable)
			}
			if why := c.barred(o.state); why != podEnds {
				t.Errorf("it would stand for an election: %q", why)
			}
			if why := c.barred(State{Boot: "2"}); why != "" {
				t.Errorf("the next server would not: %q", why)
			}
		})
	}
}

const podEnds = "its pod is being deleted"

// A transaction that runs gets its time, one that begins later does not count.
func TestDrain(t *testing.T) {
	t.Parallel()
	o := &own{others: map[string]Answer{"db-1": level("db-1")}, running: []string{"old"}}
	c, s := leads(t, o, time.Minute)
	ended := make(chan error)
	go func() { ended <- c.End(t.Context(), podEnds) }()
	eventually(t, "it has seen what runs", func() (is bool) { o.locked(func() { is = o.ran > 0 }); return is })
	time.Sleep(100 * time.Millisecond)
	o.locked(func() {
		if !o.state.Writable {
			t.Error("writes are blocked while a transaction runs that has time")
		}
		o.running = []string{"new"}
	})
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if r := s.says(t); r.Holder != "db-1" {
		t.Errorf("the Lease says %+v", r)
	}
}

// A leader whose server has shut down by itself keeps the Lease, and begins the election when it is
// back. One whose server was killed does not.
func TestShutDown(t *testing.T) {
	t.Parallel()
	for name, shutDown := range map[string]bool{"shut down": true, "killed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &own{shutDown: shutDown}
			_, s := leads(t, o, 0)
			o.locked(func() { o.state.Boot = "" })
			eventually(t, "what is left of the server is killed", func() (is bool) { o.locked(func() { is = o.killed }); return is })
			want := "db-0"
			if !shutDown {
				want = ""
			}
			eventually(t, "the Lease is held by "+want, func() bool { return s.says(t).Holder == want })
			time.Sleep(300 * time.Millisecond) // and stays so
			if r := s.says(t); r.Holder != want || r.Term != 1 {
				t.Errorf("the Lease says %+v", r)
			}
			if !shutDown {
				return
			}
			o.locked(func() { o.state.Boot, o.state.Writable = "2", false })
			eventually(t, "an election", func() bool { return s.says(t).Term != 1 })
			if r := s.says(t); r.Term != 2 || r.Holder != "db-0" {
				t.Errorf("the Lease says %+v", r)
			}
		})
	}
}

// A leader whose server was killed, and started anew by understudy run before anybody looked, releases
// the Lease: it neither goes on with what was seen of the server before, nor takes the new one, which
// does not listen yet, for one that shuts down.
func TestStartedAnew(t *testing.T) {
	t.Parallel()
	o := &own{}
	c, s := leads(t, o, 0)
	if err := c.remember(func(m *Memory) { m.Seen, m.Opened, m.Boot = 1, 1, "1" }); err != nil {
		t.Fatal(err)
	}
	o.locked(func() { o.fenced = "anew" })
	c.permit(t.Context(), 1, fence.Now()+2*time.Hour) // a renewal has landed
	time.Sleep(50 * time.Millisecond)
	o.locked(func() { o.state.Boot, o.shutDown = "", true })
	time.Sleep(300 * time.Millisecond)
	eventually(t, "the Lease is released", func() bool { return s.says(t).Holder == "" })
	if r := s.says(t); r.Holder != "" || r.Term != 1 {
		t.Errorf("the Lease says %+v", r)
	}
}

// Where understudy run cannot say that the server is dead, its locks do, if it had some.
func TestUnlocked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		run, locks, still, closed, released bool
	}{
		"its locks have ended":                         {locks: true, released: true},
		"they have, and it has shut down":              {locks: true, closed: true},
		"it still has them: it may end yet":            {locks: true, still: true},
		"the volume has no locks":                      {},
		"understudy run has ended, and its locks have": {run: true, locks: true, released: true},
		"understudy run has ended":                     {run: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &own{noFence: true, noRun: !tt.run, locks: tt.locks}
			c, s := leads(t, o, 0)
			eventually(t, "it is seen whether it has locks", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.locks == tt.locks
			})
			time.Sleep(100 * time.Millisecond)
			o.locked(func() {
				o.state.Boot, o.locks, o.closedLog = "", tt.still, tt.closed
			})
			time.Sleep(700 * time.Millisecond)
			if tt.released {
				eventually(t, "the Lease is released", func() bool { return s.says(t).Holder == "" })
			}
			if r := s.says(t); (r.Holder == "") != tt.released || r.Term != 1 {
				t.Errorf("the Lease says %+v", r)
			}
		})
	}
}

// A leader whose server hangs gives the Lease away, if another member could lead.
func TestHangs(t *testing.T) {
	t.Parallel()
	for name, could := range map[string]bool{"another could lead": true, "nobody could": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &own{}
			if could {
				heir := level("db-1")
				heir.Data = "3f2a0000-0000-0000-0000-000000000002"
				o.others = map[string]Answer{"db-1": heir}
			}
			c, s := leads(t, o, 0, failover.Acknowledger{Member: "db-1", Receipt: "b/a"})
			if err := c.remember(func(m *Memory) { m.Seen, m.Opened, m.Boot = 1, 1, "1" }); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go c.keepUseful(ctx)
			o.locked(func() { o.hangs = true })
			begun, limit := time.Now(), c.Timings.Unhealthy+lastLook+time.Second
			if could {
				limit = time.Minute // it comes, on a slow machine later
			}
			for s.says(t).Holder != "" && time.Since(begun) < limit {
				time.Sleep(10 * time.Millisecond)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			if gave := s.says(t).Holder == ""; gave != could || o.killed != could || time.Since(begun) < c.Timings.Unhealthy {
				t.Errorf("after %v: given away: %v; killed: %v; %v", time.Since(begun), gave, o.killed, c.Status().Forecast)
			}
		})
	}
}

// The same for one whose sidecar was started anew, too: what was seen of the server last is no proof.
func TestResumesWhatRuns(t *testing.T) {
	t.Parallel()
	o := &own{}
	c, s := leads(t, o, 0)
	o.locked(func() { o.state.Boot = "" })
	if _, err := c.armAgain(t.Context(), 1, fence.Now()+time.Hour, "1"); err == nil {
		t.Errorf("a server is armed that does not answer; the Lease says %+v", s.says(t))
	}
}
