package replicate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// Everything that depends on a server's SQL is in this file: statements, the names of
// columns and variables. What is about accounts is in dialect_accounts.go, error numbers in errno.go.
//
// https://mariadb.com/kb/en/change-master-to/
// https://mariadb.com/kb/en/show-replica-status/
// https://dev.mysql.com/doc/refman/8.4/en/change-replication-source-to.html
// https://dev.mysql.com/doc/refman/8.4/en/show-replica-status.html

// dialect is what a server of one flavour, in a range of versions, understands. See dialectOf.
type dialect struct {
	// queryServer is one row: server_id, whether ordinary accounts cannot write, whether
	// the server is fenced, whether the event scheduler runs, executed GTIDs, whether it uses GTIDs, server_uuid, and what
	// MariaDB's executed GTIDs are made of.
	queryServer string
	// queryStatus is a row for each channel.
	queryStatus string
	// queryGTIDs is one row, which any account may read: see possessions. It is none where
	// the server has no GTIDs.
	queryGTIDs string
	// queryIdentity is one row: whether ordinary accounts cannot write, server_id and
	// server_uuid. Any account may ask.
	queryIdentity string
	// queryUptime is a name and for how many seconds the server has run; empty where
	// queryIdentity knows how the server became writable.
	queryUptime string
	// queryOrigin is one row: whether a statement has set a variable since the server's start,
	// and where its value came from otherwise, as a word and a file. It is empty where the
	// server cannot tell.
	queryOrigin string
	// queryPersisted are the variables that SET PERSIST has set, and to what; empty where there
	// is no such statement.
	queryPersisted string

	// fence makes the server as read-only as it can be, open lifts that.
	fence, open string
	// admit lets the administrator's account write to a fenced server; empty where it may anyway.
	admit string

	start, stop, reset string
	// resetLog removes the binary logs, and what they say of GTIDs; freeze keeps whoever may
	// write to a fenced server from committing meanwhile, and thaw ends that.
	resetLog     string
	freeze, thaw []string
	// queryWithout is up to where the data are without the errant transactions that are its value.
	queryWithout string
	// stopToLogIn stops what has to stand still while the credentials change. MySQL's applier
	// goes on meanwhile: where the receiver was cut off within a transaction, it would wait a
	// minute for the rest before it stops.
	stopToLogIn string

	// change begins the statement that sets a channel, word each of its options.
	change, word string
	// byGTID and byPosition are the options that say in which terms a channel counts.
	byGTID, byPosition string
	// always are options that every channel has: how it logs in, and how long it tries.
	always string
	// encrypted says that channels are over TLS.
	encrypted bool
	// begin are the statements that tell a fresh copy up to which GTID its data are, the
	// value of the last of them.
	begin []string
	// resume tells a server that was no replica from which GTID position to follow; empty
	// where the server knows.
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
	// sidecar and clone are what these accounts may do, held asks for what an account may,
	// each for a part of it.
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
	d := dialect{
		queryServer: "SELECT @@server_id, @@read_only, @@read_only AND @@super_read_only, @@event_scheduler = 'ON', @@gtid_executed, @@gtid_mode IN ('ON', 'ON_PERMISSIVE'), @@server_uuid, '', ''",
		queryStatus: "SHOW REPLICA STATUS",
		// A transaction is sent to the replicas before it counts as executed. Until then it
		// is owned, which is read first: between the two it must not be missed.
		queryGTIDs:    "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged FROM DUAL WHERE @@GLOBAL.gtid_mode IN ('ON', 'ON_PERMISSIVE')",
		queryIdentity: "SELECT @@GLOBAL.read_only, @@GLOBAL.server_id, @@GLOBAL.server_uuid",
		queryUptime:   "SHOW GLOBAL STATUS LIKE 'Uptime'",
		queryOrigin:   queryMySQLOrigin, queryPersisted: queryMySQLPersisted,
		fence:        "SET GLOBAL super_read_only = ON", // sets read_only, too, unless it is on already
		open:         "SET GLOBAL read_only = OFF",      // clears super_read_only, too
		admit:        "SET GLOBAL super_read_only = OFF",
		resetLog:     "RESET BINARY LOGS AND GTIDS",
		queryWithout: "SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, ?)",
		start:        "START REPLICA", stop: "STOP REPLICA", reset: "RESET REPLICA ALL", stopToLogIn: "STOP REPLICA IO_THREAD",
		change: "CHANGE REPLICATION SOURCE TO ", word: "SOURCE",
		byGTID: "SOURCE_AUTO_POSITION = 1", byPosition: "SOURCE_AUTO_POSITION = 0",
		// A source that does not know the password's hash by heart, as after its start, wants
		// the password itself: only TLS carries that. Servers make themselves certificates, if
		// they have no others.
		// The number of tries is the default before 8.4, where it became 10.
		always: "SOURCE_RETRY_COUNT = 86400, ", encrypted: true,
		// What a copy has already may not be named again (error 3546).
		begin:         []string{"SET GLOBAL gtid_purged = CONCAT('+', GTID_SUBTRACT(?, @@GLOBAL.gtid_executed))"},
		semiSyncWords: strings.NewReplacer(),
		stopReceiver:  "STOP REPLICA IO_THREAD", startReceiver: "START REPLICA IO_THREAD",
		scheme: cachingScheme,
	}
	d.accounts(v)
	if !v.AtLeast(8, 0, 26) { // the plugin has another name, too
		d.semiSyncWords = semiSyncOldWords
	}
	if !v.AtLeast(8, 2, 0) {
		d.resetLog = "RESET MASTER"
	}
	if !v.AtLeast(8, 0, 23) {
		d.change, d.word = "CHANGE MASTER TO ", "MASTER"
		for _, text := range []*string{&d.byGTID, &d.byPosition, &d.always} {
			*text = strings.ReplaceAll(*text, "SOURCE_", "MASTER_")
		}
	}
	if !v.AtLeast(8, 0, 22) {
		for _, text := range []*string{&d.queryStatus, &d.start, &d.stop, &d.reset, &d.startReceiver, &d.stopReceiver, &d.stopToLogIn} {
			*text = strings.Replace(*text, "REPLICA", "SLAVE", 1)
		}
	}
	if !v.AtLeast(8, 0, 0) {
		d.queryOrigin, d.queryPersisted = "", ""
		d.always, d.encrypted = "", false // its plugin never sends the password, and not every build has certificates
		d.begin = []string{"RESET MASTER", "SET GLOBAL gtid_purged = ?"}
		d.scheme = nativeScheme
	}
	return d
}

