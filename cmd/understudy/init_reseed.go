package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"understudy/clone"
	"understudy/clone/volume"
)

// reseed clones a member anew that has data. Where that cannot be done it is given up: the
// old data are complete, and a member that starts on them is worth more than one that waits.
func (v *initVerb) reseed(ctx context.Context, vol *volume.Volume, facts volume.Facts, pair tlsPair, kube *kube, log *slog.Logger) error {
	if err := vol.Replaceable(); err != nil {
		return fmt.Errorf("%w to clone the member anew: %w", clone.ErrRefused, err)
	}
	r := *facts.Request
	log.Info("the member is cloned anew; its data stay in place until the clone is complete", "by", r.By, "reason", r.Reason, "errant", r.Errant)
	err := v.clone(ctx, vol, facts.Journal, &r, pair, kube, log)
	if err == nil || ctx.Err() != nil || errors.Is(err, volume.ErrServerRuns) {
		return err
	}
	// Once the swap has begun, there is no way but forward.
	if j, readErr := vol.ReadJournal(); readErr != nil || j == nil || j.Phase != facts.Journal.Phase || j.ID != facts.Journal.ID {
		return errors.Join(err, readErr)
	}
	log.Error("the member is not cloned anew, and starts on its old data", "error", err)
	kube.event(true, "ReseedGivenUp", fmt.Sprintf("not cloned anew, the old data stay: %v", err))
	return vol.Sweep("")
}
