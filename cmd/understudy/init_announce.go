package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"understudy/clone"
	"understudy/clone/wire"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// announce answers /v1/member and /metrics while init clones. The function it returns
// ends that. A port that is taken is no reason not to clone.
func (v *initVerb) announce(ctx context.Context, tracker *clone.Tracker, anew bool, config *tls.Config, kube *kube, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { v.watchPrimary(ctx, tracker, kube); return nil })
	stop = func() {
		cancel()
		if err := group.Wait(); err != nil {
			log.Debug("the announcement ended", "error", err)
		}
	}
	listeners, err := listen(ctx, v.cloneListen, v.healthListen)
	if err != nil {
		log.Warn("the progress of the clone can be read in this log only", "error", err)
		return stop
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(taking{tracker})
	serve(ctx, group, newHealth(registry).server(log), listeners[1])
	server := wire.NewServer(beingCloned{v, tracker, anew, kube.signs.note}, wire.ServerConfig{Slots: 1, Stall: v.transfer.stall, Grace: v.transfer.grace, Log: log})
	serveClones(ctx, group, server, config, listeners[0], 0)
	return stop
}

// watchPrimary looks at the first ordinal's pod while no clone is under way: in a set that has not
// begun nobody else has data to give.
func (v *initVerb) watchPrimary(ctx context.Context, tracker *clone.Tracker, kube *kube) {
	tick := time.NewTicker(primaryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			kube.signs.lookAtPrimary(ctx, kube, &v.member, tracker.Now() == nil)
		}
	}
}

// beingCloned is what a member is to its peers while its init is at work.
type beingCloned struct {
	v       *initVerb
	tracker *clone.Tracker
	// anew says that it has data, which a clone is to replace.
	anew bool
	// note is what is wrong with the first ordinal's pod.
	note func() string
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
		Reason: withNote("waiting for a donor", b.note()), NoOffer: "it has no data yet",
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
