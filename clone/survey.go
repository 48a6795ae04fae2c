package clone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/clone/engine"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

const (
	// surveyLife is how long an inventory is valid, so that many joiners cause one look at the
	// data.
	surveyLife = time.Minute
	// surveyRetry is surveyLife of an inventory that is incomplete, or says that no backup is
	// possible: an operator may have fixed it.
	surveyRetry = 5 * time.Second
	// surveyShare bounds both from below, as a multiple of the duration of the look: with hundreds
	// of thousands of tables, looks must not become most of the server's work.
	surveyShare = 10
	// surveyPatience is how long a peer that asks waits for an inventory. It is less than the
	// peer's timeout, because the peer may want other facts.
	surveyPatience = 3 * time.Second
)

var errLooking = fmt.Errorf("%w: it is still looking through its data: ask again", wire.ErrNotServing)

// choice is the engine for a server, with the version of its tool.
type choice struct {
	server, tool flavor.Version
	engine       DonorEngine
}

// survey caches what a donor knows about its engine and data.
type survey struct {
	chosenMu sync.Mutex
	chosen   *choice

	mu      sync.Mutex
	taken   engine.Inventory
	err     error // why the inventory is incomplete
	until   time.Time
	looking chan struct{} // closed when the current look ends; nil without one
}

// Member describes the member and the clone that it would give now.
func (d *Donor) Member(ctx context.Context) wire.Member {
	m := d.Describe()
	h, e, err := d.offer(ctx)
	if err != nil {
		return noOffer(m, err)
	}
	m.ServerVersion = h.ServerVersion
	inv, err := d.inventory(ctx, h, e)
	m.DataBytes = inv.StreamBytes()
	if err != nil {
		return noOffer(m, err)
	}
	m.Offer = &wire.Offer{
		Engine: h.Engine, ToolVersion: h.ToolVersion, Origin: h.Origin,
		StreamBytes: inv.StreamBytes(), NeededBytes: inv.NeededBytes(), Files: inv.Files,
		BinlogExpirySeconds: int64(inv.BinlogExpiry.Seconds()), CannotCarry: inv.CannotCarry, Loses: inv.Loses, Encrypted: inv.Encryption,
	}
	return m
}

// noOffer puts Backup's refusal into the member's facts.
func noOffer(m wire.Member, err error) wire.Member {
	m.Unable = errors.Is(answer(err), wire.ErrUnable)
	m.NoOffer = strings.TrimPrefix(err.Error(), wire.ErrNotServing.Error()+": ") // the asker adds these words
	return m
}

// inventory returns the inventory for a backup now. It fails when it is incomplete, and when no
// backup is possible.
func (d *Donor) inventory(ctx context.Context, h wire.Header, e DonorEngine) (engine.Inventory, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, surveyPatience, errLooking)
	defer cancel()
	inv, err := d.survey.inventory(ctx, func(ctx context.Context) (engine.Inventory, error) {
		account, err := d.login(ctx, h)
		if err != nil {
			return engine.Inventory{}, err
		}
		return e.Inventory(ctx, account, d.Volume.Live())
	}, d.Log)
	if err == nil {
		err = inv.Unable
	}
	return inv, err
}

// offer describes the backup that would be made now, except its size, and returns its engine.
func (d *Donor) offer(ctx context.Context) (wire.Header, DonorEngine, error) {
	h, err := d.Serving()
	if err != nil {
		return h, nil, err
	}
	server, err := flavor.ParseServer(h.ServerVersion)
	if err != nil {
		return h, nil, err
	}
	c, err := d.choose(ctx, server)
	if err != nil {
		return h, nil, err
	}
	if err := d.budget().holds(); err != nil { // sooner than at the locks, at the end of a transfer
		return h, nil, fmt.Errorf("%w: no backup can put anything aside: %w", wire.ErrNotServing, err)
	}
	h.Engine, h.ToolVersion = c.engine.Name(), c.tool.String()
	if h.Engine == engine.MySQLCloneName && h.Role == wire.Primary && h.Origin == origin.Position {
		h.Origin = origin.FirstBoot
	}
	return h, c.engine, nil
}

// choose asks each tool once for its version: tools are part of the container's image.
func (d *Donor) choose(ctx context.Context, server flavor.Version) (choice, error) {
	s := &d.survey
	s.chosenMu.Lock()
	defer s.chosenMu.Unlock()
	if s.chosen != nil && s.chosen.server == server {
		return *s.chosen, nil
	}
	var unfit error
	for _, e := range d.Engines {
		tool, err := e.Version(ctx)
		if err == nil {
			err = e.CheckPairing(tool, server)
		}
		if err != nil {
			unfit = both(unfit, err)
			continue
		}
		s.chosen = &choice{server: server, tool: tool, engine: e}
		d.logEngine(*s.chosen, unfit)
		return *s.chosen, nil
	}
	return choice{}, unfit
}

// logEngine logs why this engine was chosen.
func (d *Donor) logEngine(c choice, unfit error) {
	reason := "it copies this server"
	if unfit != nil {
		reason = "it copies this server, and what is preferred does not: " + unfit.Error()
	}
	d.Log.Info("backup engine chosen", "engine", c.engine.Name(), "tool_version", c.tool.String(), "server_version", c.server.String(), "reason", reason)
}

// inventory returns an inventory that is at most surveyLife old, or surveyShare times as old as its
// look took. All callers share one look and wait for it until ctx ends. An incomplete one is
// ErrNotServing, with what is known.
func (s *survey) inventory(ctx context.Context, look func(context.Context) (engine.Inventory, error), log *slog.Logger) (engine.Inventory, error) {
	for {
		s.mu.Lock()
		if time.Now().Before(s.until) {
			defer s.mu.Unlock()
			return s.taken, s.err
		}
		if s.looking == nil {
			s.looking = make(chan struct{})
			go s.look(context.WithoutCancel(ctx), look, log) // others may wait for it
		}
		looking := s.looking
		s.mu.Unlock()
		select {
		case <-looking:
		case <-ctx.Done():
			return engine.Inventory{}, context.Cause(ctx)
		}
	}
}

func (s *survey) look(ctx context.Context, look func(context.Context) (engine.Inventory, error), log *slog.Logger) {
	begun, life := time.Now(), surveyLife
	inv, err := look(ctx)
	if err != nil {
		log.Warn("the inventory of the data is not complete: no clones are given", "error", err)
		err = fmt.Errorf("%w: what a copy would lack is not known: %w", wire.ErrNotServing, err)
	}
	if err != nil || inv.Unable != nil {
		life = surveyRetry
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(inv.Loses) > 0 && !slices.Equal(inv.Loses, s.taken.Loses) {
		log.Warn("a copy begins without what every server loses when it starts", "loses", inv.Loses)
	}
	s.taken, s.err, s.until = inv, err, time.Now().Add(max(life, surveyShare*time.Since(begun)))
	close(s.looking)
	s.looking = nil
}
