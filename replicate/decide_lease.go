package replicate

import (
	"context"

	"understudy/replicate/lead"
)

// Leading says what the member is, in a set whose primary the Lease names. It does itself what
// leads from one role to another: it opens the server for writes, and closes it; it stops the
// receiver for an election; and it turns semi-synchronous replication on and off.
type Leading interface {
	Role() lead.Role
	// Enter waits until nobody else changes the server. It is false where the member's role is not r
	// any more; otherwise leave has to be called.
	Enter(ctx context.Context, r lead.Role) (leave func(), ok bool)
	// Changed has a value after each change of the role.
	Changed() <-chan struct{}
	// HostOf is the host of a member.
	HostOf(member string) string
	// Unsettle says that a step has failed, and that the server may still be at it.
	Unsettle()
	// Account is the account by which this member follows.
	Account() string
}

// roleChanged has a value after each change of the role; nil where roles never change.
func (a *Agent) roleChanged() <-chan struct{} {
	if a.cfg.Leading == nil {
		return nil
	}
	return a.cfg.Leading.Changed()
}

// asTheLeaseSays makes the standing that of the member's role.
func (a *Agent) asTheLeaseSays(s *Standing) {
	if a.cfg.Leading == nil {
		return
	}
	role := a.cfg.Leading.Role()
	s.Role, s.Primary, s.SemiSync = &role, role.Leads, SemiSyncOff
	if role.Follows != "" {
		s.Source.Host = a.cfg.Leading.HostOf(role.Follows)
		if !role.Plain {
			s.Source.User = a.cfg.Leading.Account()
		}
	}
}

// decide is Decide, and under a Lease what that leaves of it. The first row that matches counts:
//
//	what Decide says                                the role          step
//	----------------------------------------------  ----------------  ---------
//	any                                             none: no Lease    that
//	Fence, of a server that a statement has opened  it does not lead  Wait¹
//	Fence, and what comes before it in its table²   any               that
//	any                                             reseed            Reseed
//	any else                                        hold              Wait
//	Follow, Detach, TakeOver                        leads a term      Wait
//	OpenForWrites                                   leads             AwaitTerm
//	Report, without a channel, in GTID mode³        follows           Repoint
//	else                                            any               that
//
// ¹ the controller closes it: a plain SET would wait behind commits that wait for a replica.
//
// ² and StopEvents, MarkComplete and Unpersist: they are about this member alone.
//
// ³ it was the leader, or the first ordinal: it follows from what it has.
func (v view) decide() Action {
	role := v.s.Role
	if role == nil {
		return Decide(v.s, v.f)
	}
	action := Decide(v.s, v.f)
	switch {
	case action.Step == Fence && v.f.Opened && !role.Leads:
		return Action{Wait, "its server is being closed for writes"}
	case action.Step == Fence, action.Step == StopEvents, action.Step == Leave, action.Step == StartOver, action.Step == MarkComplete, action.Step == Unpersist,
		!v.f.Answers, v.f.Trouble != "", v.s.Initialising, v.f.Version.Flavor != v.s.Flavor:
		return action
	case role.Reseed != "":
		return Action{Reseed, role.Reseed + "; reseed this member, " + howToReseed}
	case role.Hold != "":
		return Action{Wait, role.Hold}
	case role.Leads && !role.Begins && (action.Step == Follow || action.Step == Detach || action.Step == TakeOver):
		return Action{Wait, "it leads by the Lease, and takes over nothing: " + action.Reason}
	case action.Step == OpenForWrites:
		if role.Waits != "" {
			return Action{AwaitTerm, role.Waits}
		}
		return Action{AwaitTerm, "it waits for the Lease to say that its term is open"}
	}
	if action.Step == Report && role.Follows != "" && v.f.Channel == nil && v.f.UsesGTID && v.f.judgement().Errant == "" && len(v.f.OtherChannels) == 0 && !v.s.fresh(&v.f) {
		return Action{Repoint, "it follows " + role.Follows + " from what it has"}
	}
	return action
}
