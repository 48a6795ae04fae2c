package volume

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// Term is what a member remembers of terms, in a set whose primary the Lease names. It outlasts the
// data directory: a reseed keeps it.
type Term struct {
	// Seen is the highest term that the member has seen, Promised the last one that it has reported
	// for.
	Seen     uint64 `json:"seen"`
	Promised uint64 `json:"promised"`
	// Opened is the last term for which this member's server was opened, Boot the start of that
	// server.
	Opened uint64 `json:"opened,omitempty"`
	Boot   string `json:"boot,omitempty"`
	// Record is the newest record of the Lease that the member has seen, as the Lease had it.
	Record string `json:"record,omitempty"`
	// Follows is the term whose leader the member has promised to follow, For how long: from when it is
	// read, after a restart.
	Follows uint64        `json:"follows,omitempty"`
	For     time.Duration `json:"for,omitempty"`
	// Events are those that the last leader was heard to run, as JSON.
	Events string `json:"events,omitempty"`
}

// ErrTerm is returned for a memory of terms that cannot be read.
var ErrTerm = errors.New("unreadable memory of terms")

func (v *Volume) termPath() string { return filepath.Join(v.root, metaName, "term") }

// ReadTerm returns the zero value on a volume that has seen no term.
func (v *Volume) ReadTerm() (Term, error) {
	t, err := readJSON[Term](v.termPath(), ErrTerm)
	if t == nil {
		return Term{}, err
	}
	return *t, err
}

// TermOf reads the memory of terms of the volume mounted at root, without its lock.
func TermOf(root string) (Term, error) { return (&Volume{root: root}).ReadTerm() }

// WriteTerm replaces it durably.
func (v *Volume) WriteTerm(t Term) error {
	if err := writeJSON(v.termPath(), t, ownerReads); err != nil {
		return fmt.Errorf("write the memory of terms: %w", err)
	}
	return nil
}
