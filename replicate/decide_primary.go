package replicate

import (
	"fmt"
	"strings"
)

func decidePrimary(s Standing, f Facts) Action {
	switch {
	case s.takesOver():
		return Action{TakeOver, "a fresh copy, from " + s.Origin.String()}
	case f.Channel != nil && (f.Level == nil || !f.Level.Channel):
		return Action{Report, fmt.Sprintf("the primary is configured as a replica of %s:%d", f.Channel.Host, f.Channel.Port)}
	case len(f.OtherChannels) > 0:
		return Action{Report, "the primary is itself a replica, over the channels " + strings.Join(f.OtherChannels, ", ")}
	case f.ReadOnly && len(f.Mismatches) > 0 && (f.Level == nil || !f.Level.Alias):
		return reportMismatches(f)
	case f.Level != nil && f.Level.holds(f):
		return decideLevel(f)
	case s.accountsDue(f) && f.accounts().Unmakeable == "":
		return Action{MakeAccount, "an account is missing or wrong: " + f.accounts().Wrong}
	case !s.Attached:
		return Action{MarkAttached, "the first ordinal is the primary"}
	case s.semiSyncDue(f) && !s.semiSyncRight(f):
		return Action{SetSemiSync, "--semi-sync=" + string(s.SemiSync)}
	case f.ReadOnly:
		return Action{OpenForWrites, "the first ordinal is the primary"}
	case f.EventsDue && f.EventsTrouble == "":
		return Action{StartEvents, "the primary is open for writes, and its events are to run"}
	case f.accounts().Rotated && !s.blocked(f):
		return Action{ChangePassword, "its password is rotated"}
	case len(f.Persisted) > 0:
		return f.unpersist()
	case s.accountsDue(f):
		return Action{Report, fmt.Sprintf("an account is missing or wrong: %s; and the administrator cannot make it: %s", f.accounts().Wrong, f.accounts().Unmakeable)}
	case f.EventsDue:
		return Action{Report, "events do not run, because the event scheduler cannot be started: " + f.EventsTrouble +
			"; check --admin-user and --admin-password-file, or SET GLOBAL event_scheduler = ON"}
	case len(f.Mismatches) > 0:
		return reportMismatches(f)
	case s.blocked(f):
		return Action{Wait, s.openFor(f)}
	}
	return Action{Rest, s.openFor(f)}
}

// accountsDue says that the accounts are to be made. While commits wait for a replica, only the one
// counts without which none can come.
func (s Standing) accountsDue(f Facts) bool {
	return !f.accounts().Right || f.accounts().Wrong != "" && !s.blocked(f)
}

// holds says that the primary is not ready to go on as one.
func (l *Level) holds(f Facts) bool {
	return l.Awaited != "" || l.Begun || l.Conflict != "" || l.Ahead != nil || l.Alias || f.Channel != nil
}

func decideLevel(f Facts) Action {
	switch l, c := f.Level, f.Channel; {
	case l.Awaited != "":
		return Action{Wait, "it does not open for writes until the members have said what they have: " + l.Awaited}
	case l.Begun:
		return Action{Report, "it started empty and does not open for writes, because members have data: " + l.Conflict +
			"; delete its volume claim and its pod to restore it from them; or, if their data does not count, stop them and reseed them later, " + howToReseed}
	case l.Conflict != "":
		return Action{Report, "it does not open for writes, because it lacks what members have: " + l.Conflict +
			"; make the members agree by hand, or stop those that do not count and reseed them later, " + howToReseed}
	case l.Ahead == nil:
		return Action{Detach, "it lacks nothing that a member has"}
	case !l.Following:
		return Action{Follow, fmt.Sprintf("%s has more: %s", l.Ahead.Name, l.Lacks)}
	case c.SQLErrno != 0 && !c.SQLRunning:
		return Action{Report, fmt.Sprintf("it cannot catch up with %s: the applier stopped with error %d: %s", l.Ahead.Name, c.SQLErrno, c.SQLError)}
	case c.IOErrno != 0 && c.IO == "No" && !sourceAway(c.IOErrno):
		return Action{Report, fmt.Sprintf("it cannot catch up with %s: the receiver stopped with error %d: %s", l.Ahead.Name, c.IOErrno, c.IOError)}
	case c.IOErrno == errAccessDenied && !f.PasswordTried:
		return Action{Follow, l.Ahead.Name + " refuses the password that the server has"}
	case c.IO == "No" || !c.SQLRunning:
		return Action{Follow, "a thread is stopped, and " + l.Ahead.Name + " has more: " + l.Lacks}
	default:
		return Action{Wait, "it follows " + l.following(c)}
	}
}

// following says whom the primary follows, and what keeps it.
func (l *Level) following(c *Channel) string {
	text := fmt.Sprintf("%s until it has caught up", l.Ahead.Name)
	if l.Ahead.Trouble != "" {
		text += "; " + l.Ahead.Name + " says: " + l.Ahead.Trouble
	}
	if c.IOErrno != 0 {
		text += fmt.Sprintf("; the receiver is connecting: error %d: %s", c.IOErrno, c.IOError)
	}
	return text
}
