package clone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"understudy/clone/engine"
	"understudy/clone/volume"
	"understudy/clone/wire"
)

// DonorEngine is what a donor needs of a backup engine.
type DonorEngine interface {
	Identity
	// Inventory examines the server and its data directory dir. If it returns an error, the
	// inventory is incomplete and it is unknown what a copy would lack.
	Inventory(ctx context.Context, a engine.Account, dir string) (engine.Inventory, error)
	// Backup starts a backup, which ends with ctx. It calls reached, one call at a time, at each
	// stage. dir is an empty directory for working files, which the caller removes. ErrBusy and
	// ErrNoRoom of package engine, also from a process that ends before its first byte, mean that a
	// later attempt may succeed.
	Backup(ctx context.Context, a engine.Account, dir string, reached func(engine.Stage)) (*engine.Process, error)
}

// directEngine is a DonorEngine with a better kind of stream for joiners that know its name.
type directEngine interface {
	DirectName() string
	// BackupDirect is Backup with that kind of stream.
	BackupDirect(ctx context.Context, a engine.Account, dir string, reached func(engine.Stage)) (*engine.Process, error)
}

// Donor gives clones of the server beside it. It is a wire.Donor.
type Donor struct {
	Volume *volume.Volume
	// Engines are the permitted engines in order of preference. The first one whose tool is
	// installed and copies the server is used.
	Engines []DonorEngine
	// Account is called for each backup, because passwords change.
	Account func(ctx context.Context) (engine.Account, error)
	// Ready, when set, has the server ready for a backup that is about to begin.
	Ready func(ctx context.Context) error
	// Describe returns the member's current facts.
	Describe func() wire.Member
	// Serving returns the role and kind of origin with which the member may give a clone now. An
	// error that wraps wire.ErrNotServing says why it may not.
	Serving func() (wire.Header, error)
	// MaxCommitBlock is how long a backup may keep a primary from committing.
	MaxCommitBlock time.Duration
	// MinFree is how many bytes stay free on the volume when backups spool there. No backup begins
	// with less.
	MinFree int64
	Log     *slog.Logger

	survey survey
	once   sync.Once
	aside  *budget // what all spools together may take on the volume
}

// Backup starts a backup of the member's server. It fails with wire.ErrNotServing when the member
// may not give a clone, or when it is unknown what a copy would lack, and with wire.ErrUnable when
// the copy would not be whole.
func (d *Donor) Backup(ctx context.Context, ask wire.Ask) (wire.Backup, error) {
	h, e, err := d.offer(ctx)
	if err != nil {
		return wire.Backup{}, answer(err)
	}
	account, err := d.login(ctx, h)
	if err != nil {
		return wire.Backup{}, err
	}
	inv, err := d.inventory(ctx, h, e)
	if err != nil {
		return wire.Backup{}, answer(err)
	}
	if len(inv.CannotCarry) > 0 {
		return wire.Backup{}, fmt.Errorf("%w: a physical copy would not be whole: %s", wire.ErrUnable, strings.Join(inv.CannotCarry, ", "))
	}
	if d.Ready != nil {
		if err := d.Ready(ctx); err != nil {
			return wire.Backup{}, fmt.Errorf("%w: %w", wire.ErrNotServing, err)
		}
	}
	h.EstimatedBytes, h.NeededBytes = inv.StreamBytes(), inv.NeededBytes()
	backup := e.Backup
	if direct, ok := e.(directEngine); ok {
		if slices.Contains(ask.Engines, direct.DirectName()) {
			h.Engine, backup = direct.DirectName(), direct.BackupDirect
		} else {
			d.Log.Info("the joiner does not know the direct way of this engine: the clone takes longer, and room on this volume", "engine", h.Engine, "stream", ask.StreamID)
		}
	}
	work, err := d.Volume.NewBackup(ask.StreamID)
	if err != nil {
		return wire.Backup{}, err
	}
	return d.start(ctx, h, backup, account, work)
}

// backupFunc is DonorEngine.Backup.
type backupFunc func(ctx context.Context, a engine.Account, dir string, reached func(engine.Stage)) (*engine.Process, error)

// start runs the engine behind a spool and a guard.
func (d *Donor) start(ctx context.Context, h wire.Header, backup backupFunc, account engine.Account, work string) (wire.Backup, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	limit := d.MaxCommitBlock
	if h.Role == wire.Replica {
		limit *= replicaPatience
	}
	g := newGuard(limit, cancel)
	p, err := backup(ctx, account, work, g.reached)
	if err != nil {
		cancel(err)
		return wire.Backup{}, answer(errors.Join(err, os.RemoveAll(work)))
	}
	spooled := newSpool(withHealthcheck(p.Stdout, d.Volume.Live(), d.Log), work, d.budget(), cancel)
	g.watch(spooled.divert, spooled.undivert)
	unwatch := func() {}
	if h.Engine == engine.MySQLDirectName { // the server hands over its data, and keeps what changes meanwhile on the volume
		unwatch = every(ctx, spoolWatch, func() {
			if err := d.budget().holds(); err != nil {
				cancel(fmt.Errorf("what is written while the server hands over its data is kept on its volume, which gets full: %w", err))
			}
		})
	}
	finish := func() error {
		defer cancel(nil)
		defer unwatch()
		defer g.stop()
		// A tool that has written everything ends by itself. One that still writes fails now; one
		// that waits is stopped.
		err := p.Stdout.Close()
		defer time.AfterFunc(finishGrace, func() { cancel(errFinish) }).Stop()
		return answer(errors.Join(p.Wait(), err, spooled.close(), os.RemoveAll(work)))
	}
	return wire.Backup{Header: h, Stream: spooled, Phase: g.phase, Finish: finish}, nil
}

func (d *Donor) budget() *budget {
	d.once.Do(func() { d.aside = &budget{free: d.Volume.Free, leave: d.MinFree} })
	return d.aside
}

// login is the engine's account on the member's server.
func (d *Donor) login(ctx context.Context, h wire.Header) (engine.Account, error) {
	account, err := d.Account(ctx)
	account.Replica = h.Role == wire.Replica
	return account, err
}

// answer turns errors that are no fault into answers to the joiner.
func answer(err error) error {
	switch {
	case errors.Is(err, engine.ErrUnable), errors.Is(err, engine.ErrPairing):
		return fmt.Errorf("%w: %w", wire.ErrUnable, err)
	case errors.Is(err, engine.ErrBusy):
		return fmt.Errorf("%w: %w", wire.ErrBusy, err)
	case errors.Is(err, engine.ErrNoRoom):
		return fmt.Errorf("%w: %w", wire.ErrNotServing, err)
	}
	return err
}

var errFinish = errors.New("the clone has ended")

// replicaPatience is how many times longer a replica's commits may wait: only its applier waits for
// them, no client.
const replicaPatience = 10

// finishGrace is how long a tool may take to end after its last byte.
const finishGrace = 5 * time.Second
