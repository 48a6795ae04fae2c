package member

import (
	"context"
	"fmt"
	"sync"

	"understudy/clone/wire"
)

// Exclusion keeps apart the backups of the server, any number of them, and what no backup may run
// beside. The zero value is ready, and safe for concurrent use.
type Exclusion struct {
	mu      sync.Mutex
	backups int
	claimed bool
}

// Claim keeps backups from beginning until release is called, once. ok is false, and release nil,
// while one runs, or another claim lasts.
func (e *Exclusion) Claim() (release func(), ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.claimed || e.backups > 0 {
		return nil, false
	}
	e.claimed = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.claimed = false
	}, true
}

func (e *Exclusion) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.claimed {
		return false
	}
	e.backups++
	return true
}

func (e *Exclusion) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.backups--
}

// Donor is d, whose backups count from before they begin until they are finished. While a claim
// lasts it answers that it is busy: a claim is short.
func (e *Exclusion) Donor(d wire.Donor) wire.Donor { return donor{d, e} }

type donor struct {
	wire.Donor

	exclusion *Exclusion
}

// Backup implements wire.Donor.
func (d donor) Backup(ctx context.Context, ask wire.Ask) (wire.Backup, error) {
	if !d.exclusion.begin() {
		return wire.Backup{}, fmt.Errorf("%w: its replication is being configured", wire.ErrBusy)
	}
	b, err := d.Donor.Backup(ctx, ask)
	if err != nil {
		d.exclusion.end()
		return b, err
	}
	finish := b.Finish
	b.Finish = func() error {
		defer d.exclusion.end()
		return finish()
	}
	return b, nil
}