var mariaDB = dialect{
	// read_only was a boolean, and is one of four words since MariaDB 12.
	queryServer: "SELECT @@server_id, @@read_only <> 'OFF', @@read_only <> 'OFF', @@event_scheduler = 'ON', @@gtid_current_pos, 1, '', @@gtid_slave_pos, @@gtid_binlog_state",
	queryStatus: "SHOW ALL SLAVES STATUS",
	queryGTIDs:  "SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state, ''",
	// A server that started writable was not opened.
	queryIdentity: "SELECT @@GLOBAL.read_only <> 'OFF' OR COALESCE((SELECT GLOBAL_VALUE_ORIGIN <> 'SQL' FROM information_schema.SYSTEM_VARIABLES " +
		"WHERE VARIABLE_NAME = 'READ_ONLY'), 1), @@GLOBAL.server_id, ''",
	queryOrigin: queryMariaDBOrigin,
	fence:       "SET GLOBAL read_only = ON",
	open:        "SET GLOBAL read_only = OFF",
	resetLog:    "RESET MASTER",
	freeze:      []string{"SET SESSION lock_wait_timeout = 5", "BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"},
	thaw:        []string{"BACKUP STAGE END", "SET SESSION lock_wait_timeout = DEFAULT"},
	// They were never part of what it follows by.
	queryWithout: "SELECT @@GLOBAL.gtid_slave_pos FROM DUAL WHERE ? <> ''",
	start:        "START SLAVE", stop: "STOP SLAVE", reset: "RESET SLAVE ALL", stopToLogIn: "STOP SLAVE",
	change: "CHANGE MASTER TO ", word: "MASTER",
	byGTID: "MASTER_USE_GTID = slave_pos", byPosition: "MASTER_USE_GTID = no",
	begin: []string{"SET GLOBAL gtid_slave_pos = ?"},
	// It may have made transactions itself, which count as executed only here.
	resume:        "SET GLOBAL gtid_slave_pos = ?",
	semiSyncWords: semiSyncOldWords,
	stopReceiver:  "STOP SLAVE IO_THREAD", startReceiver: "START SLAVE IO_THREAD",
	// MariaDB's packages have this one on both sides.
	scheme:       scheme{nativePlugin, "IDENTIFIED VIA mysql_native_password USING ?", nativeHash, isNativeHash},
	queryAccount: queryMariaDBAccount, second: alternative,
	sidecar: mariaDBSidecar, clone: mariaDBClone, held: heldMariaDB,
}

