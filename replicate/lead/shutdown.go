package lead

import (
	"context"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// A server that shuts down by itself, by SQL or a signal that understudy run has not sent, may tell
// clients that their commits are done although no replica has them: MySQL does so, see
// docs/semisync.md. Its data directory has them. So a leader whose server has shut down keeps the
// Lease until its server is back, and then begins the election itself: the heir has what it has.

// kept is a leadership that is kept for a server that has shut down.
type kept struct {
	term    uint64
	since   time.Duration
	renewed time.Duration
}

const (
	// keepFor is how long the Lease is kept for a server that has shut down; then the others elect.
	keepFor = 15 * time.Second
	// keepRenewed is the time between two renewals meanwhile.
	keepRenewed = time.Second
)

// shutDown says that the leader's server has shut down by itself, and notes it.
func (c *Controller) shutDown(ctx context.Context, term uint64, fenced string) bool {
	c.mu.Lock()
	noted := c.kept.term == term
	c.mu.Unlock()
	if noted {
		return true
	}
	is, err := c.Fence.ShutDown(ctx, fenced)
	if err != nil {
		c.Log.Warn("how the server ended is not known", "error", err)
	}
	if !is {
		return false
	}
	c.Log.Warn("the leader's server has shut down by itself: the Lease is kept for it, as clients may have been told of commits that no replica has", "term", term)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = kept{term: term, since: fence.Now()}
	return true
}

// keeps says that the Lease is kept for this member's server, and renews it.
func (c *Controller) keeps(ctx context.Context, v view) bool {
	c.mu.Lock()
	k := c.kept
	now := fence.Now()
	keep := k.term == v.record.Term && v.record.Phase == failover.Opened && now-k.since < keepFor && (c.end.why == "" || c.end.boot != c.boot)
	due := keep && now-k.renewed >= keepRenewed
	if due {
		c.kept.renewed = now
	}
	c.mu.Unlock()
	if due {
		if _, err := c.line.swap(ctx, v, *v.record); err != nil {
			c.Log.Warn("the Lease is not kept", "error", err)
		}
	}
	return keep
}

// electAfter begins the election after a term that was kept for this member's server, which is back.
func (c *Controller) electAfter(ctx context.Context, v view, state State) bool {
	if !c.keeps(ctx, v) {
		return false
	}
	if c.barred(state) != "" { // it may be over before the Lease is not kept any more
		return true
	}
	if _, err := c.line.swap(ctx, v, c.unplanned(v).Seek(c.Name)); err != nil {
		c.Log.Info("the Lease was not taken", "error", err)
	}
	return true
}
