package lead

import (
	"context"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// In mode required a leader's commits wait for a replica, and a clone of its server waits for its
// commits. Where no replica comes back but by that clone, neither ends. Then understudy run kills its
// server, so that no client is told that a waiting commit is done; the leader gives the Lease away,
// stands back, and gives a clone of the closed server:
//
//	what is seen                                                         what it does
//	-------------------------------------------------------------------  -----------------------------------
//	commits wait and no acknowledger is there, for standoffAfter, and    its server is killed, the Lease
//	a joiner has waited for the next byte for a third of that            given away; it stands back
//	the same for a sixth of that, and a clone has just been given up     the same
//	as it held off commits
//	the same, without understudy run                                     it says that a person has to kill
//	                                                                     the server; it stands back once that
//	                                                                     has crashed
//	it stands back, and its server recovers, or gives a clone            it is not elected
//	it stands back, and neither is so for standFor                       it may be elected again
//	it has given a whole clone                                           the same
//	another member has opened a term                                     the same
//
// Clones count that are given to other members. Elections go on meanwhile as ever: by the reports of
// the acknowledgers, or its own. A sidecar that restarts has forgotten that it stands back.

// standoff is a leader's, or that of a member that stands back. The zero value: there is none. Only
// the work goes by it.
type standoff struct {
	// term is that of the leader whose commits and whose clones wait for one another.
	term uint64
	// from is when the member stood back, 0: it does not; boot was its server then, and given how many
	// clones it had given. busy is when its server recovered, or gave a clone, last.
	from, busy time.Duration
	boot       string
	given      int
}

// Clones are those that a member gives of its server to other members.
type Clones struct {
	// Giving are those that are being given.
	Giving []Clone
	// Given is how many were given whole, HeldOff how many were given up as they held off commits for too
	// long.
	Given, HeldOff int
}

// Clone is one that is being given.
type Clone struct {
	Stream string
	// Age is for how long, Bytes what has been made of it.
	Age   time.Duration
	Bytes int64
	// Awaited says that the joiner is there, has all that has been made, and waits for more.
	Awaited bool
}

const (
	// standoffAfter is for how long commits wait without an acknowledger before a clone is taken for one
	// that waits for them: a pod that is made anew comes back sooner. mariadb-backup holds off commits
	// while it waits for them, and is ended; MySQL's clone holds off nothing, and makes no byte.
	standoffAfter = 30 * time.Second
	// justNow is for how long a clone has just been given up: the joiner's next try has not begun, or
	// has not got far. It has three.
	justNow = 2 * time.Second
	// standFor is how long a member that stands back waits for another one to ask for a clone.
	standFor = time.Minute
)

const standoffReason = "its commits wait for a replica, and the clone that a replica needs waits for them"

// tension is what a leader remembers of clones and of commits that wait.
type tension struct {
	// since is when commits began to wait without an acknowledger, 0: they do not. heldOff is
	// Clones.HeldOff, which has grown at heldOffAt.
	since, heldOffAt time.Duration
	heldOff          int
	// moved is when each clone made its last byte.
	moved map[string]motion
}

type motion struct {
	bytes int64
	at    time.Duration
}

// look notes what is seen, and says whether a clone waits for commits that have waited for long.
func (n *tension) look(clones Clones, waits bool, long time.Duration) bool {
	now := fence.Now()
	moved, stuck := map[string]motion{}, false
	for _, g := range clones.Giving {
		m, known := n.moved[g.Stream]
		if !known || m.bytes != g.Bytes {
			m = motion{g.Bytes, now}
		}
		moved[g.Stream] = m
		stuck = stuck || g.Awaited && now-m.at >= long/3
	}
	n.moved = moved
	if !waits || n.since == 0 {
		n.since, n.heldOffAt, n.heldOff = 0, 0, clones.HeldOff
	}
	switch {
	case !waits:
		return false
	case n.since == 0:
		n.since = now
	case n.heldOff != clones.HeldOff:
		n.heldOff, n.heldOffAt = clones.HeldOff, now
	}
	lasts := now - n.since
	return stuck && lasts >= long || lasts >= long/6 && n.heldOffAt > 0 && now-n.heldOffAt < justNow
}

// endStandoff is a part of a leader's step; true: it leads no more.
func (c *Controller) endStandoff(ctx context.Context, v view, state State) bool {
	l, r := c.work, *v.record
	waits := r.Mode == failover.Required && state.Held > 0 && l.none > 0
	if !waits {
		c.standoff = standoff{}
	}
	if !l.tension.look(c.Clones(), waits, c.standoffAfter) || v.away != "" { // without the API server nobody could be elected
		return false
	}
	if now, err := c.lookFor(ctx, lastLook); err != nil || now.Held == 0 || now.Boot != state.Boot {
		return false
	}
	known := c.standoff.term == r.Term
	c.standoff = standoff{term: r.Term}
	if c.Fence == nil {
		if !known {
			c.event(true, ReasonStandoff, "%s: kill the server with SIGKILL, then it gives a clone before it leads again", standoffReason)
		}
		return false
	}
	fenced, ok := c.stepsDown(l, standoffReason)
	if !ok {
		return true
	}
	c.event(true, ReasonStandoff, "%s: the server is killed, and gives a clone before it leads again", standoffReason)
	if c.endUseless(ctx, v, fenced, standoffReason) {
		c.standBack(r.Term)
		c.passOn(ctx, v, standoffReason)
	}
	return true
}

// standBack has a member stand back that has led a term, if that ended in a standoff.
func (c *Controller) standBack(term uint64) {
	s := &c.standoff
	if s.term != term {
		return
	}
	c.mu.Lock()
	s.boot = c.boot
	c.mu.Unlock()
	s.from, s.given = fence.Now(), c.Clones().Given
	s.busy = s.from
	c.standsBack(State{}, false)
}

// standsBack notes why the member is not elected yet, which led last.
func (c *Controller) standsBack(state State, fresh bool) {
	s := &c.standoff
	if s.from == 0 {
		return
	}
	now, clones, record := fence.Now(), c.Clones(), c.line.view().record
	why := "it led last, and waits for a member to ask for a clone before it leads again"
	if !fresh || state.Boot == s.boot {
		s.busy = now
	}
	for _, g := range clones.Giving {
		if g.Bytes > 0 && g.Age < now-s.from { // and not of the server that was killed
			s.busy = now
			why = "it led last, and gives a clone before it leads again"
		}
	}
	if clones.Given > s.given || now-s.busy >= standFor || record != nil && record.Last.Term != s.term {
		c.standoff, why = standoff{}, ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.standsFor = why
}

// StandsBack says why the member, which led last, is not elected yet; empty: it does not stand back.
func (c *Controller) StandsBack() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.standsFor
}
