package clone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"understudy/clone/failpoint"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
	"understudy/replicate/retry"
)

const (
	// maxBroken is how many streams in a row may be broken.
	maxBroken = 3
	// sayEvery is how often waiting and progress are logged.
	sayEvery = 10 * time.Second
	// maxRetryAfter bounds how long a donor can make us wait before we look again.
	maxRetryAfter = 30 * time.Second
)

// ErrNoDonor is returned when no usable donor was found in time.
var ErrNoDonor = errors.New("no usable donor")

// Joiner clones a donor's data into an empty volume.
type Joiner struct {
	Volume *volume.Volume
	Engine Engine
	Flavor flavor.Flavor
	// Donor is who is asked; DonorName is its name for the journal.
	Donor     wire.ClientConfig
	DonorName string
	// Wait bounds the time spent without a transfer, waiting for a donor.
	Wait time.Duration
	// Memory is what the prepare may use, in bytes.
	Memory int64
	// Tell, when set, hears of the milestones of each clone.
	Tell func(Milestone)
	Log  *slog.Logger
}

// Milestone is what people want to know of a clone without reading the log.
type Milestone struct {
	// Reason is one word in CamelCase.
	Reason string
	// Text is a sentence, with numbers.
	Text   string
	Failed bool
}

func (j *Joiner) tell(failed bool, reason, format string, args ...any) {
	if j.Tell != nil {
		j.Tell(Milestone{Reason: reason, Text: fmt.Sprintf(format, args...), Failed: failed})
	}
}

// Join returns once the clone is published. It tries again when a stream breaks, up
// to ErrBroken three times in a row; waits for a donor, up to ErrNoDonor; and returns
// ErrRefused, with nothing written, when the clone cannot fit.
func (j *Joiner) Join(ctx context.Context) error {
	client := wire.NewClient(j.Donor)
	defer client.Close()
	tool, err := j.Engine.Version(ctx)
	if err != nil {
		return err
	}
	left := j.Wait
	for broken := 0; ; {
		begun := time.Now()
		stream, err := j.await(ctx, client, tool, left)
		if err != nil {
			return err
		}
		left -= time.Since(begun)
		err = j.attempt(ctx, stream)
		if err != nil {
			j.tell(true, "CloneFailed", "clone of %s: %v", j.DonorName, err)
		}
		if err == nil || ctx.Err() != nil || !errors.Is(err, ErrBroken) {
			return err
		}
		if broken++; broken == maxBroken {
			return fmt.Errorf("%d times in a row: %w", maxBroken, err)
		}
		j.Log.Warn("clone will be tried again", "try", broken+1, "of", maxBroken, "error", err)
	}
}

// await asks the donor until it sends a stream that can be used here.
func (j *Joiner) await(ctx context.Context, client *wire.Client, tool flavor.Version, patience time.Duration) (*wire.Stream, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, patience, ErrNoDonor)
	defer cancel()
	w := newWaitLog(j.Log, j.DonorName, client.Addr(), j.Wait)
	defer every(ctx, sayEvery, w.say)()
	var stream *wire.Stream
	err := retry.Do(waiting, retry.Policy{Max: sayEvery, Notify: w.failed}, func(context.Context) error {
		// The stream outlives the waiting, so it gets the longer context.
		s, err := client.Clone(ctx)
		if err != nil {
			if refused, ok := errors.AsType[*wire.RefusedError](err); ok && refused.RetryAfter > 0 {
				return retry.After(err, min(refused.RetryAfter, maxRetryAfter))
			}
			return err
		}
		if err := j.preflight(s.Header, tool); err != nil {
			return retry.Permanent(errors.Join(err, s.Close()))
		}
		stream = s
		return nil
	})
	if err != nil && ctx.Err() == nil && errors.Is(err, ErrNoDonor) {
		return nil, fmt.Errorf("waited %v for %s at %s: %w", patience.Round(time.Second), j.DonorName, client.Addr(), err)
	}
	return stream, err
}

// preflight decides from the donor's announcement, before the first byte is kept.
func (j *Joiner) preflight(h wire.Header, tool flavor.Version) error {
	if h.Engine != j.Engine.Name() {
		return fmt.Errorf("%w: the donor streams with %q, this member unpacks %q", ErrRefused, h.Engine, j.Engine.Name())
	}
	server, err := flavor.ParseServer(h.ServerVersion)
	if err != nil {
		return fmt.Errorf("%w: the donor's server: %w", ErrRefused, err)
	}
	if err := j.Engine.CheckPairing(tool, server); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if h.Origin != origin.GTID && h.Origin != origin.Position {
		return fmt.Errorf("%w: the donor announces no replication coordinate (%q)", ErrRefused, h.Origin)
	}
	free, err := j.Volume.Free()
	if err != nil {
		return err
	}
	if free.Bytes < h.EstimatedBytes {
		return fmt.Errorf("%w: the clone needs about %d MiB, the volume has %d MiB free", ErrRefused, h.EstimatedBytes>>20, free.Bytes>>20)
	}
	return nil
}

