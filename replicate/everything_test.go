package replicate

import (
	"slices"
	"strings"
	"testing"

	"understudy/replicate/origin"
)

// someChannels are none, and all that a channel can be as far as Decide asks.
func someChannels() []*Channel {
	channels := []*Channel{nil}
	for n := range 1 << 5 {
		on := func(i int) bool { return n&(1<<i) != 0 }
		for _, io := range []string{"Yes", "No", "Connecting"} {
			for _, errno := range []int{0, errAccessDenied, 1236} {
				c := Channel{
					Host: source.Host, Port: source.Port, User: source.User, CA: source.CA, Verified: true,
					UsingGTID: on(0), SQLRunning: on(1), IO: io, IOErrno: errno,
				}
				if on(2) {
					c.Host = "db-9.db"
				}
				if on(3) {
					c.User, c.Verified = "repl", false
				}
				if on(4) {
					c.SQLErrno = 1062
				}
				channels = append(channels, &c)
			}
		}
	}
	return channels
}

// everything is what a server can say, times what the journal can say.
func everything(try func(view)) {
	channels := someChannels()
	for n := range 1 << 13 {
		on := func(i int) bool { return n&(1<<i) != 0 }
		for _, o := range []*origin.Origin{nil, byGTID, byFile, unknown} {
			v := primary(from(o))
			v.s.Primary, v.s.Attached, v.s.Initialising, v.f.PasswordTried = on(0), on(1), on(2), on(3)
			v.s.Image.Ended = true // else nothing is done: TestDecideNeverHarms
			v.f.ReadOnly, v.f.Accounts = on(4), &AccountFacts{Right: on(5), Rotated: on(11)}
			if on(6) {
				v.f.Mismatches = mismatch
			}
			v.s.Configured, v.s.Adopted, v.f.Fenced, v.f.Opened = on(7), on(8), on(4) && on(9), !on(4) && on(9)
			if on(10) {
				v.f.Booted = byFile
			}
			if on(12) {
				v.s.SemiSync, v.f.SemiSync = SemiSyncRequired, SemiSyncFacts{Known: true, Replicas: 1}
			}
			for _, c := range channels {
				v.f.Channel = c
				try(v)
			}
			for _, trouble := range []func(*view){noAnswer, loginRefused, mysqlServer} {
				try(v.with([]func(*view){trouble}))
			}
		}
	}
}

// permitted says whether what is seen allows the step, whatever the table says.
func permitted(v view, step Step) bool {
	s, f, c := v.s, v.f, v.f.Channel
	switch {
	case !step.changes():
		return true
	case step == Fence:
		return mustFence(s, f)
	case step == MarkComplete:
		return f.Answers && s.Initialising && s.Image.Ended
	case !f.Answers || f.Trouble != "" || f.Version.Flavor != s.Flavor || s.Initialising:
		return false
	case s.takesOver():
		return step == TakeOver && f.Fenced
	case s.Primary && c != nil, !f.Fenced && (!s.Primary || !f.Opened):
		return false
	}
	fresh := s.Origin != nil && !s.Attached && !s.Configured && (c == nil || !s.Adopted)
	there := c != nil && c.Host == source.Host && c.Port == source.Port
	right := there && c.User == source.User
	switch step {
	case MakeAccount:
		return s.Primary && !f.accounts().Right
	case OpenForWrites:
		return s.Primary && s.Attached && f.accounts().Right && f.ReadOnly && len(f.Mismatches) == 0
	case ChangePassword:
		return s.Primary && s.Attached && f.accounts().Right && !f.ReadOnly && f.accounts().Rotated
	case MarkAttached:
		return !s.Attached && (s.Primary || !fresh && right && c.IO == "Yes" && c.SQLRunning)
	case Configure:
		return !s.Primary && fresh && len(f.Mismatches) == 0 && (s.Origin.Mode != origin.FirstBoot || f.Booted != nil)
	case Repoint: // to another host only where the server knows its own place in it
		if c == nil {
			return !s.Primary && !fresh && s.Origin != nil && s.Origin.Mode == origin.GTID
		}
		return !s.Primary && !fresh && (c.UsingGTID || there)
	case SetSemiSync:
		return s.SemiSync == SemiSyncRequired && (s.Primary && s.Attached && f.accounts().Right || !fresh && right)
	case Start:
		return !s.Primary && !fresh && right && (c.IO == "No" || !c.SQLRunning)
	}
	return false
}

