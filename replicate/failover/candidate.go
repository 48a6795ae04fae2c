package failover

import (
	"fmt"
	"slices"
	"time"
)

// Volume is what a member's own volume remembers.
type Volume struct {
	// Seen is the highest term that it has seen. A Lease with a lower one went back.
	Seen uint64
	// Promised is the term of the last election that it reported for. It receives from no
	// leader of an older term.
	Promised uint64
	// Naming is the highest of the records that it has seen. A Lease with a lower one went back, too.
	Naming uint64
	// Data is as in Leader.
	Data string
}

// Observed is what a member knows of the Lease, on its own clock.
type Observed struct {
	// Unrenewed is how long the member has seen the same resourceVersion.
	Unrenewed time.Duration
	// InPhase is how long it has seen the same term in the same phase.
	InPhase time.Duration
	// Following is how long its promise not to seek the Lease still lasts.
	Following time.Duration
	// Barred says why it may not lead.
	Barred string
	// Ordinal is the member's.
	Ordinal int
	// Enough is as in Foretell.
	Enough bool
}

// SeekStep says whether a member takes the Lease.
type SeekStep string

const (
	// Stay means that it does not.
	Stay SeekStep = "stay"
	// Seek means that it takes it, as an election.
	Seek SeekStep = "seek"
)

// MaySeek says whether a member takes the Lease now, and why not. record is nil where the
// Lease has none. The first row that matches counts:
//
//	what is seen                                              step
//	--------------------------------------------------------  ----
//	no record: the set has not been moved to lease mode¹      Stay
//	ended: the set has gone back to its first ordinal¹        Stay
//	failover is forbidden, and it did not lead last           Stay
//	the member is not registered                              Stay
//	it may not lead                                           Stay
//	the Lease's term or naming is lower than the volume's²    Stay
//	it has promised to follow, and that time runs³            Stay
//	the last terms were short, and the back-off runs⁴         Stay
//	elections have failed, and the back-off runs⁵             Stay
//	the Lease was released                                    Seek
//	it was not renewed for its duration                       Seek
//	electing, or heir, for longer than allowed⁶               Seek
//	else                                                      Stay
//
// ¹ only the first ordinal opens term 1, or the next one, in a set all of whose members answer that
// they know lease mode.
//
// ² it was deleted, or restored from an old copy: see Rebuild.
//
// ³ without the API server members promise the leader not to seek the Lease.
//
// ⁴ a statement that kills every leader would otherwise kill all of them for ever.
//
// ⁵ since a term was opened last. It ends when the members' answers are enough for an election: what
// it waited for is there.
//
// ⁶ also while it is renewed: its holder may be cut off from the members.
func MaySeek(member string, record *Record, v Volume, o Observed, t Timings) (SeekStep, string) {
	switch {
	case record == nil:
		return Stay, "the Lease has no term record: the first ordinal makes it"
	case record.Ended():
		return Stay, fmt.Sprintf("the set went by its first ordinal after term %d: that opens the next one", record.Term)
	case record.NoFailover != "" && member != record.Last.Member:
		return Stay, record.forbids()
	case !slices.Contains(record.Members, member):
		return Stay, "the Lease does not name this member"
	case o.Barred != "":
		return Stay, o.Barred
	case record.wentBack(v):
		return Stay, "the Lease was deleted or restored: " + record.than(v)
	case o.Following > 0:
		return Stay, fmt.Sprintf("it follows the leader for another %s", o.Following)
	}
	if why := t.BacksOff(record, o); why != "" {
		return Stay, why
	}
	switch {
	case record.Holder == "":
		return Seek, "the Lease was released"
	case o.Unrenewed >= t.Duration:
		return Seek, fmt.Sprintf("%s has not renewed the Lease for %s", record.Holder, o.Unrenewed)
	case record.Phase == Electing && o.InPhase >= t.Electing:
		return Seek, fmt.Sprintf("the election of %s has not ended after %s", record.Holder, o.InPhase)
	case record.Phase == Heir && o.InPhase >= t.Promotion:
		return Seek, fmt.Sprintf("%s has not opened after %s", record.Holder, o.InPhase)
	}
	return Stay, record.Holder + " holds the Lease"
}

