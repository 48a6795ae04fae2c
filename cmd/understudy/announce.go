package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"understudy/clone"
	"understudy/clone/wire"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// announce answers /v1/member and /metrics while init clones. The function it returns
// ends that. A port that is taken is no reason not to clone.
func (v *initVerb) announce(ctx context.Context, tracker *clone.Tracker, anew bool, config *tls.Config, log *slog.Logger) (stop func()) {
	listeners, err := listen(ctx, v.cloneListen, v.healthListen)
	if err != nil {
		log.Warn("the progress of the clone can be read in this log only", "error", err)
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	registry := prometheus.NewRegistry()
	registry.MustRegister(taking{tracker})
	serve(ctx, group, newHealth(registry).server(log), listeners[1])
	server := wire.NewServer(beingCloned{v, tracker, anew}, wire.ServerConfig{Slots: 1, Stall: v.transfer.stall, Grace: v.transfer.grace, Log: log})
	serveClones(ctx, group, server, config, listeners[0], 0)
	return func() {
		cancel()
		if err := group.Wait(); err != nil {
			log.Debug("the announcement ended", "error", err)
		}
	}
}

// beingCloned is what a member is to its peers while its init is at work.
type beingCloned struct {
	v       *initVerb
	tracker *clone.Tracker
	// anew says that it has data, which a clone is to replace.
	anew bool
}

// The phases of a member without data.
const (
	phaseEmpty   = "empty"
	phaseCloning = "cloning"
)

// Member implements wire.Donor.
func (b beingCloned) Member(context.Context) wire.Member {
	m := wire.Member{
		Name: b.v.member.podName, Role: role(b.v.member.first()), Phase: phaseEmpty, Flavor: string(b.v.member.flavor),
		Reason: "waiting for a donor", NoOffer: "it has no data yet",
	}
	if b.anew {
		m.Phase, m.NoOffer = phaseCloning, "it is being cloned anew"
	}
	if m.Cloning = b.tracker.Now(); m.Cloning != nil {
		m.Phase = phaseCloning
		m.Reason = "it is being cloned"
		m.NoOffer = fmt.Sprintf("it is being cloned from %s: %d %%", m.Cloning.Donor, m.Cloning.Percent)
	}
	return m
}

// Backup implements wire.Donor.
func (b beingCloned) Backup(ctx context.Context, _ string) (wire.Backup, error) {
	return wire.Backup{}, fmt.Errorf("%w: %s", wire.ErrNotServing, b.Member(ctx).NoOffer)
}
