package replicate

import (
	"strings"

	"understudy/replicate/flavor"
)

// Everything that depends on a server's SQL is in the files dialect*.go: statements, the names of
// columns and variables. Error numbers are in errno.go.
//
//	dialect_mysql.go, dialect_mariadb.go  what differs between flavours and versions
//	dialect_lead.go, dialect_term.go      leading by the Lease, on MySQL, and on MariaDB
//	dialect_events.go                     scheduled events of who leads by the Lease
//	dialect_channel.go                    how a replica is pointed at its source
//	dialect_readonly.go                   what makes a server read-only, and keeps events from running
//	dialect_semisync.go                   semi-synchronous replication
//	dialect_status.go                     what a server is asked about its state
//	dialect_accounts.go                   accounts and privileges
//	dialect_files.go                      which files a server's dictionary names
//
// https://mariadb.com/kb/en/change-master-to/
// https://mariadb.com/kb/en/show-replica-status/
// https://dev.mysql.com/doc/refman/8.4/en/change-replication-source-to.html
// https://dev.mysql.com/doc/refman/8.4/en/show-replica-status.html

// dialect is what a server of one flavour, in a range of versions, understands. See dialectOf.
type dialect struct {
	flavor flavor.Flavor
	// lead are what leading by the Lease takes.
	lead leadWords
	// movesStopped says that a channel's source is changed while both threads stand still only.
	movesStopped bool
	// cutOff bounds how long a receiver that acknowledges tries to reach its source once more when it
	// is stopped; empty: it does not.
	cutOff string

	// queryServer is one row: server_id, whether ordinary accounts cannot write, whether the server
	// is fenced, the event scheduler's state, executed GTIDs, whether it uses GTIDs,
	// server_uuid, and what MariaDB's executed GTIDs are made of.
	queryServer string
	// queryStatus is a row for each channel.
	queryStatus string
	// queryGTIDs is one row, which any account may read: see possessions. It is none where the
	// server has no GTIDs.
	queryGTIDs string
	// queryIdentity is one row: whether ordinary accounts cannot write, server_id and server_uuid.
	// Any account may ask.
	queryIdentity string
	// mayStartOpen says that queryIdentity does not know whether a server that is writable has only
	// started so.
	mayStartOpen bool
	// queryOrigin is one row: whether a statement has set a variable since the server's start, and
	// where its value came from otherwise, as a word and a file. It is empty where the server
	// cannot tell.
	queryOrigin string
	// queryPersisted are the variables that SET PERSIST has set, and to what; empty where there is
	// no such statement.
	queryPersisted string

	// files are the questions about the files of the data directory.
	files

	// fence makes the server as read-only as it can be, open lifts that.
	fence, open string
	// admit lets the administrator's account write to a fenced server; empty where it may anyway.
	admit string

	// eventsByDefault says that the event scheduler runs unless something turns it off,
	// eventsNeedSuper that starting and stopping it takes SUPER, which only the administrator has.
	eventsByDefault, eventsNeedSuper bool

	start, stop, reset string
	// resetLog removes the binary logs, and what they say of GTIDs; freeze keeps whoever may write
	// to a fenced server from committing meanwhile, and thaw ends that.
	resetLog     string
	freeze, thaw []string
	// queryWithout is up to where the data are without the errant transactions that are its value.
	queryWithout string
	// stopToLogIn stops what has to stand still while the credentials change. MySQL's applier goes
	// on meanwhile: where the receiver was cut off within a transaction, it would wait a minute for
	// the rest before it stops.
	stopToLogIn string

	// change begins the statement that sets a channel, word each of its options.
	change, word string
	// byGTID and byPosition are the options that say in which terms a channel counts.
	byGTID, byPosition string
	// always are options that every channel has: how it logs in, and how long it tries.
	always string
	// encrypted says that channels are over TLS.
	encrypted bool
	// begin are the statements that tell a fresh copy up to which GTID its data are, the value of
	// the last of them.
	begin []string
	// resume tells a server that was no replica from which GTID position to follow; empty where the
	// server knows.
	resume string

	// semiSyncWords turn today's names of semi-synchronous replication into the server's.
	semiSyncWords *strings.Replacer
	// stopReceiver and startReceiver are for the receiver only.
	stopReceiver, startReceiver string

	// scheme is how the replication account proves itself.
	scheme
	// queryAccount is one row if the account exists, see account.
	queryAccount string
	// second is which statements give an account two passwords.
	second second
	// sidecar and clone are what these accounts may do, held asks for what an account may, each for
	// a part of it.
	sidecar, clone []privilege
	held           []string
}

// dialectOf picks the dialect. The words changed as follows:
//
//	server                  start, stop, reset, status   channel's statement and options
//	----------------------  ---------------------------  ---------------------------------
//	MariaDB 10.6 and later  SLAVE³                       CHANGE MASTER TO MASTER_*
//	MySQL 5.7 to 8.0.21     SLAVE                        CHANGE MASTER TO MASTER_*
//	MySQL 8.0.22            REPLICA¹                     CHANGE MASTER TO MASTER_*
//	MySQL 8.0.23 to 8.3     REPLICA¹                     CHANGE REPLICATION SOURCE TO SOURCE_*²
//	MySQL 8.4 and later     REPLICA                      CHANGE REPLICATION SOURCE TO SOURCE_*
//
// ¹ ² these versions know the old words, too: the new ones are used where there are any.
//
// ³ all of REPLICA is understood as well, but the columns keep the old names.
func dialectOf(v flavor.Version) dialect {
	if v.Flavor == flavor.MariaDB {
		return mariaDB
	}
	return mySQL(v)
}

// statement is SQL with the values that the driver quotes into it. Only its text may be logged.
type statement struct {
	text string
	args []any
}
