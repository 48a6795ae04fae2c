package replicate

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"understudy/replicate/origin"
)

// The rows of the table above Decide, by its own words, in its order.
func TestDecide(t *testing.T) {
	tests := []struct {
		row  string
		v    view
		want Step
	}{
		{"somebody has paused the member⁵", replica(paused, sqlStopped), Leave},
		{"its image was interrupted¹", primary(readOnly, begun), StartOver},
		{"its image was interrupted again and again¹", primary(noAnswer, restarted, lastAttempt), Report},
		{"the server does not answer", replica(noAnswer), Wait},
		{"not fenced, and not opened since its server started¹⁴", primary(bootedWritable), Fence},
		{"not fenced¹⁴", replica(writable, noChannel), Fence},
		{"nothing can prove that its image is done¹", primary(readOnly, untold), Report},
		{"it is not proven yet that its image is done¹", primary(readOnly, initialising), Wait},
		{"it refuses the login, or cannot be read", replica(loginRefused), Report},
		{"it is of another flavour", replica(mysqlServer), Report},
		{"its image is done, which is not recorded¹", primary(readOnly, imageDone), MarkComplete},
		{"events run where they must not¹⁵", primary(fenced, eventsRun, level(awaiting)), StopEvents},
		{"it was adopted, and somebody vouches for it¹⁷", primary(fenced, unchecked, filesLost, vouched), MarkComplete},
		{"it was adopted, and its files are not looked for yet¹⁷", replica(fresh, unchecked), Wait},
		{"it was adopted, and files are missing¹⁷", primary(fenced, unchecked, filesLost), Report},
		{"it was adopted, and has all its files¹⁷", replica(fresh, unchecked, filesThere), MarkComplete},
		{"a fresh copy", primary(fenced, ownCopy, fresh), TakeOver},
		{"it is configured as a replica of no member, or is open", primary(channel(func(*Channel) {})), Report},
		{"it has a channel with a name", primary(named, readOnly, level()), Report},
		{"read-only, and a safety option did not take", primary(readOnly, unsafe), Report},
		{"a member may still say what it has⁶", primary(readOnly, level(awaiting)), Wait},
		{"it was begun empty, and a member has data", primary(readOnly, level(bornEmpty)), Report},
		{"a member has more, and none can be followed", primary(readOnly, level(parted)), Report},
		{"a member has more, and is not followed", primary(readOnly, level(behind)), Follow},
		{"it is followed, and the applier stopped with an error", primary(readOnly, sqlFailed, level(behind, following)), Report},
		{"it is followed, and the receiver stopped with an error", primary(readOnly, purged, running, level(behind, following)), Report},
		{"it is followed, and its password is refused", primary(readOnly, accessDenied, running, level(behind, following)), Follow},
		{"it is followed, and a thread is stopped", primary(readOnly, ioStopped, running, level(behind, following)), Follow},
		{"it is followed", primary(readOnly, connecting, running, level(behind, following)), Wait},
		{"no member has more, and it follows one", primary(readOnly, connecting, running, level(following)), Detach},
		{"an account is missing or wrong¹¹", primary(notAttached, noAccount), MakeAccount},
		{"not attached", primary(readOnly, notAttached), MarkAttached},
		{"semi-sync is due, and not as it has to be¹⁰", primary(readOnly, semiSync(SemiSyncRequired, SemiSyncFacts{Known: true, Replicas: 1})), SetSemiSync},
		{"read-only", primary(readOnly), OpenForWrites},
		{"events are to run, and do not¹⁵", primary(eventsDue, persisted, lacking, adminRefused), StartEvents},
		{"the administrator's password is rotated⁹", primary(adminDue, unsafe), ChangePassword},
		{"settings are persisted that open it at its start¹⁴", primary(persisted, unsafe), Unpersist},
		{"an account is wrong, and cannot be made right¹¹", primary(lacking, adminRefused, unsafe), Report},
		{"events are to run, and cannot be started", primary(eventsDue, eventsRefused, unsafe), Report},
		{"a safety option did not take", primary(unsafe), Report},
		{"commits wait for a replica, and none acknowledges them", primary(semiSync(SemiSyncRequired, inForce), noReplica), Wait},
		{"else", primary(), Rest},
		{"it has a channel with a name", replica(named), Report},
		{"the source gives the numbers of what it has lost¹⁶", replica(ioStopped, hasParted), Reseed},
		{"the same, which changed no data, and a backup runs¹³", replica(sourceSays("0-101-6", ""), harmless, copied), Wait},
		{"the source lacks what we have, which changed no data¹³", replica(sourceSays("0-101-6", ""), harmless, sourceReadOnly), Forget},
		{"the source lacks what we have, and is not open yet⁴⁶", replica(ioStopped, sourceSays("0-101-6", ""), sourceReadOnly), Wait},
		{"the source lacks what we have⁴", replica(ioStopped, sourceSays("0-101-6", "")), Reseed},
		{"the source has purged what we lack⁴", replica(noChannel, sourceSays("", "0-100-6")), Reseed},
		{"a fresh copy, and a safety option did not take", replica(fresh, unsafe), Report},
		{"a fresh copy that does not say where it ends", replica(fresh, from(unknown), noChannel), Report},
		{"a fresh copy²", replica(fresh), Configure},
		{"no channel, GTID mode³", replica(noChannel), Repoint},
		{"no channel, file and position mode, or no origin", replica(noChannel, from(byFile)), Report},
		{"Repoint is due, and not all that came is applied⁷", replica(otherHost, pending), Wait},
		{"Repoint is due, it runs, and no proof of the source¹²", replica(otherHost, distrusted), Wait},
		{"wrong source, account or verification, GTID mode¹²", replica(unverified), Repoint},
		{"wrong account or verification, by file and position¹²", replica(byPosition, unverified), Repoint},
		{"wrong source, file and position mode", replica(byPosition, otherPort), Report},
		{"the source refuses the login, password not tried yet⁹", replica(accessDenied), Repoint},
		{"the applier stopped: it wanted room, and there is some", replica(tableFull, func(v *view) { v.f.RoomAgain = true }), Start},
		{"the applier stopped: a MEMORY table lacks a row¹³", replica(sqlFailed, memoryTable), Report},
		{"the applier stopped: the rows differ⁸", replica(sqlFailed), Reseed},
		{"the applier stopped with another error", replica(sqlOther), Report},
		{"the receiver stopped: the source lacked what we had", replica(lacked), Start},
		{"the receiver stopped: it asks for what is gone", replica(purged), Reseed},
		{"the receiver stopped with an error of its own", replica(twin), Report},
		{"settings are persisted that open it at its start¹⁴", replica(persisted, ioStopped), Unpersist},
		{"semi-sync is wanted, and its side is off", replica(ioStopped, semiSync(SemiSyncPreferred, SemiSyncFacts{Known: true})), SetSemiSync},
		{"the receiver is stopped, and the source bars its login", replica(ioStopped, barredLogin), Wait},
		{"a thread is stopped", replica(ioStopped), Start},
		{"both threads run, not attached", replica(notAttached), MarkAttached},
		{"the receiver is connecting", replica(connecting), Wait},
		{"nothing comes from its source", replica(silent), Wait},
		{"a safety option did not take", replica(unsafe), Report},
		{"it does not verify its source¹²", replica(unverified, unproven), Wait},
		{"else", replica(), Rest},
	}
	rows := tableRows(t)
	if len(rows) != len(tests) {
		t.Fatalf("the table has %d rows, the test %d", len(rows), len(tests))
	}
	for i, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			if rows[i].seen != tt.row || steps[rows[i].step] != tt.want {
				t.Errorf("row %d of the table is %+v", i, rows[i])
			}
			got := Decide(tt.v.s, tt.v.f)
			if got.Step != tt.want || got.Reason == "" {
				t.Errorf("%q (%s), want %q", got.Step, got.Reason, tt.want)
			}
		})
	}
}

