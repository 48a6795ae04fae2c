package failover

import (
	"fmt"
	"slices"
	"strings"
)

// The Lease may be deleted, or come back from an old copy of etcd. Each member keeps the newest
// record that it has seen on its volume, before it acts by it.

// phases in the order in which a term goes through them.
var phases = []Phase{Electing, Heir, Opened, Ended}

// Older says that the Lease said r before it said s. Along the records of a set neither the naming
// nor the term falls; and who elects by a record that was restored raises the term alone.
func (r Record) Older(s Record) bool {
	switch {
	case r.Naming != s.Naming:
		return r.Naming < s.Naming
	case r.Term != s.Term:
		return r.Term < s.Term
	}
	return slices.Index(phases, r.Phase) < slices.Index(phases, s.Phase)
}

func (r Record) wentBack(v Volume) bool { return r.Term < v.Seen || r.Naming < v.Naming }

func (r Record) than(v Volume) string {
	if r.Term < v.Seen {
		return fmt.Sprintf("it says term %d, and this volume has seen %d", r.Term, v.Seen)
	}
	return fmt.Sprintf("it says naming %d, and this volume has seen %d", r.Naming, v.Naming)
}

// WentBack says why the Lease is not what it was, by what a volume has seen; empty: it is, or has
// gone on. record is nil where it has none.
func WentBack(record *Record, v Volume) string {
	switch {
	case record == nil && v.Seen > 0:
		return fmt.Sprintf("the Lease has no term record, and this volume has seen term %d: it was deleted", v.Seen)
	case record != nil && record.wentBack(v):
		return "the Lease was deleted or restored: " + record.than(v)
	}
	return ""
}

// kept is the record that the member keeps; nil: none.
func (r Report) kept() (*Record, error) {
	if r.Record == "" {
		return nil, nil //nolint:nilnil // documented
	}
	kept, err := Decode(r.Record)
	if err != nil {
		return nil, fmt.Errorf("what %s remembers of the Lease cannot be read: %w", r.Member, err)
	}
	return &kept, nil
}

// Rebuild is the record with which a Lease goes on that is missing or went back: the newest that a
// volume keeps, as an election of a later term, or ended, as that is. reports are for that term, from before there is such
// a record. why says why it cannot be made yet. All members that the newest record names have to
// report, and to keep a record: each change of who may acknowledge is then on one of these volumes,
// that of the member which may, or that of the leader which named it.
func Rebuild(reports []Report, term uint64, candidate string) (next Record, why string) {
	var newest *Record
	var members []string
	for _, b := range reports {
		kept, err := b.kept()
		switch {
		case err != nil:
			return next, err.Error()
		case b.Seen > term:
			return next, fmt.Sprintf("%s has seen term %d", b.Member, b.Seen)
		case b.Term != term || kept == nil:
			continue
		}
		members = append(members, b.Member)
		if newest == nil || newest.Older(*kept) {
			newest = kept
		}
	}
	if newest == nil {
		return next, "no volume keeps a record of it"
	}
	missing := slices.DeleteFunc(slices.Clone(newest.Members), func(m string) bool { return slices.Contains(members, m) })
	if len(missing) > 0 {
		return next, "it waits for " + strings.Join(missing, ", ") + ": all members have to report, each with a volume that has seen the set's terms"
	}
	if newest.Term >= term {
		return next, fmt.Sprintf("a volume keeps a record of term %d", newest.Term)
	}
	next = *newest
	next.Naming++
	if next.Term = term; newest.Ended() { // the first ordinal begins
		return next, ""
	}
	next.Phase, next.Holder = Electing, candidate
	return next, ""
}
