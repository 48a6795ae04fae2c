package lead

import (
	"context"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// In mode required a leader's commits wait for a replica, and a clone of its server waits for its
// commits. Where every other member has to be cloned from it, neither ends. Then understudy run
// kills its server, so that no client is told that a waiting commit is done; the leader gives the
// Lease away, stands back, and gives a clone of the closed server:
//
//	what is seen                                                       what it does
//	-----------------------------------------------------------------  -------------------------------------
//	commits wait, no acknowledger is there, and since then a clone     its server is killed, the Lease given
//	was given up as it held off commits, or has not gone on for        away; it stands back
//	standoffAfter
//	the same, without understudy run                                   it says that a person has to kill the
//	                                                                   server; it stands back once that died
//	it stands back, and gives a clone                                  it is not elected
//	it stands back, and nobody has asked for a clone for standFor      it may be elected again
//	it stands back, and the clone has ended, well or not               the same
//	it stands back, and another member has opened a term               the same
//
// Elections go on meanwhile as ever: by the reports of the acknowledgers, or its own.

// standoff is a leader's, or that of a member that stands back. The zero value: there is none.
type standoff struct {
	// term is that of the leader whose commits and whose clones wait for one another.
	term uint64
	// since is when the member stood back, 0: it does not. boot was its server then; gave says that it
	// has given a clone of the next one.
	since time.Duration
	boot  string
	gave  bool
}

// Clones are those that a member gives of its server.
type Clones struct {
	// Giving is how many it gives now, Bytes what has been made of them. HeldOff is how many it has
	// given up as they held off commits for too long.
	Giving  int
	Bytes   int64
	HeldOff int
}

const (
	// standoffAfter is how long a clone that does not go on is waited for: mariadb-backup holds off
	// commits while it waits for them, and is ended; MySQL's clone holds off nothing, and waits.
	standoffAfter = 10 * time.Second
	// standFor is how long a member that stands back waits for another one to ask for a clone.
	standFor = time.Minute
)

const standoffReason = "its commits wait for a replica, and the clone that a replica needs waits for them"

// endStandoff is a part of a leader's step; true: it leads no more.
func (c *Controller) endStandoff(ctx context.Context, v view, state State) bool {
	l, r := c.work, *v.record
	clones, now := c.Clones(), fence.Now()
	calm := r.Mode != failover.Required || state.Held == 0 || l.none == 0
	if heldOff := l.clones.HeldOff; calm || clones != l.clones {
		l.clones, l.clonesAt = clones, now
		if !calm {
			l.clones.HeldOff = heldOff
		}
	}
	if calm {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.standoff = standoff{}
		return false
	}
	if clones.HeldOff == l.clones.HeldOff && (clones.Giving == 0 || now-l.clonesAt < standoffAfter) {
		return false
	}
	c.mu.Lock()
	fenced, known := c.fenced, c.standoff.term == r.Term
	c.standoff = standoff{term: r.Term}
	c.mu.Unlock()
	if fenced == "" {
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
	c.standBack(r.Term)
	c.giveAway(ctx, v, fenced, standoffReason)
	return true
}

// standBack has a member stand back that has led a term, if that ended in a standoff.
func (c *Controller) standBack(term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.standoff.term == term {
		c.standoff.since, c.standoff.boot = fence.Now(), c.boot
	}
}

// StandsBack says why the member, which led last, is not elected yet; empty: it does not stand back.
func (c *Controller) StandsBack() string {
	r, gives := c.line.view().record, c.Clones().Giving > 0
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.standoff
	gives = gives && c.looked == nil && c.state.Boot != s.boot
	switch {
	case s.since == 0:
		return ""
	case r != nil && r.Last.Term != s.term: // another term was opened
	case gives:
		s.gave = true
		return "it led last, and gives a clone before it leads again"
	case !s.gave && fence.Now()-s.since < standFor:
		return "it led last, and waits for a member to ask for a clone before it leads again"
	}
	c.standoff = standoff{}
	return ""
}