// A volume that is a copy of another member's goes on from all that its server has executed, and
// says what to do where that is not known.
func TestDecideOnCopiedVolume(t *testing.T) {
	executed := from(&origin.Origin{Mode: origin.Executed, Of: origin.Donor})
	v := replica(fresh, executed, noChannel)
	if got := Decide(v.s, v.f); got.Step != Configure || v.s.beginning(v.f).Mode != origin.GTID {
		t.Errorf("%+v", got)
	}
	v.f.UsesGTID = false
	if got := Decide(v.s, v.f); got.Step != Report || !strings.Contains(got.Reason, "the volume is a copy of another member's") {
		t.Errorf("%+v", got)
	}
}

// steps are the names that the table above Decide uses.
var steps = map[string]Step{
	"Wait": Wait, "Report": Report, "Reseed": Reseed, "Rest": Rest, "Fence": Fence, "MarkComplete": MarkComplete, "MakeAccount": MakeAccount,
	"MarkAttached": MarkAttached, "OpenForWrites": OpenForWrites, "Configure": Configure, "Repoint": Repoint, "Start": Start, "Leave": Leave,
	"StopEvents": StopEvents, "StartEvents": StartEvents, "Unpersist": Unpersist,
	"TakeOver": TakeOver, "Follow": Follow, "Detach": Detach, "ChangePassword": ChangePassword, "SetSemiSync": SetSemiSync, "StartOver": StartOver,
	"Forget": Forget,
}

