package failover

import (
	"fmt"
	"slices"
)

// LeaderStep is one step of a leader, or of an heir, toward another set of acknowledgers or
// another mode. A step begins when the one before has ended, and each may fail: then those
// before it stay done, which is safe at each place, and the plan is made again.
type LeaderStep string

const (
	// StartWaiting turns the source's side on, with the longest timeout, reads it back, and
	// waits until no commit is under way that began without it.
	StartWaiting LeaderStep = "start waiting"
	// StopWaiting turns it off: commits that wait are acknowledged.
	StopWaiting LeaderStep = "stop waiting"
	// Bar locks the member's account on this server alone, without its binary log, and cuts
	// its connections; it ends when none is left.
	Bar LeaderStep = "bar the member"
	// BarOthers bars all members that the Lease does not name.
	BarOthers LeaderStep = "bar all that are not named"
	// Mark takes the end of the binary log. Not what is executed: commits that wait are
	// missing there.
	Mark LeaderStep = "take the position"
	// AskReceipt asks the member for its receipt. It is the one that is named in the end: a
	// member that gives another one by then has restarted, and the plan is made again.
	AskReceipt LeaderStep = "ask for the receipt"
	// AwaitMember waits until the member has executed all up to the mark.
	AwaitMember LeaderStep = "wait for the member"
	// AwaitOthers waits until k of the other acknowledgers have received all up to the mark.
	AwaitOthers LeaderStep = "wait for the others"
	// NameMember writes the member into the Lease, with its receipt. The member turns its
	// side on when it has read that in the Lease itself.
	NameMember LeaderStep = "name the member in the Lease"
	// UnnameMember removes it from the Lease.
	UnnameMember LeaderStep = "remove the member from the Lease"
	// EmptySet removes all from the Lease. It has ended when a later read or write shows
	// that it landed: no answer is none.
	EmptySet LeaderStep = "empty the set in the Lease"
	// SetMode writes the mode into the Lease.
	SetMode LeaderStep = "write the mode into the Lease"
	// Relax unlocks the member's account, after the member said that its side is off, in
	// answer to a question that was asked after it was barred, and that told it the Lease's
	// Naming.
	Relax LeaderStep = "let the member follow without acknowledging"
)

// Change is what a leader wants of its acknowledgers.
type Change string

const (
	// Add has one more acknowledger beside those that there are.
	Add Change = "add"
	// First has an acknowledger where there is none.
	First Change = "add the first"
	// Renew takes an acknowledger back whose entry is void.
	Renew Change = "renew"
	// Remove has one less.
	Remove Change = "remove"
	// Degrade goes on without any, in mode preferred.
	Degrade Change = "degrade"
)

// Plan is the order of steps for a change. The error says why the change is not allowed.
//
//	change   when                          steps
//	-------  ----------------------------  ------------------------------------------------------------------
//	Add      others are named              AskReceipt, Mark, AwaitMember, NameMember
//	First    nobody is named, not Off      BarOthers, StartWaiting, AskReceipt, Mark, AwaitMember, NameMember
//	Renew    it is named                   AskReceipt, Mark, AwaitMember, NameMember
//	Remove   k or more others are named    Bar, Mark, AwaitOthers, UnnameMember, Relax
//	Degrade  Preferred                     EmptySet, StopWaiting
//
// Each mark is taken when it is certain that what may be acknowledged from then on is
// acknowledged by members that the Lease names after the change. First leaves its own member
// out of BarOthers, if that has said since it was barred last that its side is off.
func Plan(c Change, r Record, member string) ([]LeaderStep, error) {
	_, named := r.acknowledger(member)
	others := len(r.Acknowledgers)
	if named {
		others--
	}
	why := ""
	switch {
	case c == Degrade && r.Mode != Preferred:
		why = "the mode is " + string(r.Mode)
	case c != Degrade && (member == r.Last.Member || !slices.Contains(r.Members, member)):
		why = "it is no replica of the set"
	case (c == Add || c == First) && named:
		why = "it is named already"
	case (c == Renew || c == Remove) && !named:
		why = "it is not named"
	case (c == Add || c == First) && r.Mode == Off:
		why = "the mode is off"
	case c == First && others > 0:
		why = "others are named"
	case c == Add && others == 0:
		why = "nobody is named"
	case c == Remove && others < r.Acknowledgments:
		why = "what it alone acknowledged would be nowhere else"
	}
	if why != "" {
		return nil, fmt.Errorf("%s %s: %s", c, member, why)
	}
	switch c {
	case Add, Renew:
		return []LeaderStep{AskReceipt, Mark, AwaitMember, NameMember}, nil
	case First:
		return []LeaderStep{BarOthers, StartWaiting, AskReceipt, Mark, AwaitMember, NameMember}, nil
	case Remove:
		return []LeaderStep{Bar, Mark, AwaitOthers, UnnameMember, Relax}, nil
	case Degrade:
		return []LeaderStep{EmptySet, StopWaiting}, nil
	}
	return nil, fmt.Errorf("unknown change %q", c)
}

// PlanMode is the order of steps from one mode to another. A mode that promises more begins
// with a Lease that forbids elections without the leader; one that promises less is in the
// Lease before it is in the server.
func PlanMode(r Record, to Mode) []LeaderStep {
	switch {
	case r.Mode == to:
		return nil
	case to == Off:
		return []LeaderStep{EmptySet, SetMode, StopWaiting}
	case r.Mode == Off && to == Preferred:
		return []LeaderStep{SetMode}
	case to == Required:
		return []LeaderStep{StartWaiting, SetMode}
	}
	return []LeaderStep{SetMode}
}
