package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errBusy = errors.New("busy")

func TestDoSucceedsAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries int
		var waits []time.Duration
		p := Policy{Notify: func(_ error, w time.Duration) { waits = append(waits, w) }}
		err := Do(t.Context(), p, func(context.Context) error {
			if tries++; tries < 4 {
				return errBusy
			}
			return nil
		})
		if err != nil || tries != 4 || len(waits) != 3 {
			t.Fatalf("err %v, %d tries, waits %v", err, tries, waits)
		}
		if waits[0] < 400*time.Millisecond || waits[2] < waits[0] {
			t.Errorf("waits do not grow: %v", waits)
		}
	})
}

func TestDoStopsAtPermanent(t *testing.T) {
	var tries int
	err := Do(t.Context(), Policy{}, func(context.Context) error {
		tries++
		return Permanent(errBusy)
	})
	if !errors.Is(err, errBusy) || tries != 1 {
		t.Errorf("err %v after %d tries", err, tries)
	}
}

func TestDoKeepsTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
		defer cancel()
		begin := time.Now()
		err := Do(ctx, Policy{}, func(context.Context) error { return errBusy })
		if !errors.Is(err, errBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		if got := time.Since(begin); got != 40*time.Minute {
			t.Errorf("gave up after %v", got)
		}
	})
}

func TestDoAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries int
		begin := time.Now()
		err := Do(t.Context(), Policy{}, func(context.Context) error {
			if tries++; tries == 1 {
				return After(errBusy, 42*time.Second)
			}
			return nil
		})
		if err != nil || time.Since(begin) != 42*time.Second {
			t.Errorf("err %v after %v", err, time.Since(begin))
		}
	})
}

func TestDoDoesNotTryWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Do(ctx, Policy{}, func(context.Context) error { t.Error("tried"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}
