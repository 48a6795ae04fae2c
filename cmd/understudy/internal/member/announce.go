package member

import (
	"context"
	"fmt"
	"time"

	"understudy/clone"
	"understudy/clone/wire"

	"golang.org/x/sync/errgroup"
)

// Announcement configures what a member serves while its init clones.
type Announcement struct {
	// CloneListen is the address of /v1/member, HealthListen that of /metrics.
	CloneListen, HealthListen string
	// Stall and Grace are the timeouts of the clone server, which gives no clones meanwhile.
	Stall, Grace time.Duration

	Tracker *clone.Tracker
	// Reseed says that the member has data, which the clone is to replace.
	Reseed bool
	Health *Health
}

// Announce serves /v1/member and /metrics while init clones. The function that it returns ends
// that. If a port is taken, init clones without serving.
func (m *Member) Announce(ctx context.Context, a Announcement) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { m.watchPrimary(ctx, a.Tracker); return nil })
	stop = func() {
		cancel()
		if err := group.Wait(); err != nil {
			m.Log.Debug("the announcement ended", "error", err)
		}
	}
	listeners, err := Listen(ctx, a.CloneListen, a.HealthListen)
	if err != nil {
		m.Log.Warn("the progress of the clone is in this log only", "error", err)
		return stop
	}
	a.Health.registry.MustRegister(Taking{a.Tracker})
	Serve(ctx, group, a.Health.Server(m.Log), listeners[1])
	server := wire.NewServer(beingCloned{m, a.Tracker, a.Reseed}, wire.ServerConfig{Slots: 1, Stall: a.Stall, Grace: a.Grace, Log: m.Log})
	m.ServeClones(ctx, group, server, listeners[0], 0)
	return stop
}

// watchPrimary looks at the first ordinal's pod while no clone is running: in a new set only the
// first ordinal can have data.
func (m *Member) watchPrimary(ctx context.Context, tracker *clone.Tracker) {
	tick := time.NewTicker(PrimaryEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.Kube.LookAtPrimary(ctx, tracker.Now() == nil)
		}
	}
}

// beingCloned answers other members while init is at work.
type beingCloned struct {
	member  *Member
	tracker *clone.Tracker
	// reseed says that it has data, which a clone is to replace.
	reseed bool
}

// The phases of a member without data.
const (
	PhaseEmpty   = "empty"
	PhaseCloning = "cloning"
)

// Member implements wire.Donor.
func (b beingCloned) Member(context.Context) wire.Member {
	m := wire.Member{
		Name: b.member.Name, Role: Role(b.member.IsFirst()), Phase: PhaseEmpty, Flavor: string(b.member.Flavor),
		Reason: withNote("waiting for a donor", b.member.Kube.Note()), NoOffer: "it has no data yet",
	}
	if b.reseed {
		m.Phase, m.NoOffer = PhaseCloning, "it is being reseeded"
	}
	if m.Cloning = b.tracker.Now(); m.Cloning != nil {
		m.Phase = PhaseCloning
		m.Reason = "it is being cloned"
		m.NoOffer = fmt.Sprintf("it is being cloned from %s: %d %%", m.Cloning.Donor, m.Cloning.Percent)
	}
	return m
}

// Backup implements wire.Donor.
func (b beingCloned) Backup(ctx context.Context, _ wire.Ask) (wire.Backup, error) {
	return wire.Backup{}, fmt.Errorf("%w: %s", wire.ErrNotServing, b.Member(ctx).NoOffer)
}
