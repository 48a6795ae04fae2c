package wire

import (
	"context"

	"golang.org/x/time/rate"
)

// Throttle bounds the bytes per second, as they travel, of all clones that a donor gives. Its
// methods may be called from any goroutine.
type Throttle struct{ limiter *rate.Limiter }

// MinRate is the lowest bound in bytes per second. Below it a joiner could not distinguish a slow
// donor from a dead one.
const MinRate = readSize / 4

// NewThrottle makes a bound; 0 means none.
func NewThrottle(bytesPerSecond int64) *Throttle {
	t := &Throttle{rate.NewLimiter(rate.Inf, readSize)}
	t.Set(bytesPerSecond)
	return t
}

// Set changes the bound, also for running clones; 0: none.
func (t *Throttle) Set(bytesPerSecond int64) {
	if bytesPerSecond == 0 {
		t.limiter.SetLimit(rate.Inf)
		return
	}
	t.limiter.SetLimit(rate.Limit(max(bytesPerSecond, MinRate)))
}

// wait returns when n bytes, at most readSize, may be sent.
func (t *Throttle) wait(ctx context.Context, n int) error {
	err := t.limiter.WaitN(ctx, n)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
