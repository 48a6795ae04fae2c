// Package retry is the one place that knows the traps of the backoff library.
package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Policy says how to wait between tries. The zero value waits from 0.5 s up to 15 s, each time a
// little less than twice as long, for as long as the context lives.
type Policy struct {
	// First is the first wait. 0 means 500 ms.
	First time.Duration
	// Max bounds a single wait. 0 means 15 s.
	Max time.Duration
	// Notify, when set, is called with each failed try and the wait that follows.
	Notify func(err error, wait time.Duration)
}

// permanent stops the retries; it unwraps to the error itself, whole.
type permanent struct{ err error }

func (p permanent) Error() string { return p.err.Error() }
func (p permanent) Unwrap() error { return p.err }

// Permanent marks an error that another try cannot repair. Wrap with context first and call
// Permanent last: Do returns err as it was given here.
func Permanent(err error) error { return permanent{err} }

// after asks for a wait other than the policy's.
type after struct {
	err  error
	wait time.Duration
}

func (a after) Error() string { return a.err.Error() }
func (a after) Unwrap() error { return a.err }

// After asks that the next try come in wait, as a server's Retry-After does.
func After(err error, wait time.Duration) error { return after{err, wait} }

// Do calls try until it succeeds, returns a Permanent error, or ctx ends. When ctx ends, the error
// joins the last real failure with the context's cause. try is not called at all when ctx has
// already ended.
func Do(ctx context.Context, p Policy, try func(context.Context) error) error {
	exp := p.backOff()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := try(ctx)
		if err == nil {
			return nil
		}
		if perm, ok := errors.AsType[permanent](err); ok {
			return perm.err
		}
		if ctx.Err() != nil {
			return ended(ctx, err)
		}
		wait := exp.NextBackOff()
		if a, ok := errors.AsType[after](err); ok {
			err, wait = a.err, a.wait
		}
		if p.Notify != nil {
			p.Notify(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ended(ctx, err)
		case <-timer.C:
		}
	}
}

// ended keeps the last real error, which says more than that time is up.
func ended(ctx context.Context, last error) error {
	return fmt.Errorf("%w: %w", context.Cause(ctx), last)
}

// backOff never shares state between calls, and never gives up by itself: the library's default
// stops after 15 minutes.
func (p Policy) backOff() *backoff.ExponentialBackOff {
	if p.First == 0 {
		p.First = 500 * time.Millisecond
	}
	if p.Max == 0 {
		p.Max = 15 * time.Second
	}
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(p.First),
		backoff.WithMaxInterval(p.Max),
		backoff.WithMultiplier(1.8),
		backoff.WithRandomizationFactor(0.2),
		backoff.WithMaxElapsedTime(0),
	)
}