// The names of the columns of the replicas' status that matter here. Old servers, and
// MariaDB, have the same ones with the old words.
const (
	columnHost     = "Source_Host"
	columnPort     = "Source_Port"
	columnUser     = "Source_User"
	columnIO       = "Replica_IO_Running"
	columnSQL      = "Replica_SQL_Running"
	columnIOErrno  = "Last_IO_Errno"
	columnIOError  = "Last_IO_Error"
	columnSQLErrno = "Last_SQL_Errno"
	columnSQLError = "Last_SQL_Error"
	columnLag      = "Seconds_Behind_Source"

	// These differ: MySQL's first, MariaDB's second.
	columnChannel      = "Channel_Name"
	columnConnection   = "Connection_name"
	columnAutoPosition = "Auto_Position" // 1 or 0
	columnUsing        = "Using_Gtid"    // No, Slave_Pos, Current_Pos
	columnRetrieved    = "Retrieved_Gtid_Set"
	columnReceived     = "Gtid_IO_Pos"
	columnFile         = "Source_Log_File"
	columnReadPosition = "Read_Source_Log_Pos"
)

// The names of the variables and the status of semi-synchronous replication, in the words
// of MySQL 8.0.26 and later.
//
// https://dev.mysql.com/doc/refman/8.4/en/replication-semisync.html
// https://mariadb.com/kb/en/semisynchronous-replication/
const (
	semiSyncSource  = "rpl_semi_sync_source_"
	semiSyncReplica = "rpl_semi_sync_replica_"
	// semiSyncPoint waits before the storage engine commits: nobody has read what is lost.
	semiSyncPoint          = "AFTER_SYNC"
	querySemiSyncVariables = "SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync_%'"
	querySemiSyncStatus    = "SHOW GLOBAL STATUS LIKE 'rpl_semi_sync_%'"
)

var semiSyncOldWords = strings.NewReplacer("source", "master", "replica", "slave")

// semiSyncPlugins of MySQL 8.0.26 and later. MariaDB has no need of them.
var semiSyncPlugins = []string{"semisync_source.so", "semisync_replica.so"}

// sourceStatements have commits wait for replicas.
func (d dialect) sourceStatements(mode SemiSync) []statement {
	set := func(name, value string) statement {
		return statement{text: "SET GLOBAL " + d.semiSyncWords.Replace(semiSyncSource+name) + " = " + value}
	}
	return []statement{
		set("timeout", strconv.FormatUint(mode.wait(), 10)), set("wait_point", semiSyncPoint), set("wait_no_replica", "ON"), set("enabled", "ON"),
	}
}

// acknowledgeStatements have the receiver tell its source what it has. One that runs has to
// begin anew for that. It is stopped first: a receiver that is stopped will be started, one
// that runs would be left as it is.
func (d dialect) acknowledgeStatements(running bool) []statement {
	on := statement{text: "SET GLOBAL " + d.semiSyncWords.Replace(semiSyncReplica+"enabled") + " = ON"}
	if !running {
		return []statement{on}
	}
	return []statement{{text: d.stopReceiver}, on, {text: d.startReceiver}}
}

// unlogged are statements that wait for no replica, since they stay out of the binary log.
func unlogged(all []statement) []statement {
	return append(append([]statement{{text: "SET SESSION sql_log_bin = 0"}}, all...), statement{text: "SET SESSION sql_log_bin = 1"})
}

// gtidOwner is the thread that MySQL's gtid_owned names behind each transaction: "#48".
var gtidOwner = regexp.MustCompile(`#\d+`)

var oldWords = strings.NewReplacer("Source", "Master", "Replica", "Slave")

