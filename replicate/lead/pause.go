package lead

import (
	"context"
	"fmt"

	"understudy/replicate/failover"
)

// A paused member keeps its part in the term, and what the Lease wants of its server waits:
//
//	what                                                        while it is paused
//	----------------------------------------------------------  ------------------
//	the Lease is renewed, reports are given, votes are counted  goes on
//	an open server that may not be open any more                is closed
//	commits do not wait though the Lease names acknowledgers    the Lease names none
//	a replica acknowledges that is no member                    the Lease names none
//	somebody replays a binary log with GTIDs of MySQL           the Lease's ledger has them
//	it is elected                                               never
//	a leader opens its server again that a hand has closed      waits
//	acknowledgers, accounts, both sides of semi-sync            wait
//	a planned change                                            is refused

func (c *Controller) paused() string {
	if c.Paused == nil {
		return ""
	}
	return c.Paused()
}

// leaveAlone is a step of a leader that is paused. Nothing is done to its server; that the Lease
// promises no more than what holds is no matter of the server.
func (c *Controller) leaveAlone(ctx context.Context, v view, state State, why string) {
	c.work.plan = nil // each step of a plan may be the last
	select {
	case s := <-c.switches:
		s.done <- fmt.Errorf("%w: %s is %s; understudy resume ends that", errNoSwitch, c.Name, why)
	default:
	}
	if _, wrote := c.shun(ctx, v, state); wrote || c.adopt(ctx, v, state) {
		return
	}
	if r := *v.record; r.Mode != failover.Off && len(r.Acknowledgers) > 0 && !state.Waiting {
		_, err := c.line.swap(ctx, v, r.Empty())
		c.did("commits do not wait, and it is paused: empty the set", nil, err)
	}
}