type tableRow struct{ seen, step string }

// tableRows reads the table's last two columns.
func tableRows(t *testing.T) []tableRow {
	t.Helper()
	text, err := os.ReadFile("decide.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []tableRow
	for _, m := range regexp.MustCompile(`(?m)^//\t(?:any|primary|replica)\s+(.*?)\s{2,}(\w+)$`).FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, tableRow{m[1], m[2]})
	}
	return rows
}

// Cases between the rows.
func TestDecideMore(t *testing.T) {
	tests := []struct {
		name string
		v    view
		want Step
	}{
		{"a paused member whose server does not answer", replica(paused, noAnswer), Leave},
		{"a paused member that does not let us in", replica(paused, loginRefused), Leave},
		{"a paused replica that somebody made writable", replica(paused, writable), Leave},
		{"a paused replica whose applier failed", replica(paused, sqlFailed), Leave},
		{"a paused primary that is read-only", primary(paused, readOnly), Leave},
		{"a paused member with which all is well", replica(paused), Leave},
		{"an image at work", primary(noAnswer, begun), Wait},
		{"an image that was killed before it came to its scripts", primary(noAnswer, restarted), StartOver},
		{"an image without our scripts that was restarted, and a server answers", primary(readOnly, restarted), StartOver},
		{"an image that was restarted before it had done anything", primary(noAnswer, restarted, func(v *view) { v.s.Image.Filled = false }), Wait},
		{"an image that is done and was restarted", primary(readOnly, imageDone, func(v *view) { v.s.Image.Restarted = true }), MarkComplete},
		{"an image that was killed half-way, and its server refuses the login", primary(loginRefused, begun), StartOver},
		{"an image that is done, and has another password", primary(loginRefused, imageDone), Report},
		{"an image whose end nothing proves, and its server refuses the login", primary(loginRefused, untold), Report},
		{"a paused member whose image was interrupted", primary(paused, begun), Leave},
		{"traces of an image in a directory that is complete", primary(func(v *view) { restarted(v); v.s.Initialising = false }), Rest},
		{"a source that lacks nothing and can send all", replica(ioStopped, sourceSays("", "")), Start},
		{"a fresh copy that the source knows nothing of", replica(fresh, sourceSays("0-100-5", "")), Reseed},
		{"a fresh copy that comes too late", replica(fresh, sourceSays("", "0-100-6")), Reseed},
		{"a source to which it must not be turned", replica(otherHost, sourceSays("0-101-6", "")), Reseed},
		{"a source that does not matter", primary(readOnly, sourceSays("0-101-6", "0-100-6")), OpenForWrites},
		{"semi-sync before the first replica", primary(readOnly, semiSync(SemiSyncRequired, SemiSyncFacts{Known: true})), OpenForWrites},
		{"semi-sync that was in force before a restart", primary(readOnly, semiSynced, semiSync(SemiSyncRequired, SemiSyncFacts{Known: true})), SetSemiSync},
		{"semi-sync on a first ordinal that came back as a copy", primary(readOnly, from(byGTID), semiSync(SemiSyncRequired, SemiSyncFacts{Known: true})), SetSemiSync},
		{"semi-sync that was required, and is preferred now", primary(readOnly, semiSynced, semiSync(SemiSyncPreferred, SemiSyncFacts{Known: true})), OpenForWrites},
		{"semi-sync with the timeout of another mode", primary(semiSync(SemiSyncPreferred, inForce)), SetSemiSync},
		{"semi-sync of somebody else", primary(semiSync(SemiSyncOff, inForce)), Rest},
		{"semi-sync in force, and read-only", primary(readOnly, semiSynced, semiSync(SemiSyncRequired, inForce), noReplica), OpenForWrites},
		{"semi-sync that is not loaded", replica(unsafe, semiSync(SemiSyncRequired, SemiSyncFacts{})), Report},
		{"semi-sync on a replica", replica(semiSync(SemiSyncRequired, inForce)), Rest},
		{"the applier is stopped, and the source bars the login", replica(sqlStopped, barredLogin), Start},
		{"the receiver has stopped as its account has expired", replica(expiredLogin), Start},
		{"password tried already", replica(accessDenied, passwordTried), Wait},
		{"the password is refused, and not all that came is applied", replica(accessDenied, pending), Wait},
		{"the source is away", replica(cannotReach), Wait},
		{"the source was away for too long", replica(cannotReach, ioStopped), Start},
		{"the applier stopped at a table's own limit", replica(tableFull), Report},
		{"the applier is stopped without an error", replica(sqlStopped), Start},
		{"the applier runs again after an error", replica(sqlOldError), Rest},
		{"another account with GTID", replica(otherUser), Repoint},
		{"another source with GTID", replica(otherHost), Repoint},
		{"another source, that does not prove itself", replica(otherHost, unverified, unproven), Wait},
		{"another account, and the source does not prove itself any more", replica(otherUser, distrusted), Wait},
		{"another source, that does not prove itself, by position", replica(byPosition, otherHost, distrusted), Report},
		{"a stopped one with another source that does not prove itself", replica(otherHost, distrusted, ioStopped), Repoint},
		{"another account at a source that does not prove itself", replica(otherUser, unverified, unproven), Repoint},
		{"an adopted replica whose source does not prove itself", replica(notAttached, unverified, unproven), MarkAttached},
		{"a stopped replica whose source does not prove itself", replica(unverified, unproven, ioStopped), Start},
		{"another account by position", replica(byPosition, otherUser), Repoint},
		{"an adopted replica that runs", replica(notAttached, from(nil), byPosition), MarkAttached},
		{"connecting, never attached", replica(notAttached, cannotReach), Wait},
		{"a replica to which administrators can write", replica(halfFenced), Fence},
		{"a primary that is read-only, to which administrators can write", primary(readOnly, halfFenced), Fence},
		{"a primary that started writable, on which something cannot be read", primary(bootedWritable, unreadable, level(awaiting)), Fence},
		{"a replica that is writable, on which something cannot be read", replica(writable, unreadable), Fence},
		{"a fresh copy that somebody has opened", primary(ownCopy, fresh), Fence},
		{"a paused primary that started writable", primary(paused, bootedWritable), Leave},
		{"an image that left its server writable", primary(bootedWritable, imageDone), MarkComplete},
		{"a server of another flavour that is writable", replica(writable, mysqlServer), Report},
		{"events on a replica", replica(eventsRun), StopEvents},
		{"events on a replica that cannot be stopped", replica(eventsRun, eventsRefused), Rest},
		{"events on a primary that is open", primary(eventsRun), Rest},
		{"events on a primary that is not open that cannot be stopped", primary(fenced, eventsRun, eventsRefused), OpenForWrites},
		{"persisted settings before the primary is open", primary(readOnly, persisted), OpenForWrites},
		{"a primary that is read-only while the password is rotated", primary(readOnly, adminDue), OpenForWrites},
		{"a replica while the password is rotated", replica(adminDue), Rest},
		{"a primary whose sidecar's account is wrong", primary(readOnly, lacking), MakeAccount},
		{"the same while commits wait for a replica", primary(lacking, waiting), Wait},
		{"a primary without replication account while commits wait", primary(noAccount, waiting), MakeAccount},
		{"the administrator's password is rotated while commits wait", primary(adminDue, waiting), Wait},
		{"a wrong account that nobody can make, before the primary is open", primary(readOnly, noAccount, adminRefused), OpenForWrites},
		{"a primary with a channel that has a name", primary(named), Report},
		{"a fresh copy without a channel", replica(noChannel, fresh), Configure},
		{"a fresh copy by position", replica(fresh, from(byFile)), Configure},
		{"a fresh copy by position without a channel", replica(noChannel, fresh, from(byFile)), Configure},
		{"a fresh copy that says where it ends", replica(fresh, from(unknown), booted), Configure},
		{"a fresh copy whose channel follows somebody else", replica(fresh, from(byFile), otherHost, byPosition), Configure},
		{"a copy whose new channel does not run yet", replica(notAttached, ioStopped), Start},
		{"a copy whose new channel was removed", replica(notAttached, noChannel), Repoint},
		{"a copy whose new channel by position was removed", replica(notAttached, noChannel, from(byFile)), Report},
		{"an adopted copy that nobody configured", replica(fresh, adopted, noChannel), Configure},
		{"an adopted replica, with the origin of long ago", replica(fresh, adopted, from(byFile), byPosition), MarkAttached},
		{"a replica that has parted, whose source lacks nothing any more", replica(ioStopped, hasParted, sourceSays("", "")), Reseed},
		{"a fresh copy of one that has parted", replica(fresh, hasParted), Reseed},
		{"an adopted directory that somebody has opened", primary(unchecked, filesThere), Fence},
		{"an adopted directory whose files cannot be looked for", primary(fenced, unchecked, filesUnseen), Wait},
		{"events on an adopted directory", primary(fenced, unchecked, eventsRun), StopEvents},
		{"files that are missing in a directory that was seen to be whole", primary(filesLost), Rest},
		{"no channel, and no origin", replica(noChannel, fresh, from(nil)), Report},
		{"an adopted replica whose channel was removed", replica(noChannel, from(nil)), Report},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Decide(tt.v.s, tt.v.f); got.Step != tt.want {
				t.Errorf("%q (%s), want %q", got.Step, got.Reason, tt.want)
			}
		})
	}
}

