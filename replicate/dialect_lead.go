package replicate

import (
	"fmt"
	"strings"
)

// What it takes on MySQL 8.0 and later to lead by the Lease: see docs/failover.md.
//
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-threads-table.html
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-session-connect-attrs-table.html

const (
	// queryClock is the server's own clock, in seconds, queryUptime of the dialect for how many of
	// them it has run.
	queryClock = "SELECT FLOOR(UNIX_TIMESTAMP(SYSDATE(6)))"
	// queryLead is one row: owned and executed GTIDs, the server_uuid, whether anybody can write,
	// whether only administrators are let in, and the applier's thread, 0 while there is none. What is
	// owned is read first, see queryGTIDs.
	queryLead = "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed, @@GLOBAL.server_uuid, NOT (@@GLOBAL.read_only AND @@GLOBAL.super_read_only), @@GLOBAL.offline_mode, " +
		"COALESCE((SELECT THREAD_ID FROM performance_schema.replication_applier_status_by_coordinator WHERE CHANNEL_NAME = ''), " +
		"(SELECT MAX(THREAD_ID) FROM performance_schema.replication_applier_status_by_worker WHERE CHANNEL_NAME = ''), 0)"
	columnDelay = "SQL_Delay"

	// attributeProcess is the connection attribute that names the sidecar's process.
	attributeProcess = "understudy_process"
	queryConnection  = "SELECT CONNECTION_ID()"
	// queryBefore are the connections of other processes of this sidecar, queryBusy those of this one
	// that execute something, except one.
	queryBefore = "SELECT PROCESSLIST_ID FROM performance_schema.session_connect_attrs WHERE ATTR_NAME = '" + attributeProcess + "' AND ATTR_VALUE <> ?"
	queryBusy   = "SELECT t.PROCESSLIST_ID FROM performance_schema.session_connect_attrs JOIN performance_schema.threads t USING (PROCESSLIST_ID) " +
		"WHERE ATTR_NAME = '" + attributeProcess + "' AND ATTR_VALUE = ? AND PROCESSLIST_ID <> ? AND t.PROCESSLIST_COMMAND <> 'Sleep' " +
		"AND COALESCE(t.PROCESSLIST_STATE, '') NOT LIKE 'Waiting for semi-sync ACK%'"
	// queryShows says that the server shows this connection, with its attribute.
	queryShows = "SELECT COUNT(*) > 0 FROM performance_schema.session_connect_attrs JOIN performance_schema.threads USING (PROCESSLIST_ID) " +
		"WHERE PROCESSLIST_ID = CONNECTION_ID() AND ATTR_NAME = '" + attributeProcess + "' AND ATTR_VALUE = ?"
	// queryProcesses are all connections.
	queryProcesses    = "SHOW PROCESSLIST"
	columnProcess     = "Id"
	columnProcessUser = "User"
	columnCommand     = "Command"
	commandDump       = "Binlog Dump"
	unauthenticated   = "unauthenticated user"
	// queryClients are those of clients, except replicas, this sidecar, and those whose commits wait
	// for a replica.
	queryClients = "SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE NAME = 'thread/sql/one_connection' AND PROCESSLIST_ID IS NOT NULL " +
		"AND PROCESSLIST_COMMAND NOT LIKE 'Binlog Dump%' AND COALESCE(PROCESSLIST_STATE, '') NOT LIKE 'Waiting for semi-sync ACK%' " +
		"AND PROCESSLIST_ID NOT IN (SELECT PROCESSLIST_ID FROM performance_schema.session_connect_attrs WHERE ATTR_NAME = '" + attributeProcess + "')"
	// queryLocked are the accounts that are locked, of those whose name begins so.
	queryLocked = "SELECT User FROM mysql.user WHERE account_locked = 'Y' AND User LIKE ?"

	killConnection = "KILL CONNECTION ?"
	briefly        = "SET SESSION lock_wait_timeout = 1"
)

// startApplier starts the applier alone.
func (d dialect) startApplier() string { return d.start + " SQL_THREAD" }

// moveStatements point a channel that uses GTIDs at another source, and leave its applier and its
// relay logs as they are: what they hold may have been acknowledged.
func (d dialect) moveStatements(s Source) []statement {
	verified, args := d.verified(s)
	move := d.changeTo("%_HOST = ?, %_PORT = ?, "+verified+heartbeats+"%_USER = ?, %_PASSWORD = ?", append(append([]any{s.Host, s.Port}, args...), s.User, s.Password)...)
	return []statement{{text: d.stopReceiver}, move, {text: d.startReceiver}}
}

// sideStatements turn the replica's side of semi-sync on or off.
func (d dialect) sideStatements(on, receiving bool) []statement {
	set := statement{text: "SET GLOBAL " + d.semiSyncWords.Replace(semiSyncReplica+"enabled") + " = " + onOff(on)}
	if !receiving {
		return []statement{set}
	}
	return []statement{{text: d.stopReceiver}, set, {text: d.startReceiver}}
}

// waitStatements turn the source's side on, without a way out, or off.
func (d dialect) waitStatements(on bool) []statement {
	if on {
		return d.sourceStatements(SemiSyncRequired)
	}
	return []statement{{text: "SET GLOBAL " + d.semiSyncWords.Replace(semiSyncSource+"enabled") + " = OFF"}}
}

func onOff(on bool) string {
	if on {
		return "ON"
	}
	return "OFF"
}

// offlineStatement lets nobody in but administrators, or ends that.
//
// https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_offline_mode
func offlineStatement(on bool) statement {
	return statement{text: "SET GLOBAL offline_mode = " + onOff(on)}
}

// lockStatements lock an account, or unlock it.
func lockStatements(user string, lock bool) []statement {
	word := "UNLOCK"
	if lock {
		word = "LOCK"
	}
	return []statement{{"ALTER USER IF EXISTS ?@? ACCOUNT " + word, []any{user, anyHost}}}
}

// memberStatements make a member's account; a new one is locked.
func (d dialect) memberStatements(user string, p passwords) []statement {
	all := []statement{{"CREATE USER IF NOT EXISTS ?@? " + d.identified + " ACCOUNT LOCK", []any{user, anyHost, d.hash(p.current)}}}
	all = append(all, d.passwordStatements(user, anyHost, d.scheme, p)...)
	return append(
		all, statement{"ALTER USER IF EXISTS ?@? PASSWORD EXPIRE NEVER", []any{user, anyHost}},
		statement{"GRANT REPLICATION SLAVE ON *.* TO ?@?", []any{user, anyHost}},
	)
}

// likeAccounts matches the accounts whose names begin with a text.
func likeAccounts(prefix string) string {
	return fmt.Sprintf("%s%%", strings.NewReplacer("_", `\_`, "%", `\%`).Replace(prefix))
}
