package lead

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// What the members do while the leader cannot renew the Lease: it asks all of them to follow it, and
// writes on for as long as each has promised that. docs/failover.md has the argument.

// Follow is a leader's question to a member: whether it follows.
type Follow struct {
	// From asks, To is who is asked.
	From string `json:"from"`
	To   string `json:"to"`
	// Term is the asker's, Since when it began to lead, on its own clock: another one for each time.
	Term  uint64        `json:"term"`
	Since time.Duration `json:"since"`
	// Over says instead that it writes no more in this term: no promise binds the member any more.
	Over bool `json:"over,omitempty"`
}

// Promise is a member's "I follow you": until that time has passed since it was asked, on its own
// clock, it neither seeks the Lease nor reports to an election, of whatever term. After a restart
// the time begins anew.
type Promise struct {
	Member string        `json:"member"`
	Lasts  time.Duration `json:"lasts"`
}

// promises are those that a leader was given. Guarded by Controller.mu.
type promises struct {
	// until is when the permission ends that each allows, silent why a member does not promise.
	until  map[string]time.Duration
	silent map[string]string
	asking map[string]bool
}

func newPromises() *promises {
	return &promises{until: map[string]time.Duration{}, silent: map[string]string{}, asking: map[string]bool{}}
}

// given is the promise of this member. Guarded by Controller.mu, but for what the memory says of it.
type given struct {
	to    Follow
	until time.Duration
	// seeking says that the member is about to take the Lease.
	seeking bool
}

// over is a leadership that has ended, of which the members have not heard.
type over struct {
	Follow
	members []string
	at      time.Duration
}

// errBound is returned where a promise to follow forbids what was asked for.
var errBound = errors.New("it has promised to follow")

// errDeclined is returned where the member does not promise to follow.
var errDeclined = errors.New("it does not promise to follow")

// keepFollowers asks the members to follow while the Lease is not renewed.
func (c *Controller) keepFollowers(ctx context.Context) {
	asks := false
	for wait(ctx, c.Timings.Renew/4, nil) {
		now := fence.Now() // before it is known whom the Lease may name
		v := c.line.view()
		due := c.overdue() && c.renews(v)
		if due != asks {
			if asks = due; due {
				c.Log.Warn("the Lease is not renewed: all members are asked to follow", "term", v.record.Term, "reason", v.away)
			} else if p, _ := c.now(); p == leader && !c.overdue() {
				c.Log.Info("the Lease is renewed again")
			}
		}
		if due {
			c.askToFollow(ctx, v, now)
		}
	}
}

// overdue says that this member leads, and that the Lease was not renewed for some time.
func (c *Controller) overdue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.part == leader && c.Timings.Overdue(fence.Now()-max(c.renewed, c.since))
}

// toFollow are the members without whose promise the leader does not go on: all that the Lease may
// name by now.
func (v view) toFollow(name string) []string {
	all := slices.Concat(v.record.Members, v.mayName)
	slices.Sort(all)
	return others(slices.Compact(all), name)
}

// askToFollow asks each member that is not being asked. A set of one asks nobody: no other may take
// the Lease.
func (c *Controller) askToFollow(ctx context.Context, v view, now time.Duration) {
	c.mu.Lock()
	l, term, since := c.leading, c.term, c.since
	c.mu.Unlock()
	if l == nil || term != v.record.Term {
		return
	}
	members := v.toFollow(c.Name)
	if len(members) == 0 {
		c.permit(ctx, term, now+c.Timings.Permission)
	}
	for _, m := range members {
		c.mu.Lock()
		busy := l.promises.asking[m]
		l.promises.asking[m] = true
		c.mu.Unlock()
		if busy {
			continue
		}
		go func() {
			c.askOne(ctx, l.promises, Follow{From: c.Name, To: m, Term: term, Since: since})
			wait(ctx, c.Timings.Renew/2, nil)
			c.mu.Lock()
			defer c.mu.Unlock()
			l.promises.asking[m] = false
		}()
	}
}

// askOne takes a member's promise in. It counts from before it was asked for.
func (c *Controller) askOne(ctx context.Context, p *promises, q Follow) {
	short, cancel := context.WithTimeout(ctx, c.Timings.Request)
	defer cancel()
	sent := fence.Now()
	said, err := c.Members.Follow(short, q.To, q)
	if err == nil && said.Member != q.To {
		err = fmt.Errorf("%s answers for %s", said.Member, q.To)
	}
	c.mu.Lock()
	if err == nil {
		p.until[q.To] = max(p.until[q.To], sent+c.Timings.Promised(said.Lasts))
		delete(p.silent, q.To)
	} else {
		p.silent[q.To] = err.Error()
	}
	c.mu.Unlock()
	if err != nil {
		c.Log.Debug("a member does not follow", "member", q.To, "term", q.Term, "error", err)
		return
	}
	c.prolong(ctx, p, q.Term)
}