// What must hold whatever is seen.
func TestDecideNeverHarms(t *testing.T) {
	both := []bool{false, true}
	for bits := range 1 << 16 {
		on := func(i int) bool { return bits&(1<<i) != 0 }
		v := replica()
		s := v.s
		s.Primary, s.Attached, s.Initialising, s.Configured = on(0), on(1), on(2), on(9)
		s.Image = Image{Filled: true, Begun: on(13), Ended: on(14), Restarted: on(15)}
		if on(3) {
			s.Origin = nil
		}
		f := v.f
		f.ReadOnly, f.Fenced, f.Opened, f.Accounts = on(4), on(4), !on(4) && on(9), &AccountFacts{Right: on(5)}
		if on(6) {
			f.Channel = nil
		}
		if on(7) {
			f.Mismatches = []string{"x"}
		}
		if on(8) {
			f.Trouble = "x"
		}
		if on(10) {
			f.Level = &Level{Channel: on(11)}
			if on(12) {
				f.Level.Ahead = &Peer{Name: "db-1"}
			}
		}
		for _, answers := range both {
			f.Answers = answers
			a := Decide(s, f)
			if s.Initialising && a.Step.changes() && a.Step != MarkComplete {
				t.Errorf("%s while the image may be at work: %+v, %+v", a.Step, s, f)
			}
			bad := func(why string) { t.Errorf("%s: %+v for %+v, %+v", why, a, s, f) }
			switch a.Step {
			case OpenForWrites:
				if !s.Primary || !s.Attached || f.Channel != nil || len(f.Mismatches) > 0 || f.Trouble != "" || f.Level != nil && f.Level.Ahead != nil {
					bad("opened")
				}
			case TakeOver:
				if !s.Primary || s.Attached || s.Configured || s.Origin == nil || !f.Fenced {
					bad("taken over")
				}
			case Follow:
				if !s.Primary || f.Level.Ahead == nil {
					bad("followed")
				}
			case Detach:
				if !s.Primary || !f.Level.Channel || f.Level.Ahead != nil {
					bad("detached")
				}
			case Configure:
				if s.Primary || s.Attached || s.Configured || s.Origin == nil || !f.ReadOnly || len(f.Mismatches) > 0 {
					bad("configured")
				}
			case ChangePassword:
				if !s.Primary || f.ReadOnly {
					bad("a password changed")
				}
			case Repoint, Start:
				if s.Primary {
					bad("a primary made a replica")
				}
			case Forget:
				bad("nothing is known to be harmless")
			case Fence:
				if s.Primary && f.Opened && (s.Attached || s.Configured || s.Origin == nil) {
					bad("an open primary fenced")
				}
			case MarkComplete:
				if !s.Initialising || !s.Image.Ended {
					bad("half a directory taken for whole")
				}
			case MarkAttached:
				if !s.Primary && (f.Channel == nil || !f.Channel.SQLRunning) {
					bad("attached")
				}
			case Wait, Report, Reseed, StartOver, Rest, Leave, MakeAccount, SetSemiSync, StopEvents, StartEvents, Unpersist:
			}
			if answers && !s.Initialising && !f.ReadOnly && (!s.Primary || !f.Opened) && a.Step != Fence {
				bad("a writable member was not fenced first")
			}
		}
	}
}

