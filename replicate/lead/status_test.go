package lead

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// nobody is a set without other members.
type nobody struct{}

var errNobody = errors.New("nobody is there")

func (nobody) Report(context.Context, string, Ask) (failover.Report, error) {
	return failover.Report{}, errNobody
}

func (nobody) Follow(context.Context, string, Follow) (Promise, error) {
	return Promise{}, errNobody
}
func (nobody) Tell(context.Context, string, Ask) (Answer, error) { return Answer{}, errNobody }
func (nobody) All(context.Context) []string                      { return nil }
func (nobody) Known(context.Context) ([]string, error)           { return nil, nil }
func (nobody) ScaledAway(context.Context, []string) ([]string, error) {
	return nil, errors.New("not known")
}

// bareMember is a member of the set of testRecord, without a server: whatever is done to one panics.
func bareMember(t *testing.T, s *store, name string) *Controller {
	t.Helper()
	c := New(Config{Name: name, Timings: failover.DefaultTimings, Lease: s, Members: nobody{}, Log: slog.New(slog.DiscardHandler)})
	if err := c.line.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// newLeader is db-0, which leads.
func newLeader(t *testing.T, s *store) *Controller {
	t.Helper()
	c := bareMember(t, s, "db-0")
	c.take(leader, 1)
	c.deadline = fence.Now() + 5*time.Second
	return c
}

func stored(t *testing.T, r failover.Record) *store {
	t.Helper()
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &store{record: text, n: 1}
}

func TestStatus(t *testing.T) {
	r := testRecord().Name(failover.Acknowledger{Member: "db-1", Receipt: "boot/applier"})
	s := stored(t, r)
	c := newLeader(t, s)
	uuid := r.Last.Data
	c.state = State{Position: uuid + ":1-5", Held: 2}
	level := Answer{Member: "db-1", Receipt: "boot/applier", Data: "another", Executed: uuid + ":1-5", Has: uuid + ":1-5", Side: true, Follows: "db-0"}
	restarted, away := level, Answer{Member: "db-1", Trouble: "no server listens"}
	severed := level
	severed.Severed = true
	restarted.Receipt, restarted.Has, restarted.Executed = "later/applier", uuid+":1-3", uuid+":1-3"
	for _, tt := range []struct {
		name           string
		answer         heard
		lacks, foresee string
	}{
		{"it acknowledges", heard{level, fence.Now()}, "", "failover: possible, to db-1"},
		{"it was restarted", heard{restarted, fence.Now()}, "it was restarted", "failover: not possible: db-1 was restarted and is 2 transactions behind"},
		{"it is not connected", heard{severed, fence.Now()}, "its receiver is not connected", "failover: possible, to db-1"},
		{"its server is away", heard{away, fence.Now()}, "no server listens", "failover: not possible: db-1: no server listens"},
		{"its answer is old", heard{level, fence.Now() - told}, "it does not answer", "failover: not possible: db-1 does not answer"},
	} {
		c.leading.answers["db-1"] = tt.answer
		got := c.Status()
		if !got.Leads() || got.Leader() != "db-0" || got.Held != 2 || got.Permission <= 0 || got.Degraded || got.Lacking["db-1"] != tt.lacks || got.Forecast == nil || got.Forecast.String() != tt.foresee {
			t.Errorf("%s: %+v, %+v", tt.name, got, got.Forecast)
		}
		if note := got.Note("db-0"); note != "" {
			t.Errorf("%s: the note is %q", tt.name, note)
		}
	}
	c.leading.answers["db-1"] = heard{level, fence.Now()}
	r.Quick = 3
	short := newLeader(t, stored(t, r))
	short.leading.answers["db-1"] = heard{level, fence.Now()}
	if got := short.Status().Forecast.String(); got != "failover: possible, to db-1, but not for another 5 s: the last terms were short" {
		t.Errorf("after short terms: %q", got)
	}
	follower := bareMember(t, s, "db-1").Status()
	if follower.Leads() || follower.Leader() != "db-0" || follower.Forecast != nil || follower.Permission != 0 || follower.Note("db-1") != "" {
		t.Errorf("a follower: %+v", follower)
	}
}

func TestNote(t *testing.T) {
	electing := testRecord().Seek("db-1")
	forbidden := electing
	forbidden.NoFailover = "a restore"
	for _, tt := range []struct {
		name, member string
		s            Status
		want         string
	}{
		{"degraded", "db-0", Status{Record: testRecord(), Part: string(leader), Degraded: true}, "bring a replica back"},
		{"the holder waits", "db-1", Status{Record: electing, Part: string(candidate), Waits: "db-0 is missing"}, "db-0 is missing; bring these members back"},
		{"another holds", "db-2", Status{Record: electing, Part: string(follower)}, "the /readyz of db-1 says for whom it waits"},
		{"the last leader, degraded", "db-0", Status{Record: electing, Part: string(follower)}, "only its data have all acknowledged commits"},
		{"nobody renews", "db-1", Status{Record: testRecord(), Part: string(follower), Over: true, Age: 7 * time.Second}, "db-0 has not renewed the Lease for 7 s"},
		{"forbidden", "db-2", Status{Record: forbidden, Part: string(follower)}, "understudy failover --allow"},
	} {
		if got := tt.s.Note(tt.member); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q in it", tt.name, got, tt.want)
		}
	}
}

