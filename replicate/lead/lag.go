package lead

import (
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// In mode off a leader's commits wait for nobody, so that what an heir lacks is known to nobody once
// the leader is gone. But the leader tells each member where it is, twice a second. The time from when
// it was told the newest position that it has to the leader's last sign of life, a word or a renewal,
// bounds what a failover may lose, but for what comes after that sign.

// pace is how a member keeps up with what its leader tells.
type pace struct {
	term uint64
	// next is a position that the member did not have when it was told, last the one that it was told
	// last, each with the time of that.
	next, last     string
	nextAt, lastAt time.Duration
	// sign is when a renewal of the term was seen last.
	sign time.Duration
	// level is when it was told the newest position that it has; 0: it has none of those.
	level time.Duration
}

// hearPosition notes where the leader is.
func (c *Controller) hearPosition(q Ask) {
	if q.Position == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.pace
	if p.term != q.Term {
		*p = pace{term: q.Term}
	}
	p.last, p.lastAt = q.Position, fence.Now()
	if p.next == "" {
		p.next, p.nextAt = p.last, p.lastAt
	}
	c.catchUp(c.state.Has)
}

// catchUp notes what the member has of what it was told. c.mu is held.
func (c *Controller) catchUp(has string) {
	p := &c.pace
	switch {
	case p.last != "" && c.contains(has, p.last):
		p.level, p.next = p.lastAt, ""
	case p.next != "" && c.contains(has, p.next):
		p.level, p.next, p.nextAt = p.nextAt, p.last, p.lastAt
	}
}

// seeRenewal notes that the term of an opened record was renewed.
func (c *Controller) seeRenewal(term uint64, at time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pace.term == term {
		c.pace.sign = at
	}
}

// lag is by how much this member is behind what its leader told it last; less than 0: that is not
// known. It counts in mode off.
func (c *Controller) lag(state State) time.Duration {
	if c.Mode != failover.Off {
		return state.Lag
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catchUp(state.Has)
	if c.pace.level == 0 {
		return -1
	}
	return max(c.pace.lastAt, c.pace.sign) - c.pace.level
}
