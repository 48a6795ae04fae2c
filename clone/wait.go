package clone

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// wait is the time that a joiner may spend without a transfer. It stands still while a
// donor works for the joiner.
type wait struct {
	// ctx ends with ErrNoDonor once the time is spent.
	ctx   context.Context //nolint:containedctx // it is this very clock as a context
	spend context.CancelCauseFunc
	limit time.Duration

	mu    sync.Mutex
	used  time.Duration // without what has passed since
	since time.Time     // zero: it stands still
	timer *time.Timer
}

// newWait makes one that stands still. End it.
func newWait(ctx context.Context, limit time.Duration) *wait {
	w := &wait{limit: limit}
	w.ctx, w.spend = context.WithCancelCause(ctx)
	return w
}

// run lets the time pass. It may be called again.
func (w *wait) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		w.since = time.Now()
		w.timer = time.AfterFunc(w.limit-w.used, func() { w.spend(ErrNoDonor) })
	}
}

// stand stops it. It may be called again.
func (w *wait) stand() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.since.IsZero() {
		w.timer.Stop()
		w.used += time.Since(w.since)
		w.since = time.Time{}
	}
}

// spent is how much time has passed, and over whether that was all.
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

// waitLog says at an even pace what a joiner is waiting for.
type waitLog struct {
	log    *slog.Logger
	waited *wait

	mu     sync.Mutex
	reason error
}

func newWaitLog(log *slog.Logger, waited *wait) *waitLog { return &waitLog{log: log, waited: waited} }

// failed remembers why the last try failed, and says it when it is a new reason.
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