// prolong extends the permission to what all promises together allow.
func (c *Controller) prolong(ctx context.Context, p *promises, term uint64) {
	v := c.line.view()
	if !c.renews(v) || v.record.Term != term {
		return
	}
	c.mu.Lock()
	until := time.Duration(0)
	for i, m := range v.toFollow(c.Name) {
		if allowed := p.until[m]; i == 0 || allowed < until {
			until = allowed
		}
	}
	extends := until > c.deadline
	c.mu.Unlock()
	if extends {
		c.permit(ctx, term, until)
	}
}

// unpromised says whose promise is missing, for people.
func (c *Controller) unpromised() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading == nil {
		return ""
	}
	var all strings.Builder
	for _, m := range slices.Sorted(maps.Keys(c.leading.promises.silent)) {
		fmt.Fprintf(&all, "; %s does not promise to follow: %s", m, c.leading.promises.silent[m])
	}
	return all.String()
}

// ends notes, with mu locked, that a leadership has ended that asked members to follow.
func (c *Controller) ends() {
	if c.part != leader || c.leading == nil || len(c.leading.promises.asking) == 0 {
		return
	}
	c.over = &over{Follow{From: c.Name, Term: c.term, Since: c.since, Over: true}, slices.Collect(maps.Keys(c.leading.promises.asking)), fence.Now()}
}

// absolve tells the members that promised to follow this member that it writes no more, once that is
// certain: closed says so, or a look at the server. For a term that has ended it opens no server
// again. Who does not hear of it waits until the promise ends.
func (c *Controller) absolve(ctx context.Context, closed bool) {
	c.mu.Lock()
	o := c.over
	if o != nil {
		closed = closed || c.looked == nil && c.lookedAt >= o.at && !c.state.Writable && c.state.Held == 0
		if closed || fence.Now()-o.at > c.Timings.Duration {
			c.over = nil
		}
	}
	c.mu.Unlock()
	if o == nil || !closed {
		return
	}
	ctx = context.WithoutCancel(ctx)
	for _, m := range o.members {
		go func() {
			short, cancel := context.WithTimeout(ctx, c.Timings.Request)
			defer cancel()
			q := o.Follow
			q.To = m
			if _, err := c.Members.Follow(short, m, q); err != nil {
				c.Log.Debug("a member has not heard that it need not follow any more", "member", m, "error", err)
			}
		}()
	}
}

// Follow is the member's answer to a leader that cannot renew the Lease. A promise is on the volume
// before it is given.
func (c *Controller) Follow(_ context.Context, q Follow) (Promise, error) {
	if q.To != c.Name {
		return Promise{}, fmt.Errorf("%w: this is %s", errDeclined, c.Name)
	}
	poke(c.wakeLease)
	if q.Over {
		c.mu.Lock()
		defer c.mu.Unlock()
		q.Over = false
		if c.given.to == q {
			c.given.until = 0
		}
		return Promise{Member: c.Name}, nil
	}
	step, why := failover.Decline, ""
	err := c.remember(func(m *Memory) {
		v := c.line.view()
		c.mu.Lock()
		defer c.mu.Unlock()
		s := failover.Stance{Seeks: c.given.seeking || v.unsure, Read: v.version != nil, Record: v.record}
		if c.part != follower {
			s.Part = string(c.part)
		}
		if step, why = failover.MayFollow(q.From, q.Term, m.volume(""), s); step != failover.Promise {
			return
		}
		m.Follows, m.For = q.Term, c.Timings.Duration
		c.given.to, c.given.until = q, max(c.given.until, fence.Now()+c.Timings.Duration)
	})
	switch {
	case err != nil:
		return Promise{}, err
	case step != failover.Promise:
		return Promise{}, fmt.Errorf("%w: %s", errDeclined, why)
	}
	return Promise{Member: c.Name, Lasts: c.Timings.Duration}, nil
}

// following is for how long the member has promised to follow yet. mu is locked.
func (c *Controller) following() time.Duration { return max(0, c.given.until-fence.Now()) }

// recall has a promise that the volume remembers begin anew: how much of it has passed is not known.
func (c *Controller) recall(m Memory) {
	if m.Follows > 0 {
		c.given.until = fence.Now() + m.For
	}
}

// expire forgets a promise that has ended.
func (c *Controller) expire() error {
	return c.remember(func(m *Memory) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.following() == 0 {
			m.Follows, m.For = 0, 0
		}
	})
}

// bound says that a promise forbids a report for a term. It is called while the memory is locked, so
// that no promise is given meanwhile.
func (c *Controller) bound(term uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := c.following(); left > 0 {
		return fmt.Errorf("%w %s for another %s, and does not report for term %d", errBound, c.given.to.From, left.Round(time.Millisecond), term)
	}
	return nil
}

// seeks notes that the member is about to take the Lease, until done is called; false: it has
// promised to follow meanwhile.
func (c *Controller) seeks() (done func(), ok bool) {
	c.remembering.Lock() // no promise is given meanwhile
	defer c.remembering.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.following() > 0 {
		return nil, false
	}
	c.given.seeking = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.given.seeking = false
	}, true
}