// Only the leader forbids failover; where there is none, anybody allows it. An answer that is lost
// does no harm, and nothing else of the record changes.
func TestPermit(t *testing.T) {
	s := stored(t, testRecord())
	c := newLeader(t, s)
	var told []string
	tell := func(_ bool, reason, _ string) { told = append(told, reason) }
	follower := bareMember(t, s, "db-1")
	c.Tell, follower.Tell = tell, tell
	if _, err := follower.Permit(t.Context(), Permit{To: "db-1", Forbid: "a restore"}); !errors.Is(err, errNoPermit) {
		t.Errorf("a follower forbids it while another leads: %v", err)
	}
	if _, err := c.Permit(t.Context(), Permit{To: "db-9", Forbid: "a restore"}); !errors.Is(err, errNoPermit) {
		t.Errorf("another member was asked: %v", err)
	}
	s.lose = true
	if _, err := c.Permit(t.Context(), Permit{To: "db-0", Forbid: "a restore"}); err != nil {
		t.Fatal(err)
	}
	want := testRecord()
	want.NoFailover = "a restore"
	if text, _ := want.Encode(); s.record != text {
		t.Errorf("the Lease says %s, want %s", s.record, text)
	}
	follower.Timings.Duration = 0 // nobody renews it any more
	if _, err := follower.Permit(t.Context(), Permit{To: "db-1"}); err != nil {
		t.Fatal(err)
	}
	if text, _ := testRecord().Encode(); s.record != text {
		t.Errorf("the Lease says %s, want %s", s.record, text)
	}
	if len(told) != 2 || told[0] != ReasonFailoverForbidden || told[1] != ReasonFailoverAllowed {
		t.Errorf("told is %q", told)
	}
	follower.memory.Seen = 9
	if _, err := follower.Permit(t.Context(), Permit{To: "db-1", Forbid: "x"}); !errors.Is(err, errNoPermit) {
		t.Errorf("a Lease that went back: %v", err)
	}
}

// A paused leader does nothing to its server, whatever there is to do, and refuses a planned change;
// that commits do not wait, the Lease says.
func TestPausedLeader(t *testing.T) {
	s := stored(t, testRecord().Name(failover.Acknowledger{Member: "db-1", Receipt: "boot/applier"}))
	c := newLeader(t, s)
	c.Paused = func() string { return "paused since noon" }
	change := switching{ctx: t.Context(), done: make(chan error, 1)}
	for _, state := range []State{{Waiting: true}, {Waiting: true, Writable: true, Offline: true}, {Waiting: true, Source: true}} {
		c.switches <- change
		c.lead(t.Context(), c.line.view(), state) // a server's method would panic
		if err := <-change.done; !errors.Is(err, errNoSwitch) || !strings.Contains(err.Error(), "understudy resume") {
			t.Errorf("a planned change: %v", err)
		}
	}
	if r := c.line.view().record; len(r.Acknowledgers) != 1 {
		t.Errorf("%+v", r)
	}
	c.lead(t.Context(), c.line.view(), State{Writable: true})
	if r := c.line.view().record; len(r.Acknowledgers) != 0 {
		t.Errorf("commits do not wait, and the Lease names %+v", r.Acknowledgers)
	}
}

// Nor is anything done to the server of a paused member that does not lead.
func TestPausedFollower(t *testing.T) {
	c := bareMember(t, stored(t, testRecord()), "db-1")
	c.Paused = func() string { return "paused since noon" }
	for _, state := range []State{{Side: true}, {Offline: true}, {Source: true}} {
		c.follow(t.Context(), c.line.view(), state, true) // a server's method would panic
		if role := c.Role(); role.Follows != "db-0" {
			t.Errorf("%+v: the role is %+v", state, role)
		}
	}
}
