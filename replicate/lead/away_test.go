package lead

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// memoryStore is a volume's memory.
type memoryStore struct{ m Memory }

func (s *memoryStore) Load() (Memory, error) { return s.m, nil }
func (s *memoryStore) Save(m Memory) error   { s.m = m; return nil }
func (s *memoryStore) Try(int64) error       { return nil }
func (s *memoryStore) Served() (bool, error) { return false, nil }

func (s *memoryStore) LeftOpen() (bool, error) { return false, nil }

// askedMembers are the other members, as functions.
type askedMembers struct {
	Members
	follow func(member string, q Follow) (Promise, error)
	all    func() []string
	tell   func(member string) (Answer, error)
}

func (m askedMembers) Follow(_ context.Context, member string, q Follow) (Promise, error) {
	return m.follow(member, q)
}
func (m askedMembers) All(context.Context) []string { return m.all() }
func (m askedMembers) Tell(_ context.Context, member string, _ Ask) (Answer, error) {
	return m.tell(member)
}

// newMember makes a member that has read the Lease of testRecord, changed.
func newMember(t *testing.T, name string, members Members, change func(*failover.Record)) (*Controller, *memoryStore, *store) {
	t.Helper()
	r := testRecord()
	if change != nil {
		change(&r)
	}
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	lease, memory := &store{record: text, n: 1}, &memoryStore{Memory{Seen: r.Term, Promised: r.Term}}
	c := New(Config{Name: name, Timings: failover.DefaultTimings, Lease: lease, Members: members, Store: memory, Log: slog.New(slog.DiscardHandler), Tell: func(bool, string, string) {}})
	c.memory = memory.m
	if err := c.line.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, memory, lease
}

func three(r *failover.Record) { r.Members = []string{"db-0", "db-1", "db-2"} }

// leadsNow makes it the leader, whose Lease is not renewed any more.
func leadsNow(c *Controller, members Members) {
	c.Members = members
	c.leads(1, "boot", "", fence.Now()+time.Second)
	c.state.Boot, c.lookedAt = "boot", fence.Now()
}

// followed asks all members until each was asked once, and, where that extends the permission, until
// it is extended. It returns how long that lasts, counted from before they were asked, and from when
// one of them heard the question; 0: it lasts no longer than before.
func followed(t *testing.T, c *Controller, others int, extends bool) (asked, then time.Duration) {
	t.Helper()
	now, before := fence.Now(), c.deadline
	var at atomic.Int64
	at.Store(int64(now))
	if members, ok := c.Members.(askedMembers); ok {
		follow := members.follow
		members.follow = func(member string, q Follow) (Promise, error) {
			at.Store(int64(fence.Now()))
			return follow(member, q)
		}
		c.Members = members
	}
	c.askToFollow(t.Context(), c.line.view(), now)
	eventually(t, "all have answered", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		l := c.leading.promises
		return len(l.until)+len(l.silent) >= others && (c.deadline > before || !extends)
	})
	time.Sleep(10 * time.Millisecond) // an answer that is to extend nothing is taken in
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline == before {
		return 0, 0
	}
	return c.deadline - now, c.deadline - time.Duration(at.Load())
}

