package main

import (
	"context"
	"errors"
	"fmt"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
)

// reseed replaces the data of a member by a clone. If that fails, the member starts on its old
// data: they are complete, and a running member is worth more than one that waits.
func (v *initVerb) reseed(ctx context.Context, m *member.Member, facts volume.Facts) error {
	if err := m.Volume.Replaceable(); err != nil {
		return fmt.Errorf("%w to reseed the member: %w", clone.ErrRefused, err)
	}
	r := *facts.Request
	m.Log.Info("the member is being reseeded; its data stay in place until the clone is complete", "by", r.By, "reason", r.Reason, "errant", r.Errant)
	err := v.clone(ctx, m, facts.Journal, &r)
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