const (
	queryVersion = "SELECT @@version"
	// queryVariables is completed with a list of names.
	queryVariables = "SHOW GLOBAL VARIABLES WHERE Variable_name IN "
	// queryBooted is one row on a copy that MySQL's clone plugin made: where it ends in the
	// donor's own binary log. It is known once a server has started on the copy.
	queryBooted = "SELECT BINLOG_FILE, BINLOG_POSITION FROM performance_schema.clone_status WHERE BINLOG_FILE <> ''"
	// queryWorker is why the workers of MySQL's applier stopped, where the channel's status
	// names one that stopped because another had.
	// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-replication-applier-status-by-worker-table.html
	queryWorker = "SELECT LAST_ERROR_NUMBER, LAST_ERROR_MESSAGE FROM performance_schema.replication_applier_status_by_worker " +
		"WHERE CHANNEL_NAME = '' AND LAST_ERROR_NUMBER NOT IN (0, ?) LIMIT 1"
)

// Binary logs and their events, as the statements show them.
const (
	queryBinlogs       = "SHOW BINARY LOGS"
	queryBinlogEvents  = "SHOW BINLOG EVENTS IN ?" // Log_name, Pos, Event_type, Server_id, End_log_pos, Info
	columnLogName      = "Log_name"
	columnLogSize      = "File_size"
	eventGTID          = "Gtid"
	eventGTIDList      = "Gtid_list"      // of MariaDB
	eventPreviousGTIDs = "Previous_gtids" // of MySQL
	eventQuery         = "Query"
)

// statement is SQL with the values that the driver quotes into it. Only its text may
// be logged.
type statement struct {
	text string
	args []any
}

// connectRetry is how many seconds a replica waits before it tries its source again. For that
// long after each start of the primary, what it commits may be on no other member.
const connectRetry = 1

// heartbeats are the option by which a source says often enough that it lives; it ends with a comma.
var heartbeats = "%_HEARTBEAT_PERIOD = " + strconv.Itoa(heartbeat) + ", "

// Source is who a replica follows.
type Source struct {
	Host     string
	Port     int
	User     string
	Password string
	// Previous is the password before that, while it is rotated; else empty.
	Previous string
	// CA is the server's file of the authorities of which the source's certificate must be;
	// empty: it is not verified.
	CA string
}

// at is the same on another member, which a first ordinal follows.
func (s Source) at(host string) Source {
	s.Host = host
	return s
}

// mysqlPassword is how many characters of a password MySQL takes for a channel: ER_CHANGE_SOURCE_PASSWORD_LENGTH, 3056.
const mysqlPassword = 32

// CheckPassword says beforehand what a replica would refuse about its password.
func CheckPassword(f flavor.Flavor, password string) error {
	if n := utf8.RuneCountInString(password); f == flavor.MySQL && n > mysqlPassword {
		return fmt.Errorf("MySQL takes %d characters at most for a replica's password, this one has %d: make one with head -c 24 /dev/urandom | base64", mysqlPassword, n)
	}
	return nil
}

// changeTo sets a channel. Each % of the options becomes the dialect's word.
func (d dialect) changeTo(options string, args ...any) statement {
	return statement{d.change + strings.ReplaceAll(options, "%", d.word), args}
}

// follow sets all of a channel, with the options given after the rest.
func (d dialect) follow(s Source, options string, more ...any) statement {
	all := "%_HOST = ?, %_PORT = ?, %_USER = ?, %_PASSWORD = ?, %_CONNECT_RETRY = ?, " + heartbeats
	verified, args := d.verified(s)
	return d.changeTo(all+d.always+verified+options, slices.Concat([]any{s.Host, s.Port, s.User, s.Password, connectRetry}, args, more)...)
}

// configureStatements make a fresh copy follow its source from the origin. They can be
// run again when they were cut short. A channel that came with the copy goes: it is the
// donor's, and so is the password in it.
func (d dialect) configureStatements(s Source, o origin.Origin) []statement {
	all := []statement{{text: d.stop}, {text: d.reset}}
	if o.Mode == origin.Position {
		return append(all, d.follow(s, "%_LOG_FILE = ?, %_LOG_POS = ?, "+d.byPosition, o.File, o.Position))
	}
	return append(append(all, d.beginStatements(o)...), d.follow(s, d.byGTID))
}

