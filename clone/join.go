package clone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"understudy/clone/failpoint"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/retry"
)

const (
	// maxBroken bounds consecutive broken streams.
	maxBroken = 3
	// sayEvery is the interval of log lines about waiting and progress.
	sayEvery = 10 * time.Second
	// maxAskPause bounds the Retry-After of a donor: another one may be free sooner.
	maxAskPause = 5 * time.Second
)

// ErrNoDonor is returned when no usable donor was found in time.
var ErrNoDonor = errors.New("no usable donor")

// Joiner clones a donor's data into an empty volume, or in place of existing data.
type Joiner struct {
	Volume *volume.Volume
	// Engines are the engines whose clones can be taken. The first one takes raw streams.
	Engines Engines
	Flavor  flavor.Flavor
	// Server is the version of the server that will run on the clone; nil when unknown.
	Server *flavor.Version
	// Ordinal is the member's own; Candidates are the others, in any order.
	Ordinal    int
	Candidates []Candidate
	// Connect are the settings for each candidate, except Addr.
	Connect wire.ClientConfig
	// Replace, when set, is why the clone replaces a complete live directory. The directory and its
	// journal stay until the clone is complete.
	Replace *volume.Request
	// Wait bounds the time without a transfer.
	Wait time.Duration
	// Memory is what Prepare may use, in bytes.
	Memory int64
	// Tell, when set, is called with the milestones of each clone.
	Tell func(Milestone)
	// Tracker has the progress of the clone.
	Tracker *Tracker
	Log     *slog.Logger
}

// Milestone is an event for people who do not read the log.
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

// Join returns once the clone is published. After a broken stream it tries again, with another
// donor if there is one; after the third broken stream in a row it returns ErrBroken. It waits for
// a donor, up to ErrNoDonor. It returns ErrRefused, with nothing written, when no clone fits.
func (j *Joiner) Join(ctx context.Context) error {
	tools, err := j.Engines.Versions(ctx)
	if err != nil {
		return err
	}
	writable := j.Volume.Writable()
	candidates := newPeers(j, func(n Need) error {
		free, err := j.Volume.Free()
		if err != nil {
			return err
		}
		return Check(n, Have{Engines: j.Engines, Tools: tools, Server: j.Server, Free: free, Writable: writable})
	})
	defer candidates.close()
	waited := newWait(ctx, j.Wait)
	defer waited.end()
	for broken := 0; ; {
		donor, stream, err := j.await(ctx, candidates, waited)
		if err != nil {
			return err
		}
		j.warn(donor)
		err = j.attempt(ctx, donor, stream)
		if err != nil {
			j.tell(true, "CloneFailed", "clone of %s: %v", donor.Name, err)
		}
		if err == nil || ctx.Err() != nil || !errors.Is(err, ErrBroken) {
			return err
		}
		donor.broken++
		if broken++; broken == maxBroken {
			return fmt.Errorf("%d times in a row: %w", maxBroken, err)
		}
		j.Log.Warn("clone will be tried again", "try", broken+1, "of", maxBroken, "error", err)
	}
}

// warn reports what the copy loses at its first start, as the donor's server would at its next one.
func (j *Joiner) warn(donor *peer) {
	if o := donor.member.Offer; o != nil && len(o.Loses) > 0 {
		j.Log.Warn("the copy begins without what every server loses when it starts", "donor", donor.Name, "loses", o.Loses)
		j.tell(true, "CloneIncomplete", "the copy of %s begins without what every server loses when it starts: %s", donor.Name, strings.Join(o.Loses, "; "))
	}
}

// await asks the candidates until one sends a suitable stream.
func (j *Joiner) await(ctx context.Context, candidates *peers, waited *wait) (chosen *peer, stream *wire.Stream, err error) {
	waited.run()
	defer waited.stand()
	w := newWaitLog(j.Log, waited)
	defer every(ctx, sayEvery, w.say)()
	err = retry.Do(waited.ctx, retry.Policy{Max: maxAskPause, Notify: w.failed}, func(waiting context.Context) error { //nolint:contextcheck // it comes from ctx, and ends with --wait
		candidates.ask(waiting)
		// The stream outlives the wait, so it gets the longer context.
		if chosen, stream = candidates.open(ctx, waited); stream != nil {
			return nil
		}
		retryAfter, err := candidates.failure()
		switch {
		case errors.Is(err, ErrRefused):
			return retry.Permanent(err)
		case retryAfter > 0:
			return retry.After(err, min(retryAfter, maxAskPause))
		}
		return err
	})
	if err != nil && ctx.Err() == nil && errors.Is(err, ErrNoDonor) {
		return nil, nil, fmt.Errorf("waited %v: %w", waited.spent().Round(time.Second), err)
	}
	return chosen, stream, err
}

// arrival is one stream on its way to the live directory.
type arrival struct {
	*Joiner
	donor   *peer
	stream  *wire.Stream
	engine  Engine
	staging string
	entry   volume.Journal
}