// The leader goes on by the promises of all members that the Lease may name, counted from before
// they were asked.
func TestLeaderAsksAll(t *testing.T) {
	promise := Promise{Lasts: failover.DefaultTimings.Duration}
	say := func(silent, liar string, lasts time.Duration) askedMembers {
		return askedMembers{follow: func(member string, q Follow) (Promise, error) {
			if q.From != "db-0" || q.To != member || q.Term != 1 || q.Over {
				return Promise{}, errors.New("a wrong question")
			}
			p := promise
			if p.Member = member; member == silent {
				return p, errDeclined
			} else if member == liar {
				p.Member = "db-9"
			}
			if member == "db-2" {
				p.Lasts = lasts
			}
			return p, nil
		}}
	}
	for _, tt := range []struct {
		name    string
		members askedMembers
		change  func(*failover.Record)
		mayName []string
		others  int
		least   time.Duration
		most    time.Duration
	}{
		{"all promise", say("", "", 6*time.Second), three, nil, 2, 4300 * time.Millisecond, 4500 * time.Millisecond},
		{"the shortest counts", say("", "", 4*time.Second), three, nil, 2, 3400 * time.Millisecond, 3500 * time.Millisecond},
		{"one is silent", say("db-2", "", 6*time.Second), three, nil, 2, 0, 0},
		{"another answers for one", say("", "db-1", 6*time.Second), three, nil, 2, 0, 0},
		{"one is silent that the Lease may name by now", say("db-2", "", 6*time.Second), nil, []string{"db-0", "db-2"}, 2, 0, 0},
		{"a set of one", say("", "", 0), func(r *failover.Record) { r.Members = []string{"db-0"} }, nil, 0, 4300 * time.Millisecond, 4500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, _ := newMember(t, "db-0", tt.members, tt.change)
			leadsNow(c, tt.members)
			c.line.seen.mayName = tt.mayName
			if asked, then := followed(t, c, tt.others, tt.least > 0); asked < tt.least || then > tt.most {
				t.Errorf("the permission lasts %v from before the question, %v from then; want %v to %v", asked, then, tt.least, tt.most)
			}
		})
	}
	t.Run("counted from before it asked", func(t *testing.T) {
		slow := say("", "", 6*time.Second)
		slow.follow = func(member string, _ Follow) (Promise, error) {
			time.Sleep(300 * time.Millisecond)
			return Promise{Member: member, Lasts: promise.Lasts}, nil
		}
		c, _, _ := newMember(t, "db-0", slow, three)
		leadsNow(c, slow)
		if asked, then := followed(t, c, 2, true); asked < 4200*time.Millisecond || then > 4500*time.Millisecond {
			t.Errorf("the permission lasts %v from before the question, %v from then", asked, then)
		}
	})
	t.Run("its server does not answer", func(t *testing.T) {
		c, _, _ := newMember(t, "db-0", say("", "", 6*time.Second), three)
		leadsNow(c, say("", "", 6*time.Second))
		c.lookedAt -= c.Timings.Unhealthy
		if got, _ := followed(t, c, 2, false); got != 0 {
			t.Errorf("the permission lasts %v from now on", got)
		}
	})
}

// A write that registers a member counts from before it is sent until it is known not to land.
func TestMayName(t *testing.T) {
	l, s := newLine(t)
	next := testRecord()
	next.Members = append(next.Members, "db-2")
	s.late = true
	if _, err := l.swap(t.Context(), l.view(), next); err == nil {
		t.Fatal("no answer is none")
	}
	if got := l.view().toFollow("db-0"); !slices.Equal(got, []string{"db-1", "db-2"}) {
		t.Errorf("asked are %q", got)
	}
	if _, err := l.swap(t.Context(), l.view(), *l.view().record); err != nil {
		t.Fatal(err)
	}
	if got := l.view().toFollow("db-0"); !slices.Equal(got, []string{"db-1"}) {
		t.Errorf("asked are %q, and the write never lands", got)
	}
}

