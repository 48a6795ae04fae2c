package replicate

import (
	"database/sql/driver"
	"errors"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Error numbers of servers, by the names that their manuals give them. What MySQL before 8.0 and
// MariaDB call by a number below 2000, MySQL has in its error log by another one.
const (
	errKeyNotFound        = 1032  // ER_KEY_NOT_FOUND
	errDiskFull           = 1021  // ER_DISK_FULL
	errTableFull          = 1114  // ER_RECORD_FILE_FULL: of the volume, or of a limit of the table
	errLocked             = 3118  // ER_ACCOUNT_HAS_BEEN_LOCKED of MySQL
	errLockedMariaDB      = 4151  // the same
	errOtherWorker        = 3030  // ER_REPLICA_WORKER_STOPPED_PREVIOUS_THD_ERROR
	errTooManyConnections = 1040  // ER_CON_COUNT_ERROR
	errDatabaseDenied     = 1044  // ER_DBACCESS_DENIED_ERROR
	errAccessDenied       = 1045  // ER_ACCESS_DENIED_ERROR
	errShutdown           = 1053  // ER_SERVER_SHUTDOWN
	errDuplicate          = 1062  // ER_DUP_ENTRY
	errParse              = 1064  // ER_PARSE_ERROR
	errTableDenied        = 1142  // ER_TABLEACCESS_DENIED_ERROR
	errColumnDenied       = 1143  // ER_COLUMNACCESS_DENIED_ERROR
	errHostBlocked        = 1129  // ER_HOST_IS_BLOCKED
	errHostDenied         = 1130  // ER_HOST_NOT_PRIVILEGED
	errNoSuchThread       = 1094  // ER_NO_SUCH_THREAD
	errNoSuchTable        = 1146  // ER_NO_SUCH_TABLE
	errUnknownVariable    = 1193  // ER_UNKNOWN_SYSTEM_VARIABLE
	errSourceInfo         = 1201  // ER_MASTER_INFO of MariaDB: the files of a channel cannot be read
	errUserConnections    = 1203  // ER_TOO_MANY_USER_CONNECTIONS: on MariaDB, of an heir that lets only administrators in
	errPrivilege          = 1227  // ER_SPECIFIC_ACCESS_DENIED_ERROR
	errSourceFatal        = 1236  // ER_MASTER_FATAL_ERROR_READING_BINLOG
	errReplicaFatal       = 1593  // ER_SLAVE_FATAL_ERROR
	errNoPassword         = 1698  // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
	errSSL                = 2026  // CR_SSL_CONNECTION_ERROR, of the receiver
	errOption             = 1290  // ER_OPTION_PREVENTS_STATEMENT
	errPasswordRule       = 1819  // ER_NOT_VALID_PASSWORD
	errMustChange         = 1820  // ER_MUST_CHANGE_PASSWORD: let in, and refused every statement
	errExpired            = 1862  // ER_MUST_CHANGE_PASSWORD_LOGIN
	errSameSource         = 1934  // ER_CONNECTION_ALREADY_EXISTS of MariaDB: two channels to one source
	errNoSuchQuery        = 1957  // ER_NO_SUCH_QUERY of MariaDB
	errGTIDOutOfOrder     = 1950  // ER_GTID_STRICT_OUT_OF_ORDER of MariaDB
	firstClientError      = 2000  // CR_UNKNOWN_ERROR: the client library's begin here, about the connection
	lastClientError       = 2999  // CR_MAX_ERROR; what comes behind is the servers' again
	errSourceFatalLogged  = 13114 // ER_SERVER_SOURCE_FATAL_ERROR_READING_BINLOG
	errReplicaFatalLogged = 13117 // ER_RPL_REPLICA_FATAL_ERROR
)

// sourceAway tells a receiver that could not reach or enter its source, which ends by itself, from
// one that found something wrong there. Even the former stops, after SOURCE_RETRY_COUNT tries.
func sourceAway(errno int) bool {
	return errno >= firstClientError && errno <= lastClientError || slices.Contains([]int{errTooManyConnections, errUserConnections, errShutdown, errAccessDenied}, errno) ||
		barred(errno)
}

// barred says of a refusal of a login that it is not about the password: whatever that is, the
// account is not let in until its bar is lifted at the server.
func barred(errno int) bool {
	return slices.Contains([]int{errMustChange, errExpired, errLocked, errLockedMariaDB, errHostDenied, errHostBlocked}, errno)
}

// sourceLacked says that a receiver stopped because its source did not have all that the replica
// has: on a first ordinal that takes that over, only for now. Histories of MariaDB that have parted
// stay so.
func sourceLacked(errno int, text string) bool {
	return (errno == errSourceFatal || errno == errSourceFatalLogged) && !strings.Contains(text, "diverged") &&
		(strings.Contains(text, "more GTIDs than the") || strings.Contains(text, "is not in the master's binlog"))
}

// advice is what to do about an error that stopped a thread, to be read behind its text; empty
// where nobody knows better than the text.
func advice(errno int, text string) string {
	switch errno {
	case errDuplicate, errKeyNotFound:
		return "; its data differs from the source's, and no event is skipped: reseed this member, or make the rows equal by hand"
	case errGTIDOutOfOrder:
		return "; this member was written to directly (FLUSH, ANALYZE and OPTIMIZE without LOCAL write, too), " +
			"or it replicates by file and position, which a crash of MariaDB can set back: reseed this member"
	case errNoSuchTable:
		return "; if it is a temporary table that statements in the source's binary log use, neither a clone nor a restarted replica has it: " +
			"set binlog_format = ROW on the source (the default of MariaDB is MIXED), then reseed this member"
	case errSourceFatal, errSourceFatalLogged:
		if strings.Contains(text, "same server_uuid") {
			return "; another replica has this member's server_id or server_uuid: give each its own"
		}
		return "; the source no longer has what comes next: if its binary logs were purged, reseed this member"
	case errReplicaFatal, errReplicaFatalLogged:
		if strings.Contains(text, "equal M") {
			return "; the source has this member's server_id (see --server-id-base) or server_uuid (remove auto.cnf and restart the server)"
		}
	}
	return ""
}

// outOfRoom says of an error that stopped the applier that it may have wanted room on the volume.
func outOfRoom(errno int) bool { return errno == errDiskFull || errno == errTableFull }

// dataDiffer says of an error that stopped the applier that the data are not the source's.
func dataDiffer(errno int) bool {
	return errno == errDuplicate || errno == errKeyNotFound || errno == errGTIDOutOfOrder
}

// sourceCannotGoOn says of an error that stopped the receiver that the source does not have what
// comes next. The same numbers tell of a clash of identities.
func sourceCannotGoOn(errno int, text string) bool {
	return (errno == errSourceFatal || errno == errSourceFatalLogged) && !strings.Contains(text, "same server_uuid")
}

// refuses reports whether an error is a server's refusal of a login.
func refuses(err error) bool {
	return isOneOf(err, errAccessDenied, errNoPassword) || isBarred(err)
}

// isBarred reports whether an error is a refusal that is barred.
func isBarred(err error) bool {
	refused, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && barred(int(refused.Number))
}

// lacksPrivilege reports whether an error is a server's refusal of a statement.
func lacksPrivilege(err error) bool {
	return isOneOf(err, errDatabaseDenied, errTableDenied, errColumnDenied, errPrivilege)
}

// isLeaving tells a server that shuts down, or has ended the connection.
func isLeaving(err error) bool {
	return isOneOf(err, errShutdown) || errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, driver.ErrBadConn)
}

func isOneOf(err error, numbers ...uint16) bool {
	refused, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains(numbers, refused.Number)
}

// whyNotMade is the server's word about an account that could not be made, and what to do.
func whyNotMade(err error) string {
	text := err.Error()
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok {
		text = refused.Error() // the statement says no more
	}
	switch {
	case isOneOf(err, errOption) && strings.Contains(text, "strict-password-validation"):
		text += "; accounts are made from password hashes, which keeps passwords out of logs, and no password rule can check a hash:" +
			" set strict_password_validation = OFF, here (SET GLOBAL) and in the server's configuration"
	case isOneOf(err, errPasswordRule):
		text += "; give it a password that the server's rules allow"
	case lacksPrivilege(err):
		text += "; the administrator needs CREATE USER, and every privilege of the accounts WITH GRANT OPTION"
	}
	return text
}
