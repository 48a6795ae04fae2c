package failover

import "fmt"

// FollowStep is a member's answer to a leader that asks it to follow.
type FollowStep string

const (
	// Promise means that it neither seeks the Lease nor reports to an election for a time.
	Promise FollowStep = "promise"
	// Decline means that it promises nothing.
	Decline FollowStep = "decline"
)

// Stance is what a member knows when it is asked to follow.
type Stance struct {
	// Part is what it is itself, such as a candidate; empty: nothing. Seeks says that a write may
	// land yet by which it takes the Lease.
	Part  string
	Seeks bool
	// Read says that it has read the Lease since it started, and Record what that says; nil: nothing
	// of terms, or nothing that can be read.
	Read   bool
	Record *Record
}

// MayFollow says whether a member promises the leader of a term to follow it, and why not. The first
// row that matches counts:
//
//	what is seen                                       step
//	-------------------------------------------------  -------
//	it leads, or has a part in an election, itself     Decline
//	it may have taken the Lease itself                 Decline
//	its volume has not seen that term, or a later one  Decline
//	it has reported for a later term                   Decline
//	the Lease that it read does not name that leader¹  Decline
//	else²                                              Promise
//
// ¹ also where it was released, which another process with the leader's name may have done: the
// leader that asks is to end. That the Lease is not renewed is no reason.
//
// ² also where the member has not read the Lease since it started: its volume knows of each term
// that it has reported for. And whatever its server does: it promises only what it will not do.
func MayFollow(leader string, term uint64, v Volume, s Stance) (FollowStep, string) {
	switch {
	case s.Part != "":
		return Decline, "it is the " + s.Part + " itself"
	case s.Seeks:
		return Decline, "it may have taken the Lease itself"
	case v.Seen != term:
		return Decline, fmt.Sprintf("its volume has seen term %d, and not %d", v.Seen, term)
	case v.Promised > term:
		return Decline, fmt.Sprintf("it has reported for term %d", v.Promised)
	case s.Read && s.Record == nil:
		return Decline, "the Lease says nothing of terms that it can read"
	case s.Read && (s.Record.Term != term || s.Record.Phase != Opened || s.Record.Holder != leader):
		return Decline, fmt.Sprintf("the Lease says term %d, %s, held by %q", s.Record.Term, s.Record.Phase, s.Record.Holder)
	}
	return Promise, fmt.Sprintf("%s leads term %d", leader, term)
}
