package lead

import (
	"context"
	"fmt"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// What only a member has that may not lead, such as one that is paused, the heir receives from it
// before it opens. That member has reported: it receives nothing any more, and what it has stays
// what it was.

// fetching is what an heir receives from another member.
type fetching struct {
	from, needs string
	// has is what the heir had last, since since when.
	has   string
	since time.Duration
}

// fetchPatience is for how long nothing may come before the members are asked again.
const fetchPatience = 10 * time.Second

// fetches says that the heir is receiving what it lacks. Its own report would end that.
func (c *Controller) fetches() bool {
	state, fresh := c.seen()
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.fetching
	if f == nil {
		return false
	}
	if fresh && state.Has != f.has {
		f.has, f.since = state.Has, fence.Now()
	}
	if !fresh || !c.contains(state.Has, f.needs) && state.Receiving && fence.Now()-f.since < fetchPatience {
		return true
	}
	c.fetching = nil
	return false
}

// fetch begins to receive what the heir lacks, once it has executed what it has.
func (c *Controller) fetch(ctx context.Context, r failover.Record, reports []failover.Report, own failover.Report) {
	from, ok := failover.Sender(r, reports, c.Name)
	if !ok || !c.contains(own.Executed, own.Has) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if c.lock(ctx) != nil {
		return
	}
	defer c.unlock()
	if p, term := c.now(); p != heir || term != r.Term || c.remembered().Promised != r.Term { // it has reported for a later one
		return
	}
	if err := c.Server.Fetch(ctx, c.HostOf(from.Member)); err != nil {
		c.Log.Warn("what another member has is not received yet", "member", from.Member, "error", err)
		return
	}
	c.Log.Info("it receives what only another member has", "term", r.Term, "member", from.Member, "gtid", from.Has)
	_, _ = c.look(ctx) // what it says is in the state
	c.mu.Lock()
	c.fetching = &fetching{from: from.Member, needs: from.Has, has: own.Has, since: fence.Now()}
	c.mu.Unlock()
	c.be(ctx, Role{Hold: fmt.Sprintf("no leader: term %d: it receives from %s what only that has", r.Term, from.Member)})
}

// stopFetching ends that for an heir that gives up.
func (c *Controller) stopFetching(ctx context.Context) {
	c.mu.Lock()
	under := c.fetching != nil
	c.fetching = nil
	c.mu.Unlock()
	if !under {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.Server.StopReceiving(ctx); err != nil {
		c.Log.Warn("the receiver of an heir that gave up was not stopped", "error", err) // its next report does
	}
}

// endFetch removes what an heir that gave up has received over, once that is executed.
func (c *Controller) endFetch(ctx context.Context, state State) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if state.Executed != state.Has || c.lock(ctx) != nil {
		return
	}
	defer c.unlock()
	if err := c.Server.EndFetch(ctx); err != nil {
		c.Log.Warn("the channel of an heir that gave up is not removed yet", "error", err)
	}
	_, _ = c.look(ctx) // what it says is in the state
}
