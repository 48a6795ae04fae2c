package lead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"understudy/replicate/fence"
)

// A leader of no use gives the Lease away, if another member could lead:
//
//	its volume takes no writes for Timings.Disk       commits may wait for the disk for ever; if nobody
//	                                                  else could lead, it goes on: it can be read
//	its server waits for room that is there again     it would go on after a minute
//	its server does not answer for Timings.Unhealthy  where understudy run can end it; otherwise, and if
//	                                                  nobody else could lead, its permission ends: it
//	                                                  does not renew the Lease any more
//
// Its server is ended before: one that hangs after a last look that has longer.

// othersFirst is by how much later a leader acts than a member says that its volume takes no writes:
// where all stand, nobody could lead.
const othersFirst = 2 * time.Second

// keepUseful has a leader give the Lease away that is of no use.
func (c *Controller) keepUseful(ctx context.Context) {
	for wait(ctx, lookEvery, nil) {
		c.yield(ctx)
	}
}

func (c *Controller) yield(ctx context.Context) {
	c.mu.Lock()
	l := c.leading
	c.mu.Unlock()
	if l == nil {
		return
	}
	c.tellAll(ctx, l) // the work may be waiting for the volume, or the server
	stands, waits, hangs := c.diskTroubleFor(c.Timings.Disk+othersFirst), c.waitsForRoom(ctx), c.hangs()
	v := c.line.view()
	if stands+waits+hangs == "" || c.paused() != "" || v.record == nil || v.unsure || v.away != "" { // it could not be given away
		return
	}
	if f := c.Status().Forecast; f == nil || !f.Possible || f.After > 0 {
		if stands != "" {
			c.goesOn(stands)
		}
		return
	}
	why := cmp.Or(stands, waits)
	if why == "" {
		if _, err := c.lookFor(ctx, lastLook); !timedOut(err) {
			return
		}
		why = hangs
	}
	fenced, ok := c.stepsDown(l, why)
	if !ok {
		return
	}
	if why != hangs {
		c.event(true, ReasonVolumeStands, "%s; it gives the Lease away", why)
	}
	if c.endUseless(ctx, v, fenced, why) {
		c.passOn(ctx, v, why)
	}
}

// stepsDown resigns the leadership l, whose server the fence knows as fenced; false: it has been resigned before.
func (c *Controller) stepsDown(l *leading, why string) (fenced string, ok bool) {
	c.mu.Lock()
	if c.leading != l {
		c.mu.Unlock()
		return "", false
	}
	fenced = c.fenced
	before, term := c.resigns()
	c.mu.Unlock()
	c.hasResigned(before, term, why)
	return fenced, true
}

// passOn releases the Lease of a leader that has stepped down, and whose server has ended.
func (c *Controller) passOn(ctx context.Context, v view, why string) {
	c.hold(ctx, why)
	c.absolve(ctx, true)
	c.release(ctx, v)
	_, _ = c.look(ctx) // what it says is in the state
}

// endUseless ends the server of a leader that gives the Lease away; false: it is not known to have
// ended, or it has shut down after all, see shutDown.
func (c *Controller) endUseless(ctx context.Context, v view, fenced, why string) bool {
	if v.record.Holder != c.Name {
		return false
	}
	if fenced == "" { // without understudy run a server in which commits wait is not closed: its permission ends
		return c.shut(ctx, why)
	}
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := c.Fence.Kill(ctx, fenced, why); err != nil {
		c.Log.Warn("the server is not ended yet", "error", err)
		return false
	}
	return !c.shutDown(ctx, v.record.Term, fenced) || !c.keeps(ctx, v)
}

// lastLook is for how long a server is looked at that is about to be ended as it hangs.
const lastLook = 2 * time.Second

// hangs says since when the server has not answered in time, once that is too long. One that refuses
// does not hang.
func (c *Controller) hangs() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := fence.Now() - c.lookedAt
	if c.Fence == nil || c.fenced == "" || !timedOut(c.looked) || since < c.Timings.Unhealthy {
		return ""
	}
	return fmt.Sprintf("its server has not answered for %.0f s", since.Seconds())
}

// timedOut says that a look had no answer in time.
func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// goesOn says, once, that a leader goes on whose volume takes no writes.
func (c *Controller) goesOn(why string) {
	c.mu.Lock()
	before := c.disk.told
	c.disk.told = true
	c.mu.Unlock()
	if !before {
		c.Log.Warn("it goes on leading: nobody else could", "reason", why)
		c.event(true, ReasonVolumeStands, "%s; it goes on leading: nobody else could", why)
	}
}
