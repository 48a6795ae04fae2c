package replicate

import (
	"crypto/sha1" //nolint:gosec // the hash of mysql_native_password is defined with it
	"encoding/hex"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// Everything that depends on a server's SQL is in this file: statements, the names of
// columns and variables, and error numbers. So far MariaDB 10.6 and later.
//
// https://mariadb.com/kb/en/change-master-to/
// https://mariadb.com/kb/en/show-replica-status/

// The names of the columns of SHOW SLAVE STATUS that matter here. MariaDB keeps them
// under SHOW REPLICA STATUS, too.
const (
	columnHost     = "Master_Host"
	columnPort     = "Master_Port"
	columnUser     = "Master_User"
	columnUsing    = "Using_Gtid"
	columnIO       = "Slave_IO_Running"
	columnSQL      = "Slave_SQL_Running"
	columnIOErrno  = "Last_IO_Errno"
	columnIOError  = "Last_IO_Error"
	columnSQLErrno = "Last_SQL_Errno"
	columnSQLError = "Last_SQL_Error"
	columnLag      = "Seconds_Behind_Master"
)

const (
	queryStatus = "SHOW SLAVE STATUS"
	// queryServer is one row: version, server_id, read_only, executed GTIDs, bytes of
	// the general state that a member reports.
	queryServer = "SELECT @@version, @@server_id, @@read_only, @@gtid_current_pos"
	// queryAccount is one row if the account exists on any host.
	queryAccount = "SELECT authentication_string, plugin, Repl_slave_priv FROM mysql.user WHERE User = ? AND Host = '%'"
	// queryVariables is completed with a list of names.
	queryVariables = "SHOW GLOBAL VARIABLES WHERE Variable_name IN "

	statementReadOnly = "SET GLOBAL read_only = ON"
	statementWritable = "SET GLOBAL read_only = OFF"
	statementStart    = "START SLAVE"
	statementStop     = "STOP SLAVE"

	// nativePlugin authenticates the replication account: MariaDB's packages have it on
	// both sides, and its hash can be computed here.
	nativePlugin = "mysql_native_password"
)

// Error numbers of servers, by the names that their manuals give them.
const (
	errTooManyConnections = 1040 // ER_CON_COUNT_ERROR
	errAccessDenied       = 1045 // ER_ACCESS_DENIED_ERROR
	errShutdown           = 1053 // ER_SERVER_SHUTDOWN
	errParse              = 1064 // ER_PARSE_ERROR
	firstClientError      = 2000 // CR_UNKNOWN_ERROR: the client library's begin here, about the connection
	lastClientError       = 2999 // CR_MAX_ERROR; what comes behind is the servers' again
)

// sourceAway tells a receiver that could not reach or enter its source, which ends by
// itself, from one that found something wrong there. Even the former stops, after
// MASTER_RETRY_COUNT tries.
func sourceAway(errno int) bool {
	return errno >= firstClientError && errno <= lastClientError || errno == errTooManyConnections || errno == errShutdown || errno == errAccessDenied
}

// statement is SQL with the values that the driver quotes into it. Only its text may
// be logged.
type statement struct {
	text string
	args []any
}

// nativeHash is what mysql_native_password stores: "*" and the hex of SHA-1 over the
// SHA-1 of the password. With it in the statement, no password enters the binary log.
//
// https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/
func nativeHash(password string) string {
	once := sha1.Sum([]byte(password)) //nolint:gosec // as above
	twice := sha1.Sum(once[:])         //nolint:gosec // as above
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// accountStatements make the replication account, or make it right.
func accountStatements(user, password string) []statement {
	hash := nativeHash(password)
	return []statement{
		{"CREATE USER IF NOT EXISTS ?@'%' IDENTIFIED VIA mysql_native_password USING ?", []any{user, hash}},
		{"ALTER USER ?@'%' IDENTIFIED VIA mysql_native_password USING ?", []any{user, hash}},
		{"GRANT REPLICATION SLAVE ON *.* TO ?@'%'", []any{user}},
	}
}

// connectRetry is how many seconds a replica waits before it tries its source again.
const connectRetry = 5

// Source is who a replica follows.
type Source struct {
	Host     string
	Port     int
	User     string
	Password string
}

func (s Source) clauses() (string, []any) {
	return "MASTER_HOST = ?, MASTER_PORT = ?, MASTER_USER = ?, MASTER_PASSWORD = ?, MASTER_CONNECT_RETRY = ?",
		[]any{s.Host, s.Port, s.User, s.Password, connectRetry}
}

// configureStatements make a fresh copy follow its source from the origin. They can be
// run again when they were cut short.
func configureStatements(s Source, o origin.Origin) []statement {
	text, args := s.clauses()
	if o.Mode == origin.Position {
		text += ", MASTER_LOG_FILE = ?, MASTER_LOG_POS = ?, MASTER_USE_GTID = no"
		return []statement{{"CHANGE MASTER TO " + text, append(args, o.File, o.Position)}}
	}
	return []statement{
		{"SET GLOBAL gtid_slave_pos = ?", []any{o.GTID}},
		{"CHANGE MASTER TO " + text + ", MASTER_USE_GTID = slave_pos", args},
	}
}

// repointStatements make a replica follow another source, or the same with other
// credentials, from where it is. In file and position mode only the credentials may
// change, for a new host would void the position.
func repointStatements(s Source, usingGTID bool) []statement {
	text, args := s.clauses()
	if usingGTID {
		text += ", MASTER_USE_GTID = slave_pos"
	} else {
		text, args = "MASTER_USER = ?, MASTER_PASSWORD = ?", []any{s.User, s.Password}
	}
	return []statement{{text: statementStop}, {"CHANGE MASTER TO " + text, args}, {text: statementStart}}
}

// Recipe is the SQL that makes a copy with this origin a replica, for people to paste.
// The host and the credentials are left for them to fill in.
func Recipe(f flavor.Flavor, o origin.Origin) string {
	const account = "_HOST='<primary>', %_PORT=3306, %_USER='<user>', %_PASSWORD='<password>'"
	word, change, start := "MASTER", "CHANGE MASTER TO ", "START SLAVE;"
	if f == flavor.MySQL {
		word, change, start = "SOURCE", "CHANGE REPLICATION SOURCE TO ", "START REPLICA;"
	}
	connect := change + word + strings.ReplaceAll(account, "%", word)
	gtid := "'" + o.GTID + "'"
	switch {
	case o.Mode == origin.Position:
		return connect + ", " + word + "_LOG_FILE='" + o.File + "', " + word + "_LOG_POS=" + strconv.FormatUint(o.Position, 10) + ";\n" + start
	case f == flavor.MySQL:
		return "SET GLOBAL gtid_purged=" + gtid + ";\n" + connect + ", SOURCE_AUTO_POSITION=1;\n" + start
	default:
		return "SET GLOBAL gtid_slave_pos=" + gtid + ";\n" + connect + ", MASTER_USE_GTID=slave_pos;\n" + start
	}
}
