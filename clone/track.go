package clone

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"understudy/clone/volume"
	"understudy/clone/wire"
)

// Tracker holds the progress of a joiner for others. The zero value is ready. Its methods may be
// called from any goroutine.
type Tracker struct {
	mu      sync.Mutex
	donor   string
	phase   volume.Phase
	meter   *Meter
	resumed func() int64
}

// Now describes the running clone; nil without one.
func (t *Tracker) Now() *wire.Cloning {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.meter == nil {
		return nil
	}
	p := t.meter.Now()
	return &wire.Cloning{
		Donor: t.donor, Phase: string(t.phase), Bytes: p.Bytes, Total: p.Total, Percent: p.Percent(),
		BytesPerSecond: p.BytesPerSecond, ETASeconds: int64(p.ETA.Seconds()), Resumed: t.resumed(),
	}
}

func (t *Tracker) begin(donor string, m *Meter, resumed func() int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.donor, t.phase, t.meter, t.resumed = donor, volume.Transferring, m, resumed
}

func (t *Tracker) enter(p volume.Phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = p
}

func (t *Tracker) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.meter = nil
}

// quarter is the step, in percent, of progress milestones.
const quarter = 25

// watchProgress reports progress in the log, in the progress file and as milestones, until stop is
// called.
func (j *Joiner) watchProgress(ctx context.Context, log *slog.Logger, donor string, meter *Meter, expiry time.Duration) (stop func()) {
	begun := time.Now()
	said, told, warned := begun, int64(0), false
	return meter.Watch(ctx, time.Second, func(p Progress) {
		if time.Since(said) >= sayEvery {
			said = time.Now()
			log.Info("clone under way", "progress", p)
		}
		if reached := p.Percent() / quarter; reached > told {
			told = reached
			j.tell(false, "CloneProgress", "%d %% of the clone of %s: %d of about %d MiB, %.0f MiB/s, %v left",
				reached*quarter, donor, p.Bytes>>20, p.Total>>20, p.BytesPerSecond/(1<<20), p.ETA)
		}
		if text := tooSlow(p, expiry, time.Since(begun)); text != "" && !warned {
			warned = true
			log.Warn("the clone may come too late", "reason", text)
			j.tell(true, "CloneSlow", "%s", text)
		}
		j.note()
	})
}

// note writes the progress file. Only people read it, so a failure is only logged.
func (j *Joiner) note() {
	if now := j.Tracker.Now(); now != nil {
		if err := j.Volume.WriteProgress(now); err != nil {
			j.Log.Debug("progress not written", "error", err)
		}
	}
}