// A promise is on the volume, forbids seeking and reports of all terms, begins anew with the process,
// and is ended by the leader that it was given to, or by time.
func TestPromiseBinds(t *testing.T) {
	q := Follow{From: "db-0", To: "db-1", Term: 1, Since: 7}
	report := func(c *Controller) error {
		c.settled = true
		_, err := c.Report(t.Context(), Ask{From: "db-1", To: "db-1", Term: 2})
		return err
	}
	late := func(c *Controller) { // the Lease was not renewed for long
		c.line.seen.beatAt -= time.Hour
		c.lookedAt = fence.Now()
	}
	give := func(t *testing.T) (*Controller, *memoryStore, *store) {
		t.Helper()
		c, memory, lease := newMember(t, "db-1", nil, nil)
		p, err := c.Follow(t.Context(), q)
		if err != nil || p.Member != "db-1" || p.Lasts != c.Timings.Duration || memory.m.Follows != 1 || memory.m.For != p.Lasts {
			t.Fatalf("%+v, %v; the volume has %+v", p, err, memory.m)
		}
		return c, memory, lease
	}
	t.Run("no report, no seeking", func(t *testing.T) {
		c, memory, lease := give(t)
		if err := report(c); !errors.Is(err, errBound) || memory.m.Promised != 1 {
			t.Errorf("error %v; the volume has %+v", err, memory.m)
		}
		late(c)
		if c.seek(t.Context(), c.line.view(), c.memory, true, false) || lease.n != 1 {
			t.Error("it seeks the Lease")
		}
		if _, ok := c.seeks(); ok {
			t.Error("it may seek the Lease")
		}
	})
	t.Run("a restart", func(t *testing.T) {
		_, memory, lease := give(t)
		c, _, _ := newMember(t, "db-1", nil, nil)
		c.recall(memory.m)
		if left := c.following(); left < c.Timings.Duration-time.Second {
			t.Errorf("it follows for %v", left)
		}
		if err := report(c); !errors.Is(err, errBound) {
			t.Errorf("error %v, the Lease is %+v", err, lease)
		}
	})
	t.Run("it ends", func(t *testing.T) {
		c, memory, lease := give(t)
		c.given.until = fence.Now()
		if err := c.expire(); err != nil || memory.m.Follows != 0 {
			t.Errorf("%+v, %v", memory.m, err)
		}
		late(c)
		if !c.seek(t.Context(), c.line.view(), c.memory, true, false) || lease.n != 2 {
			t.Error("it does not seek the Lease")
		}
	})
	t.Run("it is ended", func(t *testing.T) {
		c, _, _ := give(t)
		other := q
		other.Since, other.Over = 8, true
		if _, err := c.Follow(t.Context(), other); err != nil || c.following() == 0 {
			t.Errorf("by another leadership: %v", err)
		}
		done := q
		done.Over = true
		if _, err := c.Follow(t.Context(), done); err != nil || c.following() > 0 {
			t.Errorf("it still follows: %v", err)
		}
	})
	t.Run("it takes the Lease", func(t *testing.T) {
		c, _, _ := newMember(t, "db-1", nil, nil)
		done, ok := c.seeks()
		if !ok {
			t.Fatal("it may not")
		}
		if _, err := c.Follow(t.Context(), q); !errors.Is(err, errDeclined) {
			t.Errorf("error %v", err)
		}
		done()
		if _, err := c.Follow(t.Context(), q); err != nil {
			t.Error(err)
		}
	})
	t.Run("it has reported", func(t *testing.T) {
		c, memory, _ := newMember(t, "db-1", nil, nil)
		if err := c.remember(func(m *Memory) { m.Promised, m.Seen = 2, 2 }); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Follow(t.Context(), q); !errors.Is(err, errDeclined) || memory.m.Follows != 0 {
			t.Errorf("error %v; the volume has %+v", err, memory.m)
		}
	})
}

// Who cannot reach the API server reports what it has, and is not elected.
func TestCutOffIsNotElected(t *testing.T) {
	c, _, _ := newMember(t, "db-1", nil, nil)
	if r := c.describe(2, c.memory, State{}); r.Barred != "" {
		t.Errorf("barred: %s", r.Barred)
	}
	c.line.fail(errSilent)
	if r := c.describe(2, c.memory, State{}); r.Barred == "" {
		t.Error("it may lead")
	}
}

// Only once it is certain that its server is closed, a leader tells those who promised to follow it.
func TestAbsolve(t *testing.T) {
	told := make(chan Follow, 10)
	members := askedMembers{follow: func(member string, q Follow) (Promise, error) {
		if q.Over {
			told <- q
		}
		return Promise{Member: member, Lasts: 6 * time.Second}, nil
	}}
	c, _, _ := newMember(t, "db-0", members, nil)
	leadsNow(c, members)
	since := c.since
	followed(t, c, 1, true)
	c.state.Writable = true
	c.resign("a test")
	c.lookedAt = fence.Now()
	c.absolve(t.Context(), false)
	select {
	case q := <-told:
		t.Errorf("%+v, and its server is open", q)
	case <-time.After(50 * time.Millisecond):
	}
	c.state.Writable, c.lookedAt = false, fence.Now()
	c.absolve(t.Context(), false)
	select {
	case q := <-told:
		if q != (Follow{From: "db-0", To: "db-1", Term: 1, Since: since, Over: true}) {
			t.Errorf("%+v", q)
		}
	case <-time.After(time.Minute):
		t.Error("nobody was told")
	}
}

// What the members are is asked while Kubernetes takes its time to say who they are.
func TestMembersAreAskedMeanwhile(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	asked := make(chan string, 10)
	members := askedMembers{
		all:  func() []string { <-block; return nil },
		tell: func(member string) (Answer, error) { asked <- member; return Answer{Member: member}, nil },
	}
	c, _, _ := newMember(t, "db-0", members, nil)
	leadsNow(c, members)
	c.work = c.leading
	for range 3 {
		c.work.toldAt = 0
		c.tellAll(t.Context(), c.work)
		select {
		case <-asked:
		case <-time.After(time.Minute):
			t.Fatal("nobody is asked")
		}
		eventually(t, "all were asked", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return !c.work.telling
		})
	}
}
