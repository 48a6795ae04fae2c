package lead

import (
	"context"
	"slices"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/flavor"
)

// A replica of MariaDB that follows by GTID acknowledges what it is sent, and a source sends nothing
// twice. So a commit that a replica has received with its side off, or whose acknowledgement was lost
// with the connection, waits until a later one is acknowledged; and while two wait, no later one is
// written. A leader lets such a commit go, once the Lease's acknowledgers say that they have executed
// it: that is more than an acknowledgement says.

// stuckAfter is for how long a commit has to wait before its leader asks.
const stuckAfter = 300 * time.Millisecond

// letGo lets commits go that wait though enough acknowledgers have executed them.
func (c *Controller) letGo(ctx context.Context, r failover.Record, state State) {
	l := c.work
	if c.Flavor != flavor.MariaDB || state.Held == 0 || !state.Waiting || len(r.Acknowledgers) == 0 {
		l.stuck = nil
		return
	}
	if fence.Now()-l.letGoAt < stuckAfter {
		return
	}
	l.letGoAt = fence.Now()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout+c.Timings.Request)
	defer cancel()
	ids, err := c.Server.Waits(ctx)
	if err != nil {
		c.Log.Debug("which commits wait is not known", "error", err)
		return
	}
	before := l.stuck
	l.stuck = ids
	ids = slices.DeleteFunc(slices.Clone(ids), func(id uint64) bool { return !slices.Contains(before, id) })
	if len(ids) == 0 {
		return
	}
	state, err = c.look(ctx) // after the list: what it names is within the position
	if err != nil {
		return
	}
	n := 0
	for _, a := range r.Acknowledgers {
		said, err := c.tell(ctx, a.Member)
		if err == nil && said.Receipt == a.Receipt && said.Follows == c.Name && c.contains(said.Executed, state.Position) {
			n++
		}
	}
	if n < r.Acknowledgments {
		return
	}
	if err := c.Server.LetGo(ctx, ids); err != nil {
		c.Log.Warn("commits that acknowledgers have executed wait yet", "commits", len(ids), "error", err)
		return
	}
	c.Log.Info("commits were let go whose acknowledgement did not come: acknowledgers have executed them", "commits", len(ids), "gtid", state.Position)
}
