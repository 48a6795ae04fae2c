package replicate

import (
	"fmt"
	"time"
)

// Trouble is what is wrong with a member, whether or not it is ready; see trouble.
type Trouble struct {
	// Text says what happened, why, and what to do, in words that do not change while it lasts;
	// empty: nothing is wrong.
	Text string
	// Help says that it does not end by itself: manual action is required.
	Help bool
}

// Space is the room on the member's volume, in bytes. The zero value says that it is not known.
type Space struct {
	// Free is what the server can still use, Size all that there is.
	Free, Size int64
}

const (
	// fullBelow is the room below which a server may be refused what it asks for next: InnoDB's
	// system tablespace grows by 64 MiB (innodb_autoextend_increment).
	fullBelow = 64 << 20
	// fullPart is the part of a small volume that is as little: a twentieth.
	fullPart = 20
)

// Full says that the volume has no room for a server.
func (s Space) Full() bool { return s.Size > 0 && s.Free < min(fullBelow, s.Size/fullPart) }

// String names the bound, not what is free: that changes all the time.
func (s Space) String() string {
	return fmt.Sprintf("less than %d MiB of %d MiB are free", max(1, min(fullBelow, s.Size/fullPart)>>20), s.Size>>20)
}

// helpfulRestarts is from which end of its container on a server is taken for one that will not
// start by itself.
const helpfulRestarts = 3

// Container is what Kubernetes knows of the server's container. The zero value says nothing.
type Container struct {
	// Restarts is how often it was started again.
	Restarts int
	// State says why it does not run, how it ended last, or what else is known of a server that
	// does not answer; empty where nothing is.
	State string
	// Failed says that it ended last by an error.
	Failed bool
}

// ends says that the server does not stay up.
func (c Container) ends() bool { return c.Failed && c.Restarts >= helpfulRestarts }

// trouble is what is wrong, by the first row that matches:
//
//	what is seen                                          manual action required
//	----------------------------------------------------  --------------------
//	somebody has paused the member                        nothing is called wrong
//	the decision is Report or Reseed                      yes
//	its step fails for futileAfter, or is of no use       yes
//	the volume is full                                    yes
//	the server does not answer, and its container ends    yes, after some times
//	commits wait, and none was acknowledged for stuckAfter  no
//	no source for noSourceAfter                           no
func trouble(s Standing, f Facts, action Action, futile Futile) Trouble {
	switch {
	case s.Paused != "":
		return Trouble{}
	case action.Step == Report || action.Step == Reseed:
		return Trouble{action.Reason, true}
	case futile.Why != "" && f.Seen.Sub(futile.Since) >= futileAfter:
		return Trouble{fmt.Sprintf("%s: %s", action.Step, action.Reason), true}
	case f.Volume.Full():
		return Trouble{f.full(s), true}
	case !f.Answers && f.Container.Failed:
		return Trouble{action.Reason, f.Container.ends()}
	case s.Primary && f.SemiSync.stuck(f.Seen):
		return Trouble{s.openFor(f), false}
	case !s.Primary && f.Channel.without(f.Seen) >= noSourceAfter:
		return Trouble{f.withoutSource(), false}
	}
	return Trouble{}
}

// full says what a full volume does to the member.
func (f Facts) full(s Standing) string {
	what := "the server cannot store what its source sends, and may not answer"
	if s.Primary {
		what = "commits wait or fail"
	}
	return fmt.Sprintf("the volume is full: %s; %s until there is room: enlarge the volume, or free space on it", f.Volume, what)
}

// fullBeside is what is to be read behind an error that a full volume may have caused; empty where
// there is room.
func (f Facts) fullBeside() string {
	if !f.Volume.Full() {
		return ""
	}
	return "; the volume is full: " + f.Volume.String() + ": enlarge it, or free space on it"
}

// completeTrouble adds to why a server cannot be observed what the container and the volume say.
func (f *Facts) completeTrouble() {
	more := ""
	if !f.Answers && f.Container.State != "" {
		more = "; " + f.Container.State
	}
	if f.Trouble != "" {
		f.Trouble += more + f.fullBeside()
	}
}

// recoveredAfter is how long a trouble has to be over before that is told: what comes back sooner
// was never over.
const recoveredAfter = 15 * time.Second

// alarm remembers what was told of troubles.
type alarm struct {
	// text is the trouble that was told last and is not over yet, begun and seen when it was seen
	// first and last.
	text        string
	begun, seen time.Time
}

// next says what is to be told: a trouble that is new, or that the last one is over.
func (a *alarm) next(now time.Time, t Trouble) (wrong, over string) {
	switch {
	case t.Text != "":
		if a.text == "" {
			a.begun = now
		}
		if t.Text != a.text {
			wrong = t.Text
		}
		a.text, a.seen = t.Text, now
	case a.text != "" && now.Sub(a.seen) >= recoveredAfter:
		over = fmt.Sprintf("over after %v: %s", a.seen.Sub(a.begun).Round(time.Second), a.text)
		a.text = ""
	}
	return wrong, over
}