// goOnStatements are configureStatements for a copy of a member's whole directory, which goes
// on from all that it has executed.
func (d dialect) goOnStatements(s Source, has string) []statement {
	all := []statement{{text: d.stop}, {text: d.reset}}
	if d.resume != "" {
		all = append(all, statement{d.resume, []any{has}})
	}
	return append(all, d.follow(s, d.byGTID))
}

func (d dialect) beginStatements(o origin.Origin) []statement {
	var all []statement
	for _, text := range d.begin {
		st := statement{text: text}
		if strings.Contains(text, "?") {
			st.args = []any{o.GTID}
		}
		all = append(all, st)
	}
	return all
}

// repointStatements make a replica follow its source by GTID, from where it is.
func (d dialect) repointStatements(s Source) []statement {
	return []statement{{text: d.stop}, d.follow(s, d.byGTID), {text: d.start}}
}

// loginStatements give a replica other credentials for the source that it has. Naming the
// host, even the same, would void a file and position.
func (d dialect) loginStatements(s Source) []statement {
	verified, args := d.verified(s)
	login := d.changeTo(verified+heartbeats+"%_USER = ?, %_PASSWORD = ?", append(args, s.User, s.Password)...)
	return []statement{{text: d.stopToLogIn}, login, {text: d.start}}
}

// fenceStatements do that whatever the server is. MySQL's super_read_only binds nobody while
// read_only is off, which is so where only the former was set at the start; and setting it once
// more sets nothing then.
func (d dialect) fenceStatements() []statement {
	if d.admit == "" {
		return []statement{{text: d.fence}}
	}
	return []statement{{text: "SET GLOBAL read_only = ON"}, {text: d.fence}}
}

// setServerID is done between two channels, never beside one that runs.
const setServerID = "SET GLOBAL server_id = ?"

// alias is the server_id of a first ordinal that follows a member. What it has to get back
// it has made itself, for the most part, and a replica ignores events with its own
// server_id. It is as far from the others' as can be.
func alias(id uint32) uint32 { return ^id }

// followStatements make the first ordinal follow a member until it is level. has is all
// that it has executed.
func (d dialect) followStatements(s Source, id uint32, has string) []statement {
	all := []statement{{text: d.stop}, {setServerID, []any{alias(id)}}}
	if d.resume != "" {
		all = append(all, statement{d.resume, []any{has}})
	}
	return append(all, d.follow(s, d.byGTID), statement{text: d.start})
}

// detachStatements undo that. The channel goes last: while there is one, they are done again.
func (d dialect) detachStatements(id uint32) []statement {
	return []statement{{text: d.stop}, {setServerID, []any{id}}, {text: d.reset}}
}

// takeOverStatements make a copy of a member the first ordinal's data: what came with it of
// the member's channel goes.
func (d dialect) takeOverStatements(o origin.Origin) []statement {
	all := []statement{{text: d.stop}, {text: d.reset}}
	if o.Mode == origin.GTID {
		all = append(all, d.beginStatements(o)...)
	}
	return all
}

// Recipe is the SQL that makes a copy with this origin a replica, for people to paste.
// The host and the credentials are left for them to fill in.
func Recipe(v flavor.Version, o origin.Origin) string {
	d := dialectOf(v)
	var lines []string
	options := "%_HOST='<primary>', %_PORT=3306, %_USER='<user>', %_PASSWORD='<password>', " + d.always
	if d.encrypted {
		options += encryption
	}
	switch o.Mode {
	case origin.Position:
		options += "%_LOG_FILE='" + o.File + "', %_LOG_POS=" + strconv.FormatUint(o.Position, 10) + ", " + d.byPosition
	case origin.FirstBoot:
		lines = append(lines, queryBooted)
		options += "%_LOG_FILE='<BINLOG_FILE>', %_LOG_POS=<BINLOG_POSITION>, " + d.byPosition
	case origin.GTID:
		for _, text := range d.begin {
			lines = append(lines, strings.Replace(text, "?", "'"+o.GTID+"'", 1))
		}
		options += d.byGTID
	}
	lines = append(lines, d.changeTo(options).text, d.start)
	return strings.Join(lines, ";\n") + ";"
}
