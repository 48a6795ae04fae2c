package lead

import (
	"context"
	"errors"
	"time"

	"understudy/replicate/fence"
)

// keepLooking looks at the server.
func (c *Controller) keepLooking(ctx context.Context) {
	for {
		_, _ = c.look(ctx) // what it says is in the state
		if !wait(ctx, lookEvery, nil) {
			return
		}
	}
}

func (c *Controller) look(ctx context.Context) (State, error) { return c.lookFor(ctx, lookTimeout) }

// lookFor is look, with that long.
func (c *Controller) lookFor(ctx context.Context, long time.Duration) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	began := fence.Now()
	state, err := c.Server.Look(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if began < c.lookedAt {
		return state, err // a later look has ended before
	}
	if err != nil {
		c.looked = err
		if errors.Is(err, ErrDead) {
			poke(c.wakeWork)
		}
		return state, err
	}
	if c.state.Boot != state.Boot {
		poke(c.wakeWork)
	}
	c.state, c.looked, c.lookedAt = state, nil, began
	return state, nil
}

// seen is the last look, and whether it still counts.
func (c *Controller) seen() (State, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.lookedAt > 0 && !errors.Is(c.looked, ErrDead) && fence.Now()-c.lookedAt < c.Timings.Unhealthy
}
