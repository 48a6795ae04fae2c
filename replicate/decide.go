package replicate

import (
	"fmt"
	"strings"
)

// Decide picks the next step. It looks at nothing but its arguments. The first row that matches
// counts:
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
//	any      it was adopted, and somebody vouches for it¹⁷           MarkComplete
//	any      it was adopted, and its files are not looked for yet¹⁷  Wait
//	any      it was adopted, and files are missing¹⁷                 Report
//	any      it was adopted, and has all its files¹⁷                 MarkComplete
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
//	primary  events are to run, and do not¹⁵                         StartEvents
//	primary  the administrator's password is rotated⁹                ChangePassword
//	primary  settings are persisted that open it at its start¹⁴      Unpersist
//	primary  an account is wrong, and cannot be made right¹¹         Report
//	primary  events are to run, and cannot be started                Report
//	primary  a safety option did not take                            Report
//	primary  commits wait for a replica, and none acknowledges them  Wait
//	primary  else                                                    Rest
//	replica  it has a channel with a name                            Report
//	replica  the source gives the numbers of what it has lost¹⁶      Reseed
//	replica  the same, which changed no data, and a backup runs¹³    Wait
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
// ¹ while the journal says initialising. An image sets root's password before it runs the scripts
// of its user, and one that is restarted in between skips them: that a server answers, and lets us
// in, proves nothing. See Image.
//
// ² a copy of a MySQL replica brings the donor's channel with it, half configured: the place in it
// may be stale, the relay logs are missing, the password is an old one. It is replaced.
//
// ³ somebody removed the channel: the server knows its own position better than the origin of long
// ago.
//
// ⁴ in GTID mode the source is asked when Configure, Repoint or Start is about to be done: after
// them a server would hide that its data differ, or start from the wrong place. On MariaDB the
// replication account may not know what is purged: error 1236 tells later.
//
// ⁵ the person who pauses a member is responsible for its state: not even a replica that is made
// writable is fenced. The server's own configuration makes it read-only at its next boot.
//
// ⁶ the first ordinal is read-only whenever its server has started, and opens when it has all that
// any member has received that answers: see Level. Without GTIDs it can only tell that it lacks
// something: see Coordinate.
//
// ⁷ what was received and not applied would go with the relay logs. Nobody else may have it.
//
// ⁸ a row is there already, or is missing (1062, 1032), or the transaction itself (1950).
//
// ⁹ while a password is rotated there are two. The source is asked which one it takes. The account
// on the primary gets both, and one when there is one again; replicas get that by replication.
//
// ¹⁰ it is due as soon as a replica is attached that acknowledges what it gets. Where it is
// required and has been in force, it is due for good: a restarted primary opens with it.
//
// ¹¹ the administrator makes them. If the administrator is refused, or the server refuses the
// accounts, for example by a password rule, everything else goes on. While commits wait for a
// replica, all but the replication account wait, too.
//
// ¹² a channel that was adopted, or made by an earlier version, may not verify its source. It keeps
// running like that until the source has its certificate and can prove its identity. A channel that
// runs is pointed at another source only after that one has proved its identity.
//
// ¹³ a read-only server still logs FLUSH, for example, and the emptying of a MEMORY table after a
// restart. The member's binary log shows what the transactions did. If all of them changed no data,
// the member is what a copy of the source would be, once it has forgotten them: it starts a new
// binary log, and follows from where it was. A copy would lack a MEMORY table's rows as well. It
// waits for a backup that runs, which would not know meanwhile where its data are.
//
// ¹⁴ even if something else is wrong, or could not be read. On a primary the origin of the variable
// counts, not its value: see fence.go. A variable that SET PERSIST has set would outrank the
// configuration at the next start, and is removed.
//
// ¹⁵ on a replica, and on a primary that is not open: see fence.go. A server starts with events
// off; once the primary is open, they are started if its own configuration turns them on, or the
// server's default does. On MariaDB the administrator does it. If that is refused, everything else
// goes on.
//
// ¹⁶ seen when the source was open, and lacked transactions of its own that this member has. It is
// recorded: once the source's new ones have reached the same numbers, nothing shows it.
//
// ¹⁷ once for each directory that was adopted. A copy that was interrupted may have all that a
// server needs to start, and then nothing but its dictionary knows what else there was: see
// Agent.askFiles.
func Decide(s Standing, f Facts) Action {
	said := f.judgement()
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
		return Action{Report, f.Trouble + "; the server's image has made the data directory; if it was not given this password, " + howToPassword}
	case f.Trouble != "":
		return Action{Report, f.Trouble}
	case f.Version.Flavor != s.Flavor:
		return Action{Report, fmt.Sprintf("the server is %s, not %s as --flavor says", f.Version, s.Flavor)}
	case s.Initialising:
		return Action{MarkComplete, "the server's image has made the data directory"}
	case eventsMustStop(s, f) && f.EventsTrouble == "":
		return Action{StopEvents, "no event may run before the primary is open, and none on a replica"}
	case s.Unchecked:
		return s.decideUnchecked(f)
	case s.Primary:
		return decidePrimary(s, f)
	case len(f.OtherChannels) > 0:
		return Action{Report, "it also replicates over channels that understudy did not make: " + strings.Join(f.OtherChannels, ", ")}
	case s.parted(f) != "":
		return Action{Reseed, "the primary lost transactions that this member has (" + s.parted(f) + "), and gives their numbers to others" +
			"; replication is not started: bring to the primary what must not be lost, then reseed this member, " + howToReseed}
	case said.Errant != "" && said.Harmless && f.Copied:
		return Action{Wait, said.errant() + " will be forgotten when the clone that this member is giving has ended"}
	case said.Errant != "" && said.Harmless:
		return Action{Forget, said.errant() + "; use FLUSH, ANALYZE and OPTIMIZE with LOCAL or NO_WRITE_TO_BINLOG on a replica"}
	case said.Errant != "" && said.ReadOnly:
		return Action{Wait, "the source is not open for writes yet, and lacks transactions that this member has: " + said.Errant}
	case said.Errant != "":
		return Action{Reseed, "the source lacks transactions that this member has: " + said.errant() + f.notStarted() +
			": bring to the source what must not be lost, then reseed this member, " + howToReseed}
	case said.Purged != "":
		return Action{Reseed, "the source has purged transactions that this member lacks: " + said.Purged +
			"; replication is not started: reseed this member, " + howToReseed}
	case s.fresh(&f):
		return decideFresh(s, f)
	case f.Channel == nil:
		return decideWithoutChannel(s)
	default:
		return decideReplica(s, f)
	}
}

// judgement is what the source said, as far as it decides something.
func (f Facts) judgement() SourceFacts {
	if f.Source == nil || f.Source.ForReseed {
		return SourceFacts{}
	}
	return *f.Source
}

// notStarted says so, where replication does not run.
func (f Facts) notStarted() string {
	if c := f.Channel; c != nil && c.IO != "No" && c.SQLRunning {
		return ""
	}
	return "; replication is not started"
}

// errant names what is errant, and what that did.
func (s SourceFacts) errant() string {
	if s.What == "" {
		return s.Errant
	}
	return s.Errant + " (" + s.What + ")"
}

// howToReseed says how a member is reseeded.
const howToReseed = "with understudy reseed, or by deleting its volume claim and its pod, or, without Kubernetes, by emptying its data directory and running init"

func (f Facts) unpersist() Action {
	return Action{Unpersist, "variables that the sidecar sets at each start of the server are persisted (SET PERSIST): " + strings.Join(f.Persisted, ", ")}
}

func reportMismatches(f Facts) Action {
	return Action{Report, "safety options did not take (is the configuration mounted?): " + strings.Join(f.Mismatches, ", ")}
}
