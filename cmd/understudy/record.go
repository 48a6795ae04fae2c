package main

import (
	"context"
	"errors"
	"sync"

	"understudy/clone/volume"
	"understudy/replicate/origin"
)

// record joins the volume's journal with what the agent asks of it.
type record struct {
	volume *volume.Volume
	// attach has to succeed before the member is recorded as attached.
	attach func(context.Context) error

	mu      sync.Mutex
	journal volume.Journal
}

var errNoJournal = errors.New("the volume has no journal: run understudy init on it first")

func newRecord(v *volume.Volume, attach func(context.Context) error) (*record, error) {
	j, err := v.ReadJournal()
	if err != nil {
		return nil, err
	}
	if j == nil {
		return nil, errNoJournal
	}
	return &record{volume: v, attach: attach, journal: *j}, nil
}

// Standing implements replicate.Record.
func (r *record) Standing() (initialising, attached bool, o *origin.Origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal.Phase == volume.Initialising, r.journal.Phase == volume.Attached, r.journal.Origin
}

// MarkComplete implements replicate.Record.
func (r *record) MarkComplete() error { return r.advance(volume.Published) }

// MarkAttached implements replicate.Record.
func (r *record) MarkAttached(ctx context.Context) error {
	if err := r.attach(ctx); err != nil {
		return err
	}
	return r.advance(volume.Attached)
}

func (r *record) advance(p volume.Phase) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.journal
	next.Phase = p
	if err := r.volume.WriteJournal(next); err != nil {
		return err
	}
	r.journal = next
	return nil
}

// Phase is the journal's phase.
func (r *record) Phase() volume.Phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.journal.Phase
}

// Adopted and ID never change while the sidecar runs.

// Adopted says that the directory was not made by us.
func (r *record) Adopted() bool { return r.journal.Adopted }

// ID is the clone's.
func (r *record) ID() string { return r.journal.ID }
