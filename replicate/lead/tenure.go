package lead

import (
	"context"
	"errors"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/guard"
)

// What the member does about its hold of the Lease: it renews it, gives it up, and drops a part that
// the Lease does not give any more.

// keepLease renews the Lease while this member holds it and its server answers, and reads it
// otherwise.
func (c *Controller) keepLease(ctx context.Context) {
	for {
		pause := c.Timings.Renew / 2
		v := c.line.view()
		if v.version != nil && c.renews(v) {
			pause = c.Timings.Renew
			switch sent, err := c.line.swap(ctx, v, *v.record); {
			case err == nil:
				c.extend(ctx, v.record.Term, sent)
			case errors.Is(err, errMoved): // by another write of this member, or by a read
				continue
			default:
				c.Log.Debug("the Lease was not renewed", "error", err)
				pause = c.Timings.Renew / 4
			}
		} else if err := c.line.read(ctx); err != nil {
			c.Log.Debug("the Lease was not read", "error", err)
		}
		poke(c.wakeWork)
		if !wait(ctx, pause, c.wakeLease) {
			return
		}
	}
}

// renews says that the Lease is this member's to renew.
func (c *Controller) renews(v view) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.record == nil || v.record.Holder != c.Name || v.record.Term != c.term {
		return false
	}
	switch c.part {
	case leader:
		return v.record.Phase == failover.Opened && !errors.Is(c.looked, ErrDead) && c.state.Boot == c.boot && fence.Now()-c.lookedAt < c.Timings.Unhealthy
	case candidate, heir:
		return v.record.Phase != failover.Opened
	}
	return false
}

// extend counts the permission from when a renewal was sent.
func (c *Controller) extend(ctx context.Context, term uint64, sent time.Duration) {
	c.mu.Lock()
	until := failover.Deadline(c.deadline, sent, c.Timings.Permission)
	if c.part == leader && c.term == term {
		c.renewed = sent
	}
	c.mu.Unlock()
	c.permit(ctx, term, until)
}

// permit has the permission last until then, at least.
func (c *Controller) permit(ctx context.Context, term uint64, until time.Duration) {
	c.mu.Lock()
	until = max(until, c.deadline)
	leads := c.part == leader && c.term == term
	if leads {
		c.deadline = until
	}
	fenced := c.fenced
	c.mu.Unlock()
	if leads && c.Fence != nil {
		ctx, cancel := context.WithTimeout(ctx, c.Timings.Request)
		defer cancel()
		if err := c.Fence.Arm(ctx, fenced, term, until); err != nil {
			c.Log.Warn("the fence was not extended", "error", err)
			switch {
			case errors.Is(err, fence.ErrBoot): // the work resigns, and releases the Lease: see compare
				c.mu.Lock()
				c.looked = ErrDead
				c.mu.Unlock()
				poke(c.wakeWork)
			case errors.Is(err, fence.ErrEnding):
				c.resign("its server has ended")
				poke(c.wakeWork)
			}
		}
	}
}

// watch ends a leader whose permission has ended.
func (c *Controller) watch(ctx context.Context) {
	for wait(ctx, workEvery/2, nil) {
		c.mu.Lock()
		over := c.part == leader && fence.Now() >= c.deadline && !guard.Lacks(guard.Timer)
		c.mu.Unlock()
		if over {
			c.resign("its permission has ended: the Lease was not renewed in time" + c.unpromised())
			c.shut(ctx, "its permission has ended")
		}
	}
}

