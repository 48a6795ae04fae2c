package replicate

import (
	"cmp"
	"fmt"
	"time"
)

// readiness depends on the local server and its applier only: a source that is away does not make a
// replica unready.
func readiness(s Standing, f Facts, action Action, maxLag time.Duration) (bool, string) {
	switch {
	case s.Paused != "":
		return pausedReadiness(s, f, maxLag)
	case !f.Answers || f.Trouble != "" || f.Version.Flavor != s.Flavor:
		return false, action.Reason
	case !s.Attached:
		return false, "not attached yet: " + action.Reason
	case s.Primary && f.ReadOnly:
		return false, "the primary is read-only: " + action.Reason
	case s.Primary && !f.Opened:
		return false, "the primary must not be open yet: " + action.Reason
	case s.Primary:
		return true, s.openFor(f)
	case f.Channel == nil || !f.Channel.SQLRunning:
		return false, "the applier does not run: " + action.Reason
	case maxLag > 0 && f.Channel.Lag != nil && time.Duration(*f.Channel.Lag)*time.Second > maxLag:
		return false, fmt.Sprintf("the replica is %d s behind, more than %v", *f.Channel.Lag, maxLag)
	}
	text := "the applier runs"
	if s.Role != nil && s.Role.Hold+s.Role.Reseed != "" { // then it receives nothing more
		text += "; " + cmp.Or(s.Role.Hold, s.Role.Reseed)
	} else if c := f.Channel; c.IO != "Yes" && (c.IOErrno == errAccessDenied || barred(c.IOErrno)) {
		text += fmt.Sprintf(", but nothing new comes: the source refuses the login: error %d: %s", c.IOErrno, c.IOError)
	} else if c.without(f.Seen) >= silentAfter {
		text += "; " + f.withoutSource()
	}
	if f.Volume.Full() {
		text += "; " + f.full(s)
	}
	return true, text
}

// pausedReadiness is the readiness without the pause: it depends on what the server does, not on
// who looks after it.
func pausedReadiness(s Standing, f Facts, maxLag time.Duration) (bool, string) {
	paused := s.Paused
	s.Paused = ""
	ready, reason := readiness(s, f, Decide(s, f), maxLag)
	return ready, reason + "; the member is " + paused
}