// Nothing but what makes it safe is done on a directory that nobody has looked through.
func TestDecideUnchecked(t *testing.T) {
	for bits := range 1 << 9 {
		on := func(i int) bool { return bits&(1<<i) != 0 }
		v := replica(unchecked)
		v.s.Primary, v.s.Configured, v.f.Fenced, v.f.ReadOnly, v.f.EventsOn = on(0), on(1), on(2), on(2), on(3)
		v.f.Opened = !on(2) && on(4)
		if on(5) {
			v.s.Origin = nil
		}
		if on(6) {
			v.f.Channel = nil
		}
		if on(7) {
			filesLost(&v)
		}
		if on(8) {
			v.f.Level = &Level{}
		}
		a := Decide(v.s, v.f)
		if a.Step.changes() && a.Step != Fence && a.Step != StopEvents {
			t.Errorf("%s: %+v, %+v", a.Step, v.s, v.f)
		}
		if ready, why := readiness(v.s, v.f, a, 0); ready {
			t.Errorf("ready: %s: %+v, %+v", why, v.s, v.f)
		}
	}
}

func TestStepChanges(t *testing.T) {
	for _, s := range []Step{Wait, Report, Reseed, StartOver, Rest, Leave} {
		if s.changes() {
			t.Errorf("%s changes something", s)
		}
	}
	for _, s := range steps {
		if slices.Contains([]Step{Wait, Report, Reseed, StartOver, Rest, Leave}, s) {
			continue
		}
		if !s.changes() {
			t.Error(fmt.Sprint(s) + " changes nothing")
		}
	}
}
