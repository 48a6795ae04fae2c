package main

import (
	"context"
	"errors"
	"fmt"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
	"understudy/k8s"
)

// requested is the request for a reseed, or nil where it is refused: the member that led last may
// have the only data with all acknowledged commits. Where that is not known, no data are set aside.
func (v *initVerb) requested(ctx context.Context, m *member.Member, r *volume.Request) (*volume.Request, error) {
	remembered, err := m.Volume.ReadTerm()
	if err != nil || remembered.Opened == 0 { // it never led
		return r, err
	}
	var terms *k8s.Terms
	if m.Kube.Present() {
		if terms, err = v.kube.terms(m.Identity, stateTimeout, m.Log); err != nil {
			return r, err
		}
	}
	term, err := ledLast(ctx, m.Name, terms, remembered)
	if term == 0 && err == nil {
		return r, nil
	}
	why := fmt.Sprintf("it led last (term %d)", term)
	if err != nil {
		why = fmt.Sprintf("it led term %d, and whether another one led later is not known: %v", remembered.Opened, err)
	}
	m.Log.Warn("the request for a reseed is refused", "reason", why)
	m.Kube.Event(true, member.ReasonReseedRefused, "the request for a reseed is refused: "+why+"; nobody else may have all acknowledged commits: make another member the primary first, by understudy switchover")
	return nil, m.Volume.CloseRequest()
}

// reseed replaces the data of a member by a clone. If that fails, the member starts on its old
// data: they are complete, and a running member is worth more than one that waits.
func (v *initVerb) reseed(ctx context.Context, m *member.Member, facts volume.Facts) error {
	if err := m.Volume.Replaceable(); err != nil {
		return fmt.Errorf("%w to reseed the member: %w", clone.ErrRefused, err)
	}
	r := *facts.Request
	m.Log.Info("the member is being reseeded; its data stay in place until the clone is complete", "by", r.By, "reason", r.Reason, "errant", r.Errant)
	err := v.clone(ctx, m, facts, &r)
	if err == nil || ctx.Err() != nil || errors.Is(err, volume.ErrServerRuns) {
		return err
	}
	// After the exchange has begun, only the new data may start.
	if j, readErr := m.Volume.ReadJournal(); readErr != nil || j == nil || j.Phase != facts.Journal.Phase || j.ID != facts.Journal.ID {
		return errors.Join(err, readErr)
	}
	m.Log.Error("the reseed failed; the member starts on its old data", "error", err)
	m.Kube.Event(true, member.ReasonReseedGivenUp, fmt.Sprintf("the reseed failed, the old data stay: %v", err))
	return m.Volume.Sweep("")
}
