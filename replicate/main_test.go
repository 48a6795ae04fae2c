package replicate

import (
	"testing"

	"go.uber.org/goleak"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "pa55word"

var (
	version  = flavor.Version{Flavor: flavor.MariaDB, Major: 10, Minor: 11, Patch: 18}
	source   = Source{Host: "db-0.db", Port: 3306, User: "understudy_replication", Password: secret, CA: "/config/tls/ca.pem"}
	byGTID   = &origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-100-5", File: "binlog.000001", Position: 330}
	byFile   = &origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000003", Position: 671}
	unknown  = &origin.Origin{Mode: origin.FirstBoot, Of: origin.Donor}
	mismatch = []string{`sync_binlog is "0", not "1"`}
)

// primary is a primary with which all is well, and what is changed of it.
func primary(changes ...func(*view)) view {
	v := view{
		s: Standing{Flavor: flavor.MariaDB, Primary: true, Recorded: Recorded{Attached: true}, Source: source},
		f: Facts{Answers: true, Version: version, Known: true, Opened: true, ServerID: 100, GTID: "0-100-5", UsesGTID: true, Accounts: &AccountFacts{Right: true}},
	}
	return v.with(changes)
}

// replica is a replica with which all is well, and what is changed of it.
func replica(changes ...func(*view)) view {
	lag := int64(0)
	v := view{
		s: Standing{Flavor: flavor.MariaDB, Recorded: Recorded{Configured: true, Attached: true, Origin: byGTID}, Source: source},
		f: Facts{Answers: true, Version: version, Known: true, ServerID: 101, ReadOnly: true, Fenced: true, GTID: "0-100-5", UsesGTID: true},
	}
	v.f.Channel = &Channel{
		Host: source.Host, Port: source.Port, User: source.User, CA: source.CA, Verified: true, UsingGTID: true, IO: "Yes", SQLRunning: true, Lag: &lag,
	}
	return v.with(changes)
}

func (v view) with(changes []func(*view)) view {
	for _, change := range changes {
		change(&v)
	}
	return v
}

func paused(v *view)     { v.s.Paused = "paused since noon" }
func readOnly(v *view)   { v.f.ReadOnly, v.f.Fenced, v.f.Opened = true, true, false }
func writable(v *view)   { v.f.ReadOnly, v.f.Fenced = false, false }
func unreadable(v *view) { v.f.Trouble = "read replica status: timeout" }
func persisted(v *view)  { v.f.Persisted = []string{"read_only"} }
func eventsRun(v *view)  { v.f.EventsOn = true }
func eventsDue(v *view)  { v.f.EventsDue = true }
func halfFenced(v *view) { v.f.Fenced = false }
func fenced(v *view)     { readOnly(v) }
func eventsRefused(v *view) {
	v.f.EventsTrouble = "access denied"
}

// bootedWritable is a server whose arguments outrank its configuration.
func bootedWritable(v *view) {
	v.f.ReadOnly, v.f.Fenced, v.f.Opened, v.f.WritableFrom = false, false, false, "the arguments of the server's container"
}
func notAttached(v *view) { v.s.Attached = false }
func fresh(v *view)       { v.s.Attached, v.s.Configured = false, false }
func adopted(v *view)     { v.s.Adopted = true }
func unchecked(v *view)   { v.s.Adopted, v.s.Unchecked, v.s.Attached = true, true, false }
func vouched(v *view)     { v.s.Vouched = true }
func filesThere(v *view)  { v.f.Files = &FileFacts{} }
func filesLost(v *view)   { v.f.Files = &FileFacts{Missing: []string{"shop.orders"}} }
func filesUnseen(v *view) { v.f.Files = &FileFacts{Unread: "timeout"} }
func booted(v *view)      { v.f.Booted = byFile }
func named(v *view)       { v.f.OtherChannels = []string{"east"} }
func initialising(v *view) {
	v.s.Initialising, v.s.Image = true, Image{Filled: true, Attempt: 1, Last: 3}
}
func begun(v *view)     { initialising(v); v.s.Image.Begun = true }
func imageDone(v *view) { begun(v); v.s.Image.Ended = true }
func restarted(v *view) { initialising(v); v.s.Image.Restarted = true }
func untold(v *view) {
	initialising(v)
	v.s.Image.Unproven, v.s.Image.Unprovable = "the API server forbids it", true
}
func lastAttempt(v *view)  { v.s.Image.Attempt = v.s.Image.Last }
func noAnswer(v *view)     { v.f = Facts{Trouble: "connection refused"} }
func loginRefused(v *view) { v.f = Facts{Answers: true, Trouble: "access denied"} }
func mysqlServer(v *view)  { v.f.Version = flavor.Version{Flavor: flavor.MySQL, Major: 8, Minor: 4} }
func unsafe(v *view)       { v.f.Mismatches = mismatch }

// accounts changes what was seen of them.
func accounts(change func(*AccountFacts)) func(*view) {
	return func(v *view) {
		seen := v.f.accounts()
		change(&seen)
		v.f.Accounts = &seen
	}
}

var (
	noAccount    = accounts(func(a *AccountFacts) { a.Right, a.Wrong = false, "it is missing" })
	lacking      = accounts(func(a *AccountFacts) { a.Wrong = "it lacks SELECT" })
	adminRefused = accounts(func(a *AccountFacts) { a.Unmakeable = "access denied" })
	adminDue     = accounts(func(a *AccountFacts) { a.Rotated = true })
)

func noChannel(v *view) { v.f.Channel = nil }

func sourceSays(errant, purged string) func(*view) {
	return func(v *view) { v.f.Source = &SourceFacts{Errant: errant, Purged: purged} }
}

func memoryTable(v *view) { v.f.MemoryTable = "d.m" }

func harmless(v *view) { v.f.Source.Harmless = true }

func copied(v *view) { v.f.Copied = true }

func sourceReadOnly(v *view) { v.f.Source.ReadOnly = true }

// ownCopy is of data that a first ordinal has cloned.
func ownCopy(v *view) { v.s.Origin = byGTID }

// waiting is a primary whose commits wait for replicas.
func waiting(v *view) {
	v.s.SemiSync, v.s.SemiSynced = SemiSyncRequired, true
	v.f.SemiSync = SemiSyncFacts{Known: true, Source: true, Safe: true, Wait: requiredWait}
}

// level is what a first ordinal knows of members, one of which it may follow already.
func level(changes ...func(*Level)) func(*view) {
	return func(v *view) {
		v.f.Level = &Level{}
		for _, change := range changes {
			change(v.f.Level)
		}
	}
}

func awaiting(l *Level)  { l.Awaited = "db-1: its server does not answer" }
func parted(l *Level)    { l.Conflict = "db-1 has 0-100-6, db-2 has 1-100-7" }
func bornEmpty(l *Level) { l.Begun, l.Conflict = true, "db-1 (0-100-6)" }
func behind(l *Level)    { l.Ahead, l.Lacks = &Peer{Name: "db-1", Host: "db-1.db"}, "0-100-6" }
func following(l *Level) { l.Channel, l.Following, l.Alias = true, true, true }

func from(o *origin.Origin) func(*view) { return func(v *view) { v.s.Origin = o } }

// channel changes the channel, which it makes if there is none.
func channel(change func(*Channel)) func(*view) {
	return func(v *view) {
		if v.f.Channel == nil {
			v.f.Channel = &Channel{}
		}
		change(v.f.Channel)
	}
}

var (
	byPosition   = channel(func(c *Channel) { c.UsingGTID = false })
	otherHost    = channel(func(c *Channel) { c.Host = "db-9.db" })
	otherPort    = channel(func(c *Channel) { c.Port = 3399 })
	otherUser    = channel(func(c *Channel) { c.User = "repl" })
	unverified   = channel(func(c *Channel) { c.Verified = false })
	ioStopped    = channel(func(c *Channel) { c.IO = "No" })
	connecting   = channel(func(c *Channel) { c.IO = "Connecting" })
	sqlStopped   = channel(func(c *Channel) { c.SQLRunning = false })
	sqlFailed    = channel(func(c *Channel) { c.SQLRunning, c.SQLErrno, c.SQLError = false, 1062, "duplicate entry" })
	sqlOther     = channel(func(c *Channel) { c.SQLRunning, c.SQLErrno, c.SQLError = false, 1146, "no such table" })
	tableFull    = channel(func(c *Channel) { c.SQLRunning, c.SQLErrno, c.SQLError = false, 1114, "the table is full" })
	sqlOldError  = channel(func(c *Channel) { c.SQLErrno, c.SQLError = 1062, "duplicate entry" })
	accessDenied = channel(func(c *Channel) { c.IO, c.IOErrno, c.IOError = "Connecting", errAccessDenied, "access denied" })
	expiredLogin = channel(func(c *Channel) { c.IO, c.IOErrno, c.IOError = "No", errMustChange, "you must SET PASSWORD" })
	cannotReach  = channel(func(c *Channel) { c.IO, c.IOErrno, c.IOError = "Connecting", 2003, "cannot connect" })
	purged       = channel(func(c *Channel) { c.IO, c.IOErrno, c.IOError = "No", 1236, "could not find the log file" })
	silent       = channel(func(c *Channel) { c.Silent = true })
	twin         = channel(func(c *Channel) { c.IO, c.IOErrno, c.IOError = "No", 1236, "a slave with the same server_uuid" })
)

var (
	running  = channel(func(c *Channel) { c.SQLRunning = true })
	unproven = func(v *view) {
		v.f.Unproven = "it has no TLS"
		channel(func(c *Channel) { c.CA = "" })(v)
	}
	distrusted = func(v *view) { v.f.Unproven = "the certificate is for another host" }
	pending    = channel(func(c *Channel) { c.Pending = true })
	lacked     = channel(func(c *Channel) {
		c.IO, c.IOErrno, c.IOError = "No", 1236, "the slave has more GTIDs than the master has, using the master's SERVER_UUID"
	})
)

// inForce is what a primary says whose commits wait for a replica, as they have to.
var inForce = SemiSyncFacts{Known: true, Source: true, Replica: true, Active: true, Safe: true, Wait: requiredWait, Replicas: 1}

func semiSync(mode SemiSync, f SemiSyncFacts) func(*view) {
	return func(v *view) { v.s.SemiSync, v.f.SemiSync = mode, f }
}

func barredLogin(v *view) { v.f.Barred = "it has expired" }

func noReplica(v *view)  { v.f.SemiSync.Replicas = 0 }
func hasParted(v *view)  { v.s.Parted = "0-100-6" }
func semiSynced(v *view) { v.s.SemiSynced = true }

func passwordTried(v *view) { v.f.PasswordTried = true }

func lag(seconds int64) func(*view) {
	return channel(func(c *Channel) { c.Lag = &seconds })
}

var noLag = channel(func(c *Channel) { c.Lag = nil })