// attempt takes one stream all the way to the live directory.
func (j *Joiner) attempt(ctx context.Context, s *wire.Stream) error {
	defer func() { _ = s.Close() }() // tells the donor to stop, if it has not ended
	begun := time.Now()
	entry := volume.Journal{
		Phase: volume.Transferring, ID: volume.NewID(), Donor: j.DonorName, Engine: s.Header.Engine, ServerVersion: s.Header.ServerVersion,
	}
	if err := j.Volume.WriteJournal(entry); err != nil {
		return err
	}
	staging, err := j.Volume.NewStaging(entry.ID)
	if err != nil {
		return err
	}
	entry, err = j.fill(ctx, s, staging, entry)
	if err != nil {
		// The reason counts, whatever becomes of the leftovers: the next run sweeps them.
		return errors.Join(err, os.RemoveAll(staging))
	}
	if err := j.Volume.Secure(entry); err != nil {
		return err
	}
	if _, err = j.Volume.Publish(entry); err != nil {
		return err
	}
	seconds := time.Since(begun).Seconds()
	j.tell(false, "CloneFinished", "cloned %s: %d MiB in %.0f s, %.0f MiB/s, prepared and published; replication begins at %s",
		j.DonorName, entry.Bytes>>20, seconds, float64(entry.Bytes>>20)/seconds, entry.Origin)
	j.Log.Info("clone published", "id", entry.ID, "donor", j.DonorName, "origin", entry.Origin.String())
	return nil
}

// fill brings the staging directory to a prepared copy.
func (j *Joiner) fill(ctx context.Context, s *wire.Stream, staging string, entry volume.Journal) (volume.Journal, error) {
	begun := time.Now()
	j.Log.Info("clone started", "id", entry.ID, "donor", j.DonorName, "stream", s.Header.StreamID, "engine", entry.Engine,
		"server_version", entry.ServerVersion, "role", s.Header.Role, "estimated_bytes", s.Header.EstimatedBytes)
	j.tell(false, "CloneStarted", "cloning %s, the %s, with %s: about %d MiB", j.DonorName, s.Header.Role, entry.Engine, s.Header.EstimatedBytes>>20)
	meter := NewMeter(s.Header.EstimatedBytes)
	stop := meter.Watch(ctx, sayEvery, func(p Progress) { j.Log.Info("clone under way", "id", entry.ID, "progress", p) })
	defer stop()
	failpoint.Hit("transferring")
	result, err := Receive(ctx, s, staging, j.Engine, meter)
	stop()
	if errors.Is(err, syscall.ENOSPC) {
		return entry, fmt.Errorf("the volume is full after %d MiB of about %d MiB: %w", meter.Now().Bytes>>20, s.Header.EstimatedBytes>>20, err)
	}
	if err != nil {
		return entry, fmt.Errorf("receive the clone of %s: %w", j.DonorName, err)
	}
	j.Log.Info("clone received", "id", entry.ID, "progress", meter.Now(), "digest", result.Digest)
	entry.Bytes, entry.Digest = result.Bytes, result.Digest
	for _, phase := range []volume.Phase{volume.Extracted, volume.Preparing} {
		entry.Phase = phase
		if err := j.Volume.WriteJournal(entry); err != nil {
			return entry, err
		}
	}
	o, err := Prepare(ctx, staging, j.Engine, j.Memory, j.Flavor, s.Header)
	if err != nil {
		return entry, fmt.Errorf("prepare the clone of %s: %w", j.DonorName, err)
	}
	entry.Origin = &o
	failpoint.Hit("preparing")
	j.Log.Info("clone prepared", "id", entry.ID, "seconds", time.Since(begun).Seconds(), "origin", o.String())
	return entry, nil
}

// waitLog says at an even pace what a joiner is waiting for.
type waitLog struct {
	log   *slog.Logger
	begun time.Time
	limit time.Duration

	mu     sync.Mutex
	reason error
}

func newWaitLog(log *slog.Logger, donor, addr string, limit time.Duration) *waitLog {
	return &waitLog{log: log.With("donor", donor, "addr", addr), begun: time.Now(), limit: limit}
}

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
	w.log.Info("waiting for a donor", "waited", time.Since(w.begun).Round(time.Second), "at_most", w.limit, "reason", reason)
}