// compare drops a part that the Lease does not give any more, and that of a leader whose server has
// died; true: it did.
func (c *Controller) compare(ctx context.Context, v view) bool {
	p, term := c.now()
	if p == follower || v.version == nil {
		return false
	}
	r := v.record
	switch {
	case c.goOn(ctx, v):
		return false
	case r == nil || r.Holder != c.Name || r.Term != term:
		c.resign("the Lease names another")
	case p == leader && r.Phase != failover.Opened, p == candidate && r.Phase != failover.Electing, p == heir && r.Phase != failover.Heir:
		c.resign("the Lease says that its term is " + string(r.Phase))
	case p == leader && c.died():
		c.resign("its server has died")
		c.hold(ctx, "its server has died: it waits for the next leader")
		c.releaseDead(ctx, v)
	case p != leader && c.refused():
		c.fail(ctx, v, "its server has died")
	default:
		return false
	}
	return true
}

// refused says that no server listens.
func (c *Controller) refused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.looked, ErrDead)
}

// releaseDead gives up the Lease of a leader whose server has died. That nobody listens is no
// proof: a server that shuts down goes on for a while. The fence has one, or the files that the
// server had locked, or another server that answers. Without one, the Lease runs out.
func (c *Controller) releaseDead(ctx context.Context, v view) {
	short, cancel := context.WithTimeout(ctx, min(closeTimeout, c.Timings.Duration/3)) // a Lease that is kept is renewed in time
	defer cancel()
	c.mu.Lock()
	fenced, another := c.fenced, c.looked == nil && c.state.Boot != c.boot
	c.mu.Unlock()
	switch {
	case c.Fence != nil:
		if fenced == "" {
			return
		}
		keep := c.shutDown(short, v.record.Term, fenced) && c.keeps(short, v)
		if err := c.Fence.Kill(short, fenced, "nobody listens any more"); err != nil && !c.crashed(short) {
			c.Log.Warn("it is not certain that the server is dead", "error", err)
			return
		}
		if keep {
			return
		}
	case c.crashed(short):
	case !another:
		return
	}
	if !another { // one that shut down may have acknowledged commits, and is to be elected at once
		c.standBack(v.record.Term)
	}
	c.absolve(ctx, true)
	c.release(ctx, v)
}

// crashed says that the server is dead, and did not shut down, which might have told clients that
// commits are done that no replica has: nobody listens, nobody has the files locked any more that it
// had locked when it led, and its binary log was not closed.
func (c *Controller) crashed(ctx context.Context) bool {
	c.mu.Lock()
	known := c.locks && errors.Is(c.looked, ErrDead)
	c.mu.Unlock()
	for known && ctx.Err() == nil {
		served, err := c.Store.Served()
		open := false
		if err == nil && !served {
			open, err = c.Store.LeftOpen()
		}
		if err != nil {
			c.Log.Warn("whether a server runs on the data directory is not known", "error", err)
		}
		if err != nil || !served {
			return open
		}
		// A process that ends closes its files one after the other.
		if !wait(ctx, workEvery/2, nil) {
			return false
		}
	}
	return false
}

// died says that the server that was opened does not run any more.
func (c *Controller) died() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.looked, ErrDead) || c.looked == nil && c.state.Boot != c.boot
}

// release gives the Lease up, and tells the others.
func (c *Controller) release(ctx context.Context, v view) {
	if _, err := c.line.swap(ctx, v, v.record.Release()); err != nil {
		c.Log.Warn("the Lease was not released", "error", err)
		return
	}
	c.wakeOthers(ctx, v.record.Members)
}

// wakeOthers has the members read the Lease at once. It waits for none of them, and neither do they
// for what has called it.
func (c *Controller) wakeOthers(ctx context.Context, members []string) {
	ctx = context.WithoutCancel(ctx)
	for _, m := range others(members, c.Name) {
		q := c.question(m)
		q.Wake = true
		go func() { _, _ = c.put(ctx, q) }()
	}
}

func (c *Controller) question(to string) Ask {
	q := Ask{From: c.Name, To: to}
	if r := c.line.view().record; r != nil {
		q.Term, q.Naming = r.Term, r.Naming
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.part == leader {
		q.Events = c.events
		if c.Mode == failover.Off {
			q.Position = c.state.Position
		}
	}
	return q
}