// BacksOff says why an election does not begin yet, of what has happened before; empty: no back-off runs.
func (t Timings) BacksOff(r *Record, o Observed) string {
	short, failed := t.BackOff(r.Quick), t.Retry(r.failed(), o.Ordinal)
	over := o.InPhase // since the last term ended, or a step after it
	if r.Phase == Opened {
		over = o.Unrenewed
	}
	switch {
	case over < short:
		return fmt.Sprintf("the last %d terms were short: elections wait for %s", r.Quick, short)
	case o.InPhase < failed && !o.Enough:
		return fmt.Sprintf("%d elections have failed: the next one waits for %s", r.failed(), failed)
	}
	return ""
}

// MayOpen says why a member may not open for writes, or go on as the leader after its server has
// restarted, under a record that names it; empty: it may, once a renewal that it sends has
// landed. The record was read from the Lease, which may have been restored from an old copy.
func MayOpen(member string, r Record, v Volume, history string) string {
	switch {
	case r.Phase != Opened || r.Holder != member || r.Last.Member != member:
		return fmt.Sprintf("the Lease does not name it as the leader: term %d is %s, held by %q", r.Term, r.Phase, r.Holder)
	case r.wentBack(v):
		return "the Lease was deleted or restored: " + r.than(v)
	case r.Term < v.Promised:
		return fmt.Sprintf("it has reported for term %d", v.Promised)
	case r.Last.Data != v.Data:
		return fmt.Sprintf("its data directory is not the one that opened term %d", r.Term)
	}
	m, err := r.Heeding([]Report{{Member: member, Data: v.Data, Has: history}}).Ledger.Measure(history)
	switch {
	case err != nil:
		return fmt.Sprintf("its history cannot be read: %v", err)
	case m.Old:
		return "its history is older than the ledger"
	case m.Errant != "":
		return "it has errant transactions " + m.Errant
	}
	return ""
}

// ReturnStep says what a member does that is not the leader.
type ReturnStep string

const (
	// Hold means that it neither receives nor writes, and answers elections.
	Hold ReturnStep = "hold"
	// Follow means that it applies what it received, then receives from the leader.
	Follow ReturnStep = "follow"
	// DropTail means that its server is started so that it drops its unacknowledged tail.
	DropTail ReturnStep = "drop tail"
	// Replace means that its data are kept aside and replaced by a clone.
	Replace ReturnStep = "reseed"
)

// Return says what a member does under a record that another member leads, given what it has.
// dropsTail says that its server can drop what it binlogged and nobody acknowledged. The first
// row that matches counts:
//
//	what is seen                                                   step
//	-------------------------------------------------------------  ---------
//	no record, or one with less than the volume's term or naming   Hold
//	it reported for this term or a later one, which is not open    Hold
//	the last term is not open: an election or an heir¹             Hold
//	the Lease was released                                         Hold
//	its last transaction is of a term that the ledger dropped      Replace
//	the extra is a tail of its own last term, and it can drop²     DropTail
//	it has extra                                                   Replace
//	else                                                           Follow
//
// ¹ the old leader's tail may be all that has an acknowledged commit: nothing is dropped
// before a later term is open.
//
// ² MariaDB, started with init-rpl-role, by version.
func Return(record *Record, v Volume, history string, ownTail, dropsTail bool) (ReturnStep, string) {
	switch {
	case record == nil:
		return Hold, "the Lease has no term record"
	case record.wentBack(v):
		return Hold, "the Lease was deleted or restored: " + record.than(v)
	case record.Last.Term < v.Promised:
		return Hold, fmt.Sprintf("it reported for term %d, and the last opened one is %d", v.Promised, record.Last.Term)
	case record.Phase != Opened:
		return Hold, fmt.Sprintf("term %d is %s", record.Term, record.Phase)
	case record.Holder == "":
		return Hold, fmt.Sprintf("term %d has ended", record.Term)
	}
	m, err := record.Ledger.Measure(history)
	switch {
	case err != nil:
		return Hold, fmt.Sprintf("its history cannot be read: %v", err)
	case m.Old:
		return Replace, fmt.Sprintf("its last transaction is older than the ledger, which begins after term %d", record.Ledger.Dropped)
	case m.Errant != "" && ownTail && dropsTail:
		return DropTail, "nobody acknowledged " + m.Errant
	case m.Errant != "":
		return Replace, "it has " + m.Errant + " outside the set's history"
	}
	return Follow, fmt.Sprintf("%s leads term %d", record.Holder, record.Term)
}