func TestEveryStepIsPermitted(t *testing.T) {
	everything(func(v view) {
		a := Decide(v.s, v.f)
		switch {
		case !permitted(v, a.Step):
			t.Fatalf("%s (%s): %+v, channel %+v", a.Step, a.Reason, v, v.f.Channel)
		case a.Step == Rest && (v.f.ReadOnly == v.s.Primary || !v.s.Attached || len(v.f.Mismatches) > 0):
			t.Fatalf("it rests (%s): %+v, channel %+v", a.Reason, v, v.f.Channel)
		case a.Reason == "" || strings.Contains(a.Reason, secret):
			t.Fatalf("reason %q of %s", a.Reason, a.Step)
		}
	})
}

// Where the source lacks what we have, or has purged what we lack, nothing makes a replica follow
// it.
func TestNothingFollowsSuchASource(t *testing.T) {
	everything(func(v view) {
		for _, says := range []SourceFacts{{Errant: "0-101-6"}, {Purged: "0-100-6"}} {
			v.f.Source = &says
			if a := Decide(v.s, v.f); a.Step.starts() {
				t.Fatalf("%s (%s): %+v, channel %+v", a.Step, a.Reason, v, v.f.Channel)
			}
		}
	})
}

// done is what the next look sees when a step did what it is for.
func done(v view, step Step) view {
	follow := Channel{Host: source.Host, Port: source.Port, User: source.User, CA: source.CA, Verified: true, UsingGTID: true, IO: "No"}
	switch step {
	case Fence:
		v.f.ReadOnly, v.f.Fenced, v.f.Opened = true, true, false
	case OpenForWrites:
		v.f.ReadOnly, v.f.Fenced, v.f.Opened = false, false, true
	case MarkComplete:
		v.s.Initialising = false
	case MarkAttached:
		v.s.Attached = true
	case MakeAccount:
		accounts(func(a *AccountFacts) { a.Right = true })(&v)
	case TakeOver:
		v.f.Channel, v.s.Configured = nil, true
	case Follow, Detach: // members are asked for, which everything leaves out
	case ChangePassword:
		accounts(func(a *AccountFacts) { a.Rotated = false })(&v)
	case Configure:
		follow.UsingGTID = v.s.Origin.Mode == origin.GTID
		v.f.Channel, v.f.PasswordTried, v.s.Configured = &follow, true, true
	case Repoint, Start:
		if v.f.Channel != nil {
			follow.UsingGTID = v.f.Channel.UsingGTID
		}
		follow.IO, follow.SQLRunning = "Yes", true
		v.f.Channel, v.f.PasswordTried = &follow, v.f.PasswordTried || step == Repoint
	case SetSemiSync:
		v.f.SemiSync = inForce
	case Wait, Report, Reseed, StartOver, Rest:
	}
	return v
}

// Whatever the loop finds, it comes to an end, and takes no step twice on the way.
func TestEveryViewEnds(t *testing.T) {
	everything(func(v view) {
		var taken []Step
		for step := Decide(v.s, v.f).Step; step.changes(); step = Decide(v.s, v.f).Step {
			if slices.Contains(taken, step) {
				t.Fatalf("%v and again %s: %+v, channel %+v", taken, step, v, v.f.Channel)
			}
			taken = append(taken, step)
			v = done(v, step)
		}
	})
}
