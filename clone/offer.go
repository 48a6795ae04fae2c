package clone

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"understudy/clone/engine"
	"understudy/clone/wire"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

const (
	// surveyLife is how long an inventory is taken for true: many joiners that ask at
	// once cost one look at the data.
	surveyLife = time.Minute
	// surveyRetry is the same for one that is incomplete.
	surveyRetry = 5 * time.Second
	// surveyPatience is how long a peer that asks is kept waiting for it: less than it
	// waits, for it may want to know something else.
	surveyPatience = 3 * time.Second
)

var errLooking = errors.New("it is still looking through its data: ask again")

// choice is the engine for a server, and its tool's version.
type choice struct {
	server, tool flavor.Version
	engine       DonorEngine
}

// survey is what a donor remembers of its engine and its data.
type survey struct {
	chosenMu sync.Mutex
	chosen   *choice

	mu      sync.Mutex
	taken   engine.Inventory
	until   time.Time
	looking chan struct{} // closed when the look under way has ended; nil without one
}

// Member describes the member, and the clone that it would give now.
func (d *Donor) Member(ctx context.Context) wire.Member {
	m := d.Describe()
	h, e, err := d.announce(ctx)
	if err != nil {
		m.NoOffer = err.Error()
		return m
	}
	m.ServerVersion = h.ServerVersion
	ctx, cancel := context.WithTimeoutCause(ctx, surveyPatience, errLooking)
	defer cancel()
	inv, err := d.survey.inventory(ctx, d, e)
	if err != nil {
		m.NoOffer = err.Error()
		return m
	}
	m.DataBytes = inv.StreamBytes()
	if inv.Unable != nil {
		m.NoOffer = inv.Unable.Error()
		return m
	}
	m.Offer = &wire.Offer{
		Engine: h.Engine, ToolVersion: h.ToolVersion, Origin: h.Origin,
		StreamBytes: inv.StreamBytes(), NeededBytes: inv.NeededBytes(), Files: inv.Files,
		BinlogExpirySeconds: int64(inv.BinlogExpiry.Seconds()), CannotCarry: inv.CannotCarry, Encrypted: inv.Encryption,
	}
	return m
}

// announce says what a backup that is asked for now would be, but for its size, and what
// would make it.
func (d *Donor) announce(ctx context.Context) (wire.Header, DonorEngine, error) {
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
	if err := d.budget().holds(); err != nil { // better now than at the locks, at the end of a transfer
		return h, nil, fmt.Errorf("%w: no backup can put anything aside: %w", wire.ErrNotServing, err)
	}
	h.Engine, h.ToolVersion = c.engine.Name(), c.tool.String()
	if h.Engine == engine.MySQLCloneName && h.Role == wire.Primary && h.Origin == origin.Position {
		h.Origin = origin.FirstBoot
	}
	return h, c.engine, nil
}

// choose asks each tool once for its version: it is part of the container's image.
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
		d.explain(*s.chosen, unfit)
		return *s.chosen, nil
	}
	return choice{}, unfit
}

// explain says in one line why this engine.
func (d *Donor) explain(c choice, unfit error) {
	reason := "it copies this server"
	if unfit != nil {
		reason = "it copies this server, and what is preferred does not: " + unfit.Error()
	}
	d.Log.Info("backup engine chosen", "engine", c.engine.Name(), "tool_version", c.tool.String(), "server_version", c.server.String(), "reason", reason)
}

// inventory is at most surveyLife old. It takes as long as a look at the data, which all
// who ask share, or until ctx ends. What could not be found out is missing in it: a donor
// that does not know its size gives clones nevertheless.
func (s *survey) inventory(ctx context.Context, d *Donor, e DonorEngine) (engine.Inventory, error) {
	for {
		s.mu.Lock()
		if time.Now().Before(s.until) {
			defer s.mu.Unlock()
			return s.taken, nil
		}
		if s.looking == nil {
			s.looking = make(chan struct{})
			go s.look(context.WithoutCancel(ctx), d, e) // others wait for it, too
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

func (s *survey) look(ctx context.Context, d *Donor, e DonorEngine) {
	life := surveyLife
	inv, err := take(ctx, d, e)
	if err != nil {
		life = surveyRetry
		d.Log.Warn("the inventory of the data is incomplete", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.until = inv, time.Now().Add(life)
	close(s.looking)
	s.looking = nil
}

func take(ctx context.Context, d *Donor, e DonorEngine) (engine.Inventory, error) {
	account, err := d.Account(ctx)
	if err != nil {
		return engine.Inventory{}, fmt.Errorf("take an inventory: %w", err)
	}
	return e.Inventory(ctx, account, d.Volume.Live())
}
