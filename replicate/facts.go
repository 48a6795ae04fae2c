package replicate

import (
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
	"understudy/replicate/origin"
)

// Facts are what one turn of the loop saw.
type Facts struct {
	// Seen is when the look at the server began.
	Seen time.Time
	// Answers says that a server greeted us on TCP, even if it then refused the login.
	Answers bool
	// Trouble is why the server could not be observed; empty when it was.
	Trouble string
	// Known says that the server's own state was read, which is all down to Executed, whatever
	// could not be read after it.
	Known bool

	Version  flavor.Version
	ServerID uint32
	// ServerUUID is MySQL's; MariaDB has none.
	ServerUUID string
	// ReadOnly says that ordinary accounts cannot write.
	ReadOnly bool
	// Fenced says that the server is as read-only as it can be: on MySQL nobody can write, on
	// MariaDB only who has READ_ONLY ADMIN.
	Fenced bool
	// Opened says that the server is writable because a statement has made it so since it started,
	// ours or a person's: it did not start like that.
	Opened bool
	// WritableFrom is what made it start writable, as text; empty when nothing did.
	WritableFrom string
	// Persisted are the variables that the server would set against its configuration at its next
	// start, see Unpersist.
	Persisted []string
	// EventsOn says that the event scheduler runs; EventsDue that it has to, and does not.
	// EventsDisabled says that this server cannot start it.
	EventsOn, EventsDue, EventsDisabled bool
	// EventsTrouble is why it can be neither started nor stopped. It is looked at where that
	// matters.
	EventsTrouble string
	// GTID is what the server has executed.
	GTID string
	// Executed is the same and, on MariaDB, the last transaction of each server that the binary log
	// knows: all that gtid.Parse can use.
	Executed string
	// UsesGTID is false on a MySQL server that gives its transactions none.
	UsesGTID bool
	// Channel is nil when the server is not configured as a replica.
	Channel *Channel
	// OtherChannels are the names of the channels that have one: ours has none.
	OtherChannels []string
	// Booted is where a copy that MySQL's clone plugin made ends in its donor's binary log. It is
	// looked for where replication has to begin there, and nil when it is not known.
	Booted *origin.Origin
	// PasswordTried says that this process has already given the server the replication password
	// that the source takes, or else the current one. PreviousTaken says that it takes the previous
	// one: see Agent.askPassword.
	PasswordTried, PreviousTaken bool
	// Unproven is why the source could not prove itself when it was asked, see Agent.askProof.
	Unproven string
	// Held says that the applier stands still for a backup, where it would be started otherwise.
	Held bool
	// Copied says that a backup of the server runs, with which what has to be done would interfere.
	Copied bool
	// Source is nil where the source was not asked, or has never answered.
	Source *SourceFacts
	// Barred is why the source lets the replication account not in, whatever its password; empty
	// where it was not asked, or does.
	Barred string
	// MemoryTable is the table because of which the applier stopped, where a row of it was missing
	// and it is one of the engine MEMORY.
	MemoryTable string
	// Mismatches are the safety options that did not take, as text.
	Mismatches []string
	// BinaryLog is read on a primary that is not open and has no GTIDs.
	BinaryLog BinaryLog
	// Level is nil on replicas, and on a primary that is open.
	Level *Level
	// SemiSync is read where it is wanted.
	SemiSync SemiSyncFacts
	// Volume is the room on the member's volume, Container what is known of the server's container.
	Volume    Space
	Container Container
	// RoomAgain says that the volume was full and is so no longer, and that the applier has not
	// been started since.
	RoomAgain bool
	// Files is nil where they were not looked for: see Agent.askFiles.
	Files *FileFacts
	// Accounts is nil where they were not looked at: on replicas.
	Accounts *AccountFacts
}

// AccountFacts are what was seen of the accounts that the primary has.
type AccountFacts struct {
	// Right says that the replication account is as it should be, Wrong what is wrong with that or
	// the others; empty: nothing.
	Right bool
	Wrong string
	// Unmakeable says why the administrator cannot make them. It is looked at where something is
	// wrong.
	Unmakeable string
	// Rotated says that the administrator's account does not have the passwords that it should.
	Rotated bool
}

// accounts are Accounts; where they were not looked at, none is right.
func (f Facts) accounts() AccountFacts {
	if f.Accounts == nil {
		return AccountFacts{}
	}
	return *f.Accounts
}

// Received is all that the server has executed, or received and has yet to execute. What it has of
// GTIDs from before they were turned off says nothing.
func (f Facts) Received() string {
	if !f.UsesGTID {
		return ""
	}
	if f.Channel == nil || f.Channel.Received == "" {
		return f.Executed
	}
	all, err := unite(f.Version.Flavor, f.Executed, f.Channel.Received)
	if err != nil {
		return f.Executed
	}
	return all
}

// position is Executed as a place to follow from.
func (f Facts) position() string {
	h, err := gtid.Parse(f.Version.Flavor, f.Executed)
	if err != nil {
		return f.Executed // it was written by us, see look
	}
	return h.String()
}

func unite(f flavor.Flavor, texts ...string) (string, error) {
	h, err := gtid.Parse(f, texts...)
	return h.Text(), err
}
