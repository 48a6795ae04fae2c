package lead

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// Which members the Lease names. Only the leader changes that.

// silentFor is for how long a member has not answered before its leader asks whether the set has been
// scaled down, and the time between two such questions.
const silentFor = time.Minute

// register adds a member to the Lease that answers, and follows.
func (c *Controller) register(ctx context.Context, v view) bool {
	c.mu.Lock()
	var fresh []string
	for m, h := range c.work.answers {
		if h.Receipt+h.Data != "" && !slices.Contains(v.record.Members, m) && fence.Now()-h.at < told {
			fresh = append(fresh, m)
		}
	}
	c.mu.Unlock()
	if fresh == nil || len(v.record.Members) >= failover.MaxMembers {
		return false
	}
	slices.Sort(fresh)
	err := c.Server.Accounts(ctx, fresh)
	if err == nil {
		_, err = c.line.swap(ctx, v, v.record.With(fresh))
	}
	c.did("register", fresh, err)
	return true
}

// unregister removes members that do not answer, and that the set is not to have any more: without
// the API server all registered members would have to promise. One that comes back is registered again.
func (c *Controller) unregister(ctx context.Context, v view) bool {
	silent := c.silent(*v.record)
	c.mu.Lock()
	l, now := c.work, fence.Now()
	gone := slices.DeleteFunc(l.scaledAway, func(m string) bool { return !slices.Contains(silent, m) })
	l.scaledAway = nil
	ask := len(gone) == 0 && len(silent) > 0 && now-l.scaleAskedAt >= c.silentFor
	if ask {
		l.scaleAskedAt = now
	}
	c.mu.Unlock()
	if ask {
		go func() {
			away, err := c.Members.ScaledAway(ctx, silent)
			if err != nil {
				c.Log.Debug("whether the set was scaled down is not known", "silent", silent, "error", err)
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			l.scaledAway = away
		}()
	}
	if len(gone) == 0 {
		return false
	}
	_, err := c.line.swap(ctx, v, v.record.Without(gone))
	c.did("scaled away: unregister", gone, err)
	return true
}

// barStrays bars members that the Lease does not register any more, and that may log in here: this leader
// has let them in before, or another one that led here. One that was cut off when the set was scaled down
// has its side on yet.
func (c *Controller) barStrays(ctx context.Context, r failover.Record) error {
	admitted, err := c.Server.Admitted(ctx)
	if err != nil {
		return err
	}
	for _, m := range admitted {
		if m == c.Name || slices.Contains(r.Members, m) || !sameSet(m, c.Name) {
			continue
		}
		if err := c.Server.Bar(ctx, m); err != nil {
			return err
		}
		c.Log.Warn("a member is barred that is registered no more", "member", m)
	}
	return nil
}

// sameSet says that two names are of one set: they differ in the number at their end only.
func sameSet(a, b string) bool {
	i, j := strings.LastIndexByte(a, '-'), strings.LastIndexByte(b, '-')
	if i < 0 || j < 0 || a[:i] != b[:j] {
		return false
	}
	_, err := strconv.Atoi(a[i+1:])
	return err == nil
}

// silent are the registered members that do not acknowledge, and have not answered for long.
func (c *Controller) silent(r failover.Record) (members []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range others(r.Members, c.Name) {
		if !named(r, m) && fence.Now()-max(c.work.answers[m].at, c.since) >= c.silentFor {
			members = append(members, m)
		}
	}
	return members
}
