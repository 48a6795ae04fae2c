package member

import (
	"context"
	"errors"
	"sync"
	"time"

	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate"
	"understudy/replicate/origin"
)

// Record is the member's journal as the agent reads and changes it.
type Record struct {
	volume *volume.Volume
	// attach has to succeed before the member is recorded as attached.
	attach func(context.Context) error
	// image says how far the server's image has made the data directory. It is called while the
	// journal's phase is initialising.
	image func(attempt int) replicate.Image

	mu      sync.Mutex
	journal volume.Journal
}

var (
	errNoJournal = errors.New("the volume has no journal: run understudy init on it first")
	errSwapping  = errors.New("a reseed was interrupted while it replaced the data directory: run understudy init, which finishes it, before the server starts")
)

// NewRecord reads the journal of the member's volume. Call WatchImage before Standing.
func (m *Member) NewRecord() (*Record, error) { return newRecord(m.Volume, m.Kube.attach) }

func newRecord(v *volume.Volume, attach func(context.Context) error) (*Record, error) {
	j, err := v.ReadJournal()
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, errNoJournal
	}
	if j.Phase == volume.Swapping {
		return nil, errSwapping
	}
	if complete := j.Phase == volume.Published || j.Phase == volume.Attached; complete && !j.Unchecked {
		_ = v.RemoveMarks() // a mark that is left would vouch for a copy of the directory
	}
	return &Record{volume: v, attach: attach, journal: *j}, nil
}

// WatchImage makes the image's state part of Standing.
func (r *Record) WatchImage(i *Image) { r.image = i.state }

// Standing implements replicate.Record.
func (r *Record) Standing() replicate.Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.journal
	var image replicate.Image
	if j.Phase == volume.Initialising {
		image = r.image(max(j.Attempt, 1))
	}
	return replicate.Recorded{
		Unchecked: j.Unchecked, Vouched: j.Unchecked && r.vouched(),
		Image: image, Paused: r.paused(), Initialising: j.Phase == volume.Initialising, Adopted: j.Adopted, Configured: j.Configured, Attached: j.Phase == volume.Attached, Origin: j.Origin,
		SemiSynced: j.SemiSynced, Parted: j.Parted,
	}
}

// paused says since when and why the member is paused. A pause that cannot be read counts as one.
func (r *Record) paused() string {
	switch p, err := r.volume.Pause(); {
	case err != nil:
		return "paused, and the pause cannot be read (understudy resume ends it): " + err.Error()
	case p == nil || p.Ended(time.Now()):
		return ""
	default:
		return p.String()
	}
}

// vouched says that a person says that the data directory is complete. What cannot be seen does
// not.
func (r *Record) vouched() bool {
	vouched, err := r.volume.Vouched()
	return err == nil && vouched
}

// MarkComplete implements replicate.Record.
func (r *Record) MarkComplete() error {
	if err := r.change(func(j *volume.Journal) { j.Phase, j.Attempt, j.Unchecked = volume.Published, 0, false }); err != nil {
		return err
	}
	return r.volume.RemoveMarks()
}

// MarkConfigured implements replicate.Record.
func (r *Record) MarkConfigured() error {
	return r.change(func(j *volume.Journal) { j.Configured = true })
}

// MarkAttached implements replicate.Record.
func (r *Record) MarkAttached(ctx context.Context) error {
	if err := r.attach(ctx); err != nil {
		return err
	}
	return r.change(func(j *volume.Journal) { j.Phase = volume.Attached })
}

// MarkFresh implements replicate.Record.
func (r *Record) MarkFresh(o origin.Origin) error {
	return r.change(func(j *volume.Journal) { j.Origin, j.Configured, j.Phase = &o, false, volume.Published })
}

// MarkSemiSynced implements replicate.Record.
func (r *Record) MarkSemiSynced() error {
	return r.change(func(j *volume.Journal) { j.SemiSynced = true })
}

// MarkParted implements replicate.Record.
func (r *Record) MarkParted(transactions string) error {
	return r.change(func(j *volume.Journal) { j.Parted = transactions })
}

func (r *Record) change(to func(*volume.Journal)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.journal
	to(&next)
	if err := r.volume.WriteJournal(next); err != nil {
		return err
	}
	r.journal = next
	return nil
}

// Phase is the journal's phase.
func (r *Record) Phase() volume.Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal.Phase
}

// KeepGTIDMode and ID never change while the sidecar runs.

// KeepGTIDMode says that the server keeps the GTID mode that it has.
func (r *Record) KeepGTIDMode() bool { return KeepsGTIDMode(&r.journal) }

// ID is that of the clone that the data came from.
func (r *Record) ID() string { return r.journal.ID }

// clone describes the clone that the data came from; nil without one.
func (r *Record) clone() *wire.Cloned {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.journal
	if j.ID == "" {
		return nil
	}
	return &wire.Cloned{
		ID: j.ID, Donor: j.Donor, Engine: j.Engine, ServerVersion: j.ServerVersion, Bytes: j.Bytes, Digest: j.Digest, Origin: j.Origin,
	}
}

// KeepsGTIDMode says whether a server keeps its GTID mode: in a directory that was not
// made by us, and in a copy of a set that replicates by file and position.
func KeepsGTIDMode(j *volume.Journal) bool {
	byPosition := j.Origin != nil && j.Origin.Mode != origin.GTID && j.Origin.Mode != origin.Executed
	return j.Adopted || j.KeepsGTIDMode || byPosition
}
