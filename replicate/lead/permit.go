package lead

import (
	"context"
	"errors"
	"fmt"

	"understudy/replicate/fence"
)

// errNoPermit is returned where the Lease was not changed.
var errNoPermit = errors.New("whether failover is allowed is not changed")

// Permit forbids failover, or allows it.
type Permit struct {
	// To is who is asked: an address may be another's by now.
	To string `json:"to"`
	// Forbid says who forbids failover, and why; empty: it is allowed.
	Forbid string `json:"forbid,omitempty"`
}

// permitTries is how often Permit is tried while others change the Lease.
const permitTries = 10

// Permit writes into the Lease whether others than the last leader may be elected. The leader does,
// and where there is none, whoever is asked: a set in which failover is forbidden, and whose leader
// is gone, could not be helped otherwise. It changes nothing else of the record, so that each guard
// of an election holds as before; that it counts as a renewal costs the others one Lease duration.
func (c *Controller) Permit(ctx context.Context, p Permit) (Answer, error) {
	if p.To != c.Name {
		return Answer{}, fmt.Errorf("%w: this is %s", errNoPermit, c.Name)
	}
	for range permitTries {
		if err := c.line.read(ctx); err != nil {
			return Answer{}, fmt.Errorf("%w: %w", errNoPermit, err)
		}
		v := c.line.view()
		switch r := v.record; {
		case v.bad != nil:
			return Answer{}, fmt.Errorf("%w: %w", errNoPermit, v.bad)
		case r == nil || r.Term < c.remembered().Seen:
			return Answer{}, fmt.Errorf("%w: the Lease has no term record, or one that went back", errNoPermit)
		case r.NoFailover == p.Forbid:
			return Answer{Member: c.Name}, nil
		case r.Holder != "" && r.Holder != c.Name && fence.Now()-v.beatAt < c.Timings.Duration:
			return Answer{}, fmt.Errorf("%w: %s holds the Lease, ask it", errNoPermit, r.Holder)
		}
		next := *v.record
		next.NoFailover = p.Forbid
		if _, err := c.line.swap(ctx, v, next); err == nil {
			c.Log.Warn("whether failover is allowed was changed", "forbidden", p.Forbid)
			if p.Forbid == "" {
				c.event(false, ReasonFailoverAllowed, "failover is allowed again; it was forbidden: %s", v.record.NoFailover)
			} else {
				c.event(true, ReasonFailoverForbidden, "failover is forbidden until understudy failover --allow: %s", p.Forbid)
			}
			return Answer{Member: c.Name}, nil
		} else if !errors.Is(err, errMoved) {
			c.Log.Info("whether failover is allowed was not changed yet", "error", err)
		}
		if !wait(ctx, workEvery, nil) {
			break
		}
	}
	return Answer{}, fmt.Errorf("%w: the Lease was changed by others meanwhile", errNoPermit)
}
