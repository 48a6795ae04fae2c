package lead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
)

// errNoFence is why a server is not opened that nobody could end.
var errNoFence = errors.New("understudy run, which is to end it, does not answer")

// fencedFrom says why the server could not be opened, before anything is done to it: nobody is there to
// end it.
func (c *Controller) fencedFrom(ctx context.Context) error {
	if c.Fence == nil {
		return nil
	}
	if _, err := c.Fence.Boot(ctx); err != nil {
		return fmt.Errorf("its server is not opened, as %w: %w; start the server by understudy run, or give --fence=sidecar", errNoFence, err)
	}
	return nil
}

// keepFenced asks understudy run whether it is there. A leader does not: it extends its permission.
func (c *Controller) keepFenced(ctx context.Context) {
	if c.Fence == nil {
		return
	}
	for {
		if p, _ := c.now(); p != leader {
			c.tryFence(ctx)
		}
		if !wait(ctx, tryEvery, nil) {
			return
		}
	}
}

func (c *Controller) tryFence(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.Timings.Request)
	defer cancel()
	_, err := c.Fence.Boot(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unfenced, c.unfencedBefore = err, c.unfenced
}

// mayNotLead says why the member may neither be elected nor promoted; who is only unfenced may
// acknowledge.
func (c *Controller) mayNotLead(state State) string { return cmp.Or(c.barred(state), c.fenceTrouble()) }

// fenceTrouble says why nobody could end the member's server, so that it may not lead.
func (c *Controller) fenceTrouble() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unfenced == nil || c.unfencedBefore == nil { // once may be a container that starts
		return ""
	}
	return fmt.Sprintf("%v: %v", errNoFence, c.unfenced)
}