// attempt takes one stream all the way to the live directory.
func (j *Joiner) attempt(ctx context.Context, donor *peer, s *wire.Stream) error {
	defer func() { _ = s.Close() }() // tells the donor to stop, if it has not ended
	defer func() {
		j.Tracker.end()
		_ = j.Volume.RemoveProgress() // what is left is swept
	}()
	begun := time.Now()
	a := &arrival{Joiner: j, donor: donor, stream: s, entry: volume.Journal{
		Phase: volume.Transferring, ID: volume.NewID(), Donor: donor.Name, Engine: s.Header.Engine, ServerVersion: s.Header.ServerVersion,
	}}
	if err := a.record(); err != nil {
		return err
	}
	var err error
	if a.staging, err = j.Volume.NewStaging(a.entry.ID); err != nil {
		return err
	}
	if a.engine, err = j.Engines.For(s.Header); err != nil {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	} else if err = a.transfer(ctx); err == nil {
		err = a.prepare(ctx)
	}
	if err != nil {
		// The first error is the reason; the next run sweeps leftovers.
		return errors.Join(err, os.RemoveAll(a.staging))
	}
	entry := a.entry
	j.Log.Info("clone prepared", "id", entry.ID, "seconds", time.Since(begun).Seconds(), "origin", entry.Origin.String())
	if err := a.publish(); err != nil {
		return err
	}
	seconds := time.Since(begun).Seconds()
	j.tell(false, "CloneFinished", "cloned %s: %d MiB in %.0f s, %.0f MiB/s, prepared and published; replication begins at %s",
		entry.Donor, entry.Bytes>>20, seconds, float64(entry.Bytes>>20)/seconds, entry.Origin)
	j.Log.Info("clone published", "id", entry.ID, "donor", entry.Donor, "origin", entry.Origin.String())
	return nil
}

// record writes the journal. A clone that replaces data leaves their journal as it is.
func (a *arrival) record() error {
	if a.Replace != nil {
		return nil
	}
	return a.Volume.WriteJournal(a.entry)
}

// enter records the phase that the clone has reached.
func (a *arrival) enter(phase volume.Phase) error {
	a.entry.Phase = phase
	if err := a.record(); err != nil {
		return err
	}
	a.Tracker.enter(phase)
	return nil
}

// transfer brings the whole stream into the staging directory.
func (a *arrival) transfer(ctx context.Context) error {
	h := &a.stream.Header // Receive completes it for a raw stream
	a.Log.Info("clone started", "id", a.entry.ID, "donor", a.entry.Donor, "stream", h.StreamID, "engine", h.Engine,
		"server_version", h.ServerVersion, "role", h.Role, "estimated_bytes", h.EstimatedBytes)
	a.tell(false, "CloneStarted", "cloning %s, the %s, with %s: about %d MiB", a.entry.Donor, h.Role, h.Engine, h.EstimatedBytes>>20)
	meter := NewMeter(h.EstimatedBytes)
	a.Tracker.begin(a.entry.Donor, meter, a.stream.Resumed)
	a.note()
	stop := a.watchProgress(ctx, a.Log.With("id", a.entry.ID), a.entry.Donor, meter, a.donor.expiry())
	defer stop()
	failpoint.Hit("transferring")
	result, err := Incoming{a.stream, a.engine, a.Flavor, meter}.Receive(ctx, a.staging)
	stop()
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("the volume is full after %d MiB of about %d MiB: %w", meter.Now().Bytes>>20, h.EstimatedBytes>>20, err)
	}
	if err != nil {
		return fmt.Errorf("receive the clone of %s: %w", a.entry.Donor, err)
	}
	a.Log.Info("clone received", "id", a.entry.ID, "progress", meter.Now(), "digest", result.Digest)
	a.entry.Bytes, a.entry.Digest = result.Bytes, result.Digest
	a.entry.Engine, a.entry.ServerVersion = h.Engine, h.ServerVersion
	return a.enter(volume.Extracted)
}

// prepare makes the staging directory a copy that a server can start on.
func (a *arrival) prepare(ctx context.Context) error {
	if err := a.enter(volume.Preparing); err != nil {
		return err
	}
	a.note()
	o, err := Incoming{a.stream, a.engine, a.Flavor, nil}.Prepare(ctx, a.staging, a.Memory)
	if err != nil {
		return fmt.Errorf("prepare the clone of %s: %w", a.entry.Donor, err)
	}
	a.entry.Origin = &o
	failpoint.Hit("preparing")
	return nil
}

// publish makes the staging directory the live one.
func (a *arrival) publish() error {
	if a.Replace != nil {
		_, err := a.Volume.Swap(a.entry, *a.Replace)
		return err
	}
	if err := a.Volume.Secure(a.entry); err != nil {
		return err
	}
	_, err := a.Volume.Publish(a.entry)
	return err
}
