package clone

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// wait bounds the time that a joiner spends without a transfer. Its clock stands still while a
// donor works for the joiner.
type wait struct {
	// ctx ends with ErrNoDonor when the time is over.
	ctx   context.Context //nolint:containedctx // the clock as a context
	spend context.CancelCauseFunc
	limit time.Duration

	mu    sync.Mutex
	used  time.Duration // without the time since since
	since time.Time     // zero: the clock stands still
	timer *time.Timer
}

// newWait makes a wait whose clock stands still. Call end.
func newWait(ctx context.Context, limit time.Duration) *wait {
	w := &wait{limit: limit}
	w.ctx, w.spend = context.WithCancelCause(ctx)
	return w
}

// run starts the clock. It may be called again.
func (w *wait) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		w.since = time.Now()
		w.timer = time.AfterFunc(w.limit-w.used, func() { w.spend(ErrNoDonor) })
	}
}

// stand stops the clock. It may be called again.
func (w *wait) stand() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		w.timer.Stop()
		w.used += time.Since(w.since)
		w.since = time.Time{}
	}
}

// spent is the used time; over says whether it has reached the bound.
func (w *wait) spent() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		return w.used
	}
	return w.used + time.Since(w.since)
}

func (w *wait) over() bool { return w.ctx.Err() != nil }

func (w *wait) end() {
	w.stand()
	w.spend(context.Canceled)
}

// waitLog logs at an even pace what a joiner waits for.
type waitLog struct {
	log    *slog.Logger
	waited *wait

	mu     sync.Mutex
	reason error
}

func newWaitLog(log *slog.Logger, waited *wait) *waitLog { return &waitLog{log: log, waited: waited} }

// failed notes the error of the last attempt, and logs it when it is new.
func (w *waitLog) failed(err error, _ time.Duration) {
	w.mu.Lock()
	news := w.reason == nil || w.reason.Error() != err.Error()
	w.reason = err
	w.mu.Unlock()
	if news {
		w.say()
	}
}

func (w *waitLog) say() {
	w.mu.Lock()
	defer w.mu.Unlock()
	reason := w.reason
	if reason == nil {
		reason = errors.New("no answer yet")
	}
	w.log.Info("waiting for a donor", "waited", w.waited.spent().Round(time.Second), "at_most", w.waited.limit, "reason", reason)
}
