package replicate

import (
	"fmt"
	"strings"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// Step names what the loop does next.
type Step string

const (
	// Wait means that nothing can be done now, and nothing is wrong that would not mend itself.
	Wait Step = "wait"
	// Report means that a person has to look.
	Report Step = "report"
	// Reseed means that replication cannot mend it: the member has to be cloned anew. A
	// person has to look, or else who runs the agent does it; the agent itself never does.
	Reseed Step = "clone anew"
	// Rest means that all is as it should be.
	Rest Step = "rest"
	// Fence makes the server read-only.
	Fence Step = "make read-only"
	// StopEvents stops the event scheduler where no event may run.
	StopEvents Step = "stop the event scheduler"
	// StartEvents starts it where events are to run.
	StartEvents Step = "start the event scheduler"
	// Unpersist removes what SET PERSIST has set against the configuration.
	Unpersist Step = "remove persisted settings"
	// Leave leaves the member alone, for somebody has paused it.
	Leave Step = "leave alone"
	// StartOver has the server's image make the data directory again, in an empty one. Who runs
	// the agent does it; the agent itself never does.
	StartOver Step = "make the data directory again"
	// MarkComplete records that the image has made a data directory.
	MarkComplete Step = "record that the data directory is complete"
	// MakeAccount creates the accounts of replication, sidecar and clones or makes them right.
	MakeAccount Step = "make the accounts"
	// ChangePassword gives the administrator's account its passwords.
	ChangePassword Step = "change the administrator's password"
	// MarkAttached records that the member has taken its role.
	MarkAttached Step = "record that the member is attached"
	// OpenForWrites lifts read-only on the primary.
	OpenForWrites Step = "open for writes"
	// Configure points a fresh copy at its source.
	Configure Step = "configure replication"
	// Repoint points a replica at the right source, from where it is.
	Repoint Step = "repoint replication"
	// Forget makes the member forget transactions of its own that changed no data.
	Forget Step = "forget what changed no data"
	// Start starts the replication threads.
	Start Step = "start replication"
	// TakeOver makes a copy of a member the first ordinal's own.
	TakeOver Step = "take over the copy"
	// Follow has the first ordinal follow a member that has more, before it opens for writes.
	Follow Step = "follow the member that has more"
	// Detach ends that.
	Detach Step = "stop following"
	// SetSemiSync turns the member's side of semi-synchronous replication on.
	SetSemiSync Step = "set semi-sync"
)

// changes reports whether the step does something, or only waits for it to be done.
func (s Step) changes() bool {
	return s != Wait && s != Report && s != Reseed && s != StartOver && s != Rest && s != Leave
}

// Action is one step, and why.
type Action struct {
	Step   Step
	Reason string
}

// Recorded is what the member's volume knows.
type Recorded struct {
	// Paused says since when and why the member is to be left alone; empty: it is not.
	Paused string
	// Initialising says that the server's image has not been seen to finish.
	Initialising bool
	// Image is how far it is, while it is at that.
	Image Image
	// Adopted says that the data directory was there before us, and so its channel.
	Adopted bool
	// Configured says that the channel of a copy was made here.
	Configured bool
	// Attached says that the member has taken its role before.
	Attached bool
	// SemiSynced says that the primary has once stopped to acknowledge commits without a
	// replica.
	SemiSynced bool
	// Parted are transactions that the source had made and has lost, while this member has
	// them: it opened for writes without them, and gives their numbers again. Once these are
	// beyond them, nothing shows in GTIDs that the rows differ. Empty: none.
	Parted string
	// Origin is where replication begins on a fresh copy; nil when unknown.
	Origin *origin.Origin
}

// Standing is what is known of the member beside what its server says.
type Standing struct {
	Recorded
	Flavor flavor.Flavor
	// Primary is true for the first ordinal.
	Primary bool
	// Source is who a replica has to follow.
	Source Source
	// SemiSync is how much commits wait for replicas.
	SemiSync SemiSync
	// PasswordTried says that this process has already given the server the
	// replication password that it has now.
	PasswordTried bool
}

// fresh says that replication has to begin at the copy's origin, whichever channel came
// with the copy. Only a directory that we adopted knows its place better.
func (s Standing) fresh(f *Facts) bool {
	return !s.Primary && s.Origin != nil && !s.Attached && !s.Configured && (!s.Adopted || f.Channel == nil)
}

// takesOver says that the first ordinal's data are a copy of a member, untouched so far.
func (s Standing) takesOver() bool {
	return s.Primary && s.Origin != nil && !s.Attached && !s.Configured && !s.Adopted
}

// beginning is where replication begins on a fresh copy; nil when unknown.
func (s Standing) beginning(f Facts) *origin.Origin {
	switch {
	case s.Origin.Mode == origin.FirstBoot:
		return f.Booted
	case s.Origin.Mode == origin.Executed && f.UsesGTID:
		return &origin.Origin{Mode: origin.GTID, Of: s.Origin.Of, GTID: f.position()}
	case s.Origin.Mode == origin.Executed:
		return nil
	}
	return s.Origin
}

// Decide picks the next step. It looks at nothing but its arguments. The first row
// that matches counts:
//
//	who      what is seen                                            step
//	-------  ------------------------------------------------------  ---------------
//	any      somebody has paused the member⁵                         Leave
//	any      its image was interrupted¹                              StartOver
//	any      its image was interrupted again and again¹              Report
//	any      the server does not answer                              Wait
//	primary  not fenced, and not opened since its server started¹⁴   Fence
//	replica  not fenced¹⁴                                            Fence
//	any      nothing can prove that its image is done¹               Report
//	any      it is not proven yet that its image is done¹            Wait
//	any      it refuses the login, or cannot be read                 Report
//	any      it is of another flavour                                Report
//	any      its image is done, which is not recorded¹               MarkComplete
//	any      events run where they must not¹⁵                        StopEvents
//	primary  a fresh copy                                            TakeOver
//	primary  it is configured as a replica of no member, or is open  Report
//	primary  it has a channel with a name                            Report
//	primary  read-only, and a safety option did not take             Report
//	primary  a member may still say what it has⁶                     Wait
//	primary  it was begun empty, and a member has data               Report
//	primary  a member has more, and none can be followed             Report
//	primary  a member has more, and is not followed                  Follow
//	primary  it is followed, and the applier stopped with an error   Report
//	primary  it is followed, and the receiver stopped with an error  Report
//	primary  it is followed, and its password is refused             Follow
//	primary  it is followed, and a thread is stopped                 Follow
//	primary  it is followed                                          Wait
//	primary  no member has more, and it follows one                  Detach
//	primary  an account is missing or wrong¹¹                        MakeAccount
//	primary  not attached                                            MarkAttached
//	primary  semi-sync is due, and not as it has to be¹⁰             SetSemiSync
//	primary  read-only                                               OpenForWrites
//	primary  the administrator's password is rotated⁹                ChangePassword
//	primary  events are to run, and do not¹⁵                         StartEvents
//	primary  settings are persisted that open it at its start¹⁴      Unpersist
//	primary  an account is wrong, and cannot be made right¹¹         Report
//	primary  events are to run, and the administrator is refused     Report
//	primary  a safety option did not take                            Report
//	primary  commits wait for a replica, and none acknowledges them  Wait
//	primary  else                                                    Rest
//	replica  it has a channel with a name                            Report
//	replica  the source gives the numbers of what it has lost¹⁶      Reseed
//	replica  the source lacks what we have, which changed no data¹³  Forget
//	replica  the source lacks what we have, and is not open yet⁴⁶    Wait
//	replica  the source lacks what we have⁴                          Reseed
//	replica  the source has purged what we lack⁴                     Reseed
//	replica  a fresh copy, and a safety option did not take          Report
//	replica  a fresh copy that does not say where it ends            Report
//	replica  a fresh copy²                                           Configure
//	replica  no channel, GTID mode³                                  Repoint
//	replica  no channel, file and position mode, or no origin        Report
//	replica  Repoint is due, and not all that came is applied⁷       Wait
//	replica  Repoint is due, it runs, and no proof of the source¹²   Wait
//	replica  wrong source, account or verification, GTID mode¹²      Repoint
//	replica  wrong account or verification, by file and position¹²   Repoint
//	replica  wrong source, file and position mode                    Report
//	replica  the source refuses the login, password not tried yet⁹   Repoint
//	replica  the applier stopped: it wanted room, and there is some  Start
//	replica  the applier stopped: a MEMORY table lacks a row¹³       Report
//	replica  the applier stopped: the rows differ⁸                   Reseed
//	replica  the applier stopped with another error                  Report
//	replica  the receiver stopped: the source lacked what we had     Start
//	replica  the receiver stopped: it asks for what is gone          Reseed
//	replica  the receiver stopped with an error of its own           Report
//	replica  settings are persisted that open it at its start¹⁴      Unpersist
//	replica  semi-sync is wanted, and its side is off                SetSemiSync
//	replica  the receiver is stopped, and the source bars its login  Wait
//	replica  a thread is stopped                                     Start
//	replica  both threads run, not attached                          MarkAttached
//	replica  the receiver is connecting                              Wait
//	replica  nothing comes from its source                           Wait
//	replica  a safety option did not take                            Report
//	replica  it does not verify its source¹²                         Wait
//	replica  else                                                    Rest
//
// ¹ while the journal says initialising. An image sets root's password before it runs the
// scripts of its user, and one that is restarted in between skips them: that a server answers,
// and lets us in, proves nothing. See Image.
//
// ² a copy of a MySQL replica brings the donor's channel with it, half configured: the
// place in it may be stale, the relay logs are missing, the password is an old one. It is
// made anew.
//
// ³ somebody removed the channel: the server knows its own position better than the
// origin of long ago.
//
// ⁴ in GTID mode the source is asked when Configure, Repoint or Start is about to be done:
// after them a server would hide that its data differ, or start from the wrong place. On
// MariaDB the replication account may not know what is purged: error 1236 tells later.
//
// ⁵ whoever does that means the server's state to be theirs: not even a replica that they
// make writable is fenced. The server's own configuration makes it read-only at its next boot.
//
// ⁶ the first ordinal is read-only whenever its server has started, and opens when it has
// all that any member has received that answers: see Level. Without GTIDs it can only tell
// that it lacks something: see Coordinate.
//
// ⁷ what was received and not applied would go with the relay logs. Nobody else may have it.
//
// ⁸ a row is there already, or is missing (1062, 1032), or the transaction itself (1950).
//
// ⁹ while a password is rotated there are two. The source is asked which one it takes. The
// account on the primary gets both, and one when there is one again; replicas get that by
// replication.
//
// ¹⁰ it is due as soon as a replica is attached that acknowledges what it gets. Where it is
// required and has been in force, it is due for good: a restarted primary opens with it.
//
// ¹¹ the administrator makes them. Where that one is refused, or the server refuses to make
// them, by a rule for passwords, say, all else goes on. While commits wait for a replica, all
// but the replication account wait, too.
//
// ¹² a channel from before, which was adopted, say, does not verify its source, and goes on
// like that until the source has its certificate, and can prove itself. One that runs is not
// pointed elsewhere, as when members are to have other names, before the source there can.
//
// ¹³ FLUSH, say, is logged by a server that is read-only, too, and so is the emptying of a
// MEMORY table after a restart. Our binary log tells. Where all of it is of that kind, the
// member is what a copy of the source would be, once it has forgotten it: it begins a binary
// log, and follows from where it was. A copy would lack a MEMORY table's rows as well.
//
// ¹⁴ also where something else of what was seen is wrong, or could not be seen. Of a primary
// counts what its server says of how it became writable, not what it is: see fence.go. What
// SET PERSIST has set would outrank the configuration at the next start, and is removed.
//
// ¹⁵ on a replica; and on MariaDB on a primary that is not open, which read_only does not keep
// from running them. There they are off at the start, and are started when it is open, if
// its own configuration wishes for that. The administrator does it; where that one is refused,
// all else goes on.
//
// ¹⁶ seen when the source was open, and lacked transactions of its own that this member has.
// It is recorded: once the source's new ones have reached the same numbers, nothing shows it.
func Decide(s Standing, f Facts) Action {
	switch {
	case s.Paused != "":
		return Action{Leave, s.Paused}
	case s.Initialising && s.Image.interrupted(f):
		return s.Image.decideInterrupted()
	case !f.Answers:
		return Action{Wait, "the server does not answer: " + f.Trouble}
	case mustFence(s, f):
		return fencing(s, f)
	case s.Initialising && !s.Image.Ended && s.Image.Unprovable:
		return Action{Report, s.Image.unprovable()}
	case s.Initialising && !s.Image.Ended:
		return Action{Wait, "it is not proven yet that the server's image has made the whole data directory: " + s.Image.Unproven}
	case f.Trouble != "" && s.Initialising:
		return Action{Report, f.Trouble + "; the server's image has made the data directory; where it was not given this password: " + howToPassword}
	case f.Trouble != "":
		return Action{Report, f.Trouble}
	case f.Version.Flavor != s.Flavor:
		return Action{Report, fmt.Sprintf("the server is %s, not %s as --flavor says", f.Version, s.Flavor)}
	case s.Initialising:
		return Action{MarkComplete, "the server's image has made the data directory"}
	case eventsMustStop(s, f) && f.EventsTrouble == "":
		return Action{StopEvents, "no event may run before the primary is open, and none on a replica"}
	case s.Primary:
		return decidePrimary(s, f)
	case len(f.OtherChannels) > 0:
		return Action{Report, "it replicates over channels that are not ours, too: " + strings.Join(f.OtherChannels, ", ")}
	case s.Parted != "":
		return Action{Reseed, "the primary had lost transactions that this member has (" + s.Parted + "), and has given their numbers to others since, or will" +
			"; replication is not started: bring to the primary what must not be lost, then clone this member anew, " + howToClone}
	case f.Source != nil && f.Source.Errant != "" && f.Source.Harmless:
		return Action{Forget, f.Source.errant() + "; use FLUSH, ANALYZE and OPTIMIZE with LOCAL or NO_WRITE_TO_BINLOG on a replica"}
	case f.Source != nil && f.Source.Errant != "" && f.Source.ReadOnly:
		return Action{Wait, "the source is not open for writes yet, and lacks transactions that this member has: " + f.Source.Errant}
	case f.Source != nil && f.Source.Errant != "":
		return Action{Reseed, "the source lacks transactions that this member has: " + f.Source.errant() +
			"; replication is not started: bring to the source what must not be lost, then clone this member anew, " + howToClone}
	case f.Source != nil && f.Source.Purged != "":
		return Action{Reseed, "the source has purged transactions that this member lacks: " + f.Source.Purged +
			"; replication is not started: clone this member anew, " + howToClone}
	case s.fresh(&f):
		return decideFresh(s, f)
	case f.Channel == nil:
		return decideWithoutChannel(s)
	default:
		return decideReplica(s, f)
	}
}

// errant names what is errant, and what that did.
func (s *SourceFacts) errant() string {
	if s.What == "" {
		return s.Errant
	}
	return s.Errant + " (" + s.What + ")"
}

// howToClone says how a member is cloned anew.
const howToClone = "with understudy reseed, or by deleting its volume claim and its pod, or, without Kubernetes, by emptying its data directory and running init"

func decidePrimary(s Standing, f Facts) Action {
	switch {
	case s.takesOver():
		return Action{TakeOver, "a fresh copy, from " + s.Origin.String()}
	case f.Channel != nil && (f.Level == nil || !f.Level.Channel):
		return Action{Report, fmt.Sprintf("the primary is configured as a replica of %s:%d", f.Channel.Host, f.Channel.Port)}
	case len(f.OtherChannels) > 0:
		return Action{Report, "the primary replicates from somewhere itself, over the channels " + strings.Join(f.OtherChannels, ", ")}
	case f.ReadOnly && len(f.Mismatches) > 0 && (f.Level == nil || !f.Level.Alias):
		return reportMismatches(f)
	case f.Level != nil && f.Level.holds(f):
		return decideLevel(s, f)
	case s.accountsDue(f) && f.AdminTrouble == "":
		return Action{MakeAccount, "an account is missing or wrong: " + f.AccountsWrong}
	case !s.Attached:
		return Action{MarkAttached, "the first ordinal is the primary"}
	case s.semiSyncDue(f) && !s.semiSyncRight(f):
		return Action{SetSemiSync, "--semi-sync=" + string(s.SemiSync)}
	case f.ReadOnly:
		return Action{OpenForWrites, "the first ordinal is the primary"}
	case f.AdminDue && !s.blocked(f):
		return Action{ChangePassword, "it is rotated"}
	case f.EventsDue && f.EventsTrouble == "":
		return Action{StartEvents, "the primary is open for writes, and its configuration wishes for events"}
	case len(f.Persisted) > 0:
		return f.unpersist()
	case s.accountsDue(f):
		return Action{Report, fmt.Sprintf("an account is missing or wrong: %s; and the administrator cannot make it: %s", f.AccountsWrong, f.AdminTrouble)}
	case f.EventsDue:
		return Action{Report, "events do not run, because the administrator cannot start the event scheduler: " + f.EventsTrouble +
			"; check --admin-user and --admin-password-file, or SET GLOBAL event_scheduler = ON"}
	case len(f.Mismatches) > 0:
		return reportMismatches(f)
	case s.blocked(f):
		return Action{Wait, s.open(f)}
	}
	return Action{Rest, s.open(f)}
}

// accountsDue says that the accounts are to be made. While commits wait for a replica, only
// the one counts without which none can come.
func (s Standing) accountsDue(f Facts) bool {
	return !f.AccountRight || f.AccountsWrong != "" && !s.blocked(f)
}

// holds says that the primary is not ready to go on as one.
func (l *Level) holds(f Facts) bool {
	return l.Awaited != "" || l.Begun || l.Conflict != "" || l.Ahead != nil || l.Alias || f.Channel != nil
}

func decideLevel(s Standing, f Facts) Action {
	switch l, c := f.Level, f.Channel; {
	case l.Awaited != "":
		return Action{Wait, "it is not open for writes before the members have said what they have: " + l.Awaited}
	case l.Begun:
		return Action{Report, "it was begun empty, and is not open for writes, as members have data: " + l.Conflict +
			"; delete its volume claim and its pod, and it comes back from them; or, if their data shall not count, stop them, and clone them anew later, " + howToClone}
	case l.Conflict != "":
		return Action{Report, "it is not open for writes, as it lacks what members have: " + l.Conflict +
			"; make the members agree by hand, or stop those that shall not count, and clone them anew later, " + howToClone}
	case l.Ahead == nil:
		return Action{Detach, "it has all that the members have"}
	case !l.Following:
		return Action{Follow, fmt.Sprintf("%s has more: %s", l.Ahead.Name, l.Lacks)}
	case c.SQLErrno != 0 && !c.SQLRunning:
		return Action{Report, fmt.Sprintf("it cannot take over what %s has: the applier stopped with error %d: %s", l.Ahead.Name, c.SQLErrno, c.SQLError)}
	case c.IOErrno != 0 && c.IO == "No" && !sourceAway(c.IOErrno):
		return Action{Report, fmt.Sprintf("it cannot take over what %s has: the receiver stopped with error %d: %s", l.Ahead.Name, c.IOErrno, c.IOError)}
	case c.IOErrno == errAccessDenied && !s.PasswordTried:
		return Action{Follow, l.Ahead.Name + " refuses the password that the server has"}
	case c.IO == "No" || !c.SQLRunning:
		return Action{Follow, "a thread is stopped, and " + l.Ahead.Name + " has more: " + l.Lacks}
	default:
		return Action{Wait, "it follows " + l.following(c)}
	}
}

// following says whom the primary follows, and what keeps it.
func (l *Level) following(c *Channel) string {
	text := fmt.Sprintf("%s until it has what that one has", l.Ahead.Name)
	if l.Ahead.Trouble != "" {
		text += "; " + l.Ahead.Name + " says: " + l.Ahead.Trouble
	}
	if c.IOErrno != 0 {
		text += fmt.Sprintf("; the receiver is connecting: error %d: %s", c.IOErrno, c.IOError)
	}
	return text
}

func (f Facts) unpersist() Action {
	return Action{Unpersist, "SET PERSIST has set what this program has to set at each start of the server: " + strings.Join(f.Persisted, ", ")}
}

func reportMismatches(f Facts) Action {
	return Action{Report, "safety options did not take (is the configuration mounted?): " + strings.Join(f.Mismatches, ", ")}
}

func decideFresh(s Standing, f Facts) Action {
	switch from := s.beginning(f); {
	case len(f.Mismatches) > 0:
		return reportMismatches(f)
	case from == nil && s.Origin.Mode == origin.Executed:
		return Action{Report, "the volume is a copy of another member's, and without GTIDs nothing says where in the primary's binary log it ends: clone this member, " + howToClone}
	case from == nil:
		return Action{Report, "the server does not say where the copy ends in the donor's binary log (is the clone plugin loaded?)"}
	default:
		return Action{Configure, "a fresh copy, from " + from.String()}
	}
}

func decideWithoutChannel(s Standing) Action {
	switch {
	case s.Origin == nil && !s.Attached:
		return Action{Report, "this data directory is not configured as a replica, and nothing says from where to replicate; configure it by hand or clone anew"}
	case s.Origin == nil || s.Origin.Mode != origin.GTID && s.Origin.Mode != origin.Executed:
		return Action{Report, "the replication channel was removed, and its file and position went with it; configure it by hand or clone anew"}
	}
	return Action{Repoint, "the replication channel was removed"}
}

func decideReplica(s Standing, f Facts) Action {
	c := f.Channel
	right := c.follows(s.Source)
	sameHost := c.Host == s.Source.Host && c.Port == s.Source.Port
	refused := f.loginRefused() && !s.PasswordTried
	switch {
	case (!right || refused) && c.Pending:
		return Action{Wait, "it has to be pointed anew, once the applier has applied all that was received"}
	case !right && (c.UsingGTID || sameHost) && c.IO == "Yes" && f.Unproven != "" && s.Source.CA != "":
		return Action{Wait, fmt.Sprintf("%s, and goes on like that: %s:%d cannot prove itself: %s", c.instead(s.Source), s.Source.Host, s.Source.Port, f.Unproven)}
	case !right && (c.UsingGTID || sameHost):
		return Action{Repoint, c.instead(s.Source)}
	case !right:
		return Action{Report, fmt.Sprintf("it follows %s:%d by file and position, which mean nothing at %s:%d", c.Host, c.Port, s.Source.Host, s.Source.Port)}
	case refused:
		return Action{Repoint, "the source refuses the password that the server has"}
	case outOfRoom(c.SQLErrno) && !c.SQLRunning && f.RoomAgain:
		return Action{Start, "the volume was full, and has room again"}
	case f.MemoryTable != "":
		return Action{Report, fmt.Sprintf("the applier stopped with error %d: %s; %s is a MEMORY table: it is empty after each start of a server, and in each copy, so that no clone mends this: "+
			"make it InnoDB on the primary, then clone this member anew, %s; or leave it out of replication here (replicate_ignore_table)", c.SQLErrno, c.SQLError, f.MemoryTable, howToClone)}
	case c.SQLErrno != 0 && !c.SQLRunning:
		return Action{reseedOr(Report, dataDiffer(c.SQLErrno)), fmt.Sprintf("the applier stopped with error %d: %s%s", c.SQLErrno, c.SQLError, advice(c.SQLErrno, c.SQLError)+f.fullBeside())}
	case c.IO == "No" && c.UsingGTID && sourceLacked(c.IOErrno, c.IOError):
		return Action{Start, "the source lacked what this member has when it was asked last"}
	case c.IOErrno != 0 && c.IO == "No" && !sourceAway(c.IOErrno):
		return Action{reseedOr(Report, sourceCannotGoOn(c.IOErrno, c.IOError)), fmt.Sprintf("the receiver stopped with error %d: %s%s", c.IOErrno, c.IOError, advice(c.IOErrno, c.IOError))}
	case len(f.Persisted) > 0:
		return f.unpersist()
	case s.SemiSync.wanted() && f.SemiSync.Known && !f.SemiSync.Replica:
		return Action{SetSemiSync, "--semi-sync=" + string(s.SemiSync)}
	case c.IO == "No" && c.SQLRunning && f.Barred != "":
		return Action{Wait, "the source does not let the replication account in: " + f.Barred + "; the primary's sidecar mends its account"}
	case c.IO == "No" || !c.SQLRunning:
		return Action{Start, "replication does not run"}
	case c.IO == "Yes" && !s.Attached:
		return Action{MarkAttached, "replication runs"}
	case c.IO != "Yes" && f.distrusts() && f.Unproven != "":
		return Action{Wait, fmt.Sprintf("the receiver is connecting: error %d: %s; the source cannot prove itself: %s", c.IOErrno, c.IOError, f.Unproven)}
	case c.IO != "Yes" && c.IOErrno != 0:
		return Action{Wait, fmt.Sprintf("the receiver is connecting: error %d: %s", c.IOErrno, c.IOError)}
	case c.IO != "Yes":
		return Action{Wait, "the receiver is connecting"}
	case c.Silent:
		return Action{Wait, f.withoutSource()}
	case len(f.Mismatches) > 0:
		return reportMismatches(f)
	case f.Unproven != "":
		return Action{Wait, "replication runs, and its source is not verified before it can prove itself: " + f.Unproven}
	}
	return Action{Rest, "replication runs"}
}

// instead says what the channel does that does not follow the source.
func (c *Channel) instead(s Source) string {
	switch {
	case !c.verifies(s):
	case c.beats():
		return fmt.Sprintf("it follows %s@%s:%d", c.User, c.Host, c.Port)
	default:
		return fmt.Sprintf("its source sends a heartbeat only every %v, not every %d s", c.HeartbeatPeriod, heartbeat)
	}
	return fmt.Sprintf("it follows %s@%s:%d, whose certificate it does not verify as it should", c.User, c.Host, c.Port)
}

// reseedOr is Reseed where that is what mends it.
func reseedOr(step Step, mends bool) Step {
	if mends {
		return Reseed
	}
	return step
}
