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

// survey is what a donor remembers of its tool and its data.
type survey struct {
	toolMu sync.Mutex
	tool   *flavor.Version

	mu      sync.Mutex
	taken   engine.Inventory
	until   time.Time
	looking chan struct{} // closed when the look under way has ended; nil without one
}

// Member describes the member, and the clone that it would give now.
func (d *Donor) Member(ctx context.Context) wire.Member {
	m := d.Describe()
	h, err := d.announce(ctx)
	if err != nil {
		m.NoOffer = err.Error()
		return m
	}
	m.ServerVersion = h.ServerVersion
	ctx, cancel := context.WithTimeoutCause(ctx, surveyPatience, errLooking)
	defer cancel()
	inv, err := d.survey.inventory(ctx, d)
	if err != nil {
		m.NoOffer = err.Error()
		return m
	}
	m.DataBytes = inv.StreamBytes()
	m.Offer = &wire.Offer{
		Engine: h.Engine, ToolVersion: h.ToolVersion, Origin: h.Origin,
		StreamBytes: inv.StreamBytes(), NeededBytes: inv.NeededBytes(), Files: inv.Files,
		BinlogExpirySeconds: int64(inv.BinlogExpiry.Seconds()), CannotCarry: inv.CannotCarry, Encrypted: inv.Encryption,
	}
	return m
}

// announce says what a backup that is asked for now would be, but for its size.
func (d *Donor) announce(ctx context.Context) (wire.Header, error) {
	h, err := d.Serving()
	if err != nil {
		return h, err
	}
	server, err := flavor.ParseServer(h.ServerVersion)
	if err != nil {
		return h, err
	}
	tool, err := d.survey.version(ctx, d)
	if err != nil {
		return h, err
	}
	h.Engine, h.ToolVersion = d.Engine.Name(), tool.String()
	return h, d.Engine.CheckPairing(tool, server)
}

// version asks the tool once: it is part of the container's image.
func (s *survey) version(ctx context.Context, d *Donor) (flavor.Version, error) {
	s.toolMu.Lock()
	defer s.toolMu.Unlock()
	if s.tool == nil {
		tool, err := d.Engine.Version(ctx)
		if err != nil {
			return tool, err
		}
		s.tool = &tool
	}
	return *s.tool, nil
}

// inventory is at most surveyLife old. It takes as long as a look at the data, which all
// who ask share, or until ctx ends. What could not be found out is missing in it: a donor
// that does not know its size gives clones nevertheless.
func (s *survey) inventory(ctx context.Context, d *Donor) (engine.Inventory, error) {
	for {
		s.mu.Lock()
		if time.Now().Before(s.until) {
			defer s.mu.Unlock()
			return s.taken, nil
		}
		if s.looking == nil {
			s.looking = make(chan struct{})
			go s.look(context.WithoutCancel(ctx), d) // others wait for it, too
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

func (s *survey) look(ctx context.Context, d *Donor) {
	life := surveyLife
	inv, err := take(ctx, d)
	if err != nil {
		life = surveyRetry
		d.Engine.Log.Warn("the inventory of the data is incomplete", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.until = inv, time.Now().Add(life)
	close(s.looking)
	s.looking = nil
}

func take(ctx context.Context, d *Donor) (engine.Inventory, error) {
	account, err := d.Account()
	if err != nil {
		return engine.Inventory{}, fmt.Errorf("take an inventory: %w", err)
	}
	return engine.TakeInventory(ctx, account, d.Volume.Live())
}
