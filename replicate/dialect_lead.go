package replicate

import (
	"fmt"
	"strings"
)

// What it takes on MySQL 8.0 and later, and on MariaDB 10.6 and later, to lead by the Lease: see
// docs/failover.md.
//
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-threads-table.html
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-session-connect-attrs-table.html
// https://mariadb.com/kb/en/information-schema-processlist-table/

// leadWords are the questions of a leader, and of who may become one.
type leadWords struct {
	// state is one row: GTIDs that wait to be executed, executed ones in one text or two, who writes,
	// whether somebody can write, whether only administrators are let in, the applier's thread, 0
	// while there is none, and whether transactions have GTIDs. What waits is read first, see queryGTIDs.
	state string
	// shows is whether the server shows connections of others. The others are lists of connections;
	// the value that each begins with names this process, see Process: before are those of other
	// processes of this sidecar, busy those of this one that execute something, except one, both up to
	// the newest connection that is given, and clients those of clients from before a connection, except replicas, this sidecar, and those whose
	// commits wait for a replica or may be about to.
	shows, before, busy, clients string
	// newest is the newest connection.
	newest string
	// replicas are account and host of each replica that is connected: on MySQL of those that
	// acknowledge, as their connections say in a variable; MariaDB does not show it.
	replicas string
	// locked are the accounts that are locked, of those whose name begins so, admitted those that are not.
	locked, admitted string
	// stuck is how many statements have been at their commit for so many seconds, or, where the server
	// says so, have waited for room on its disk. A thread of InnoDB keeps the state of its last commit.
	stuck string
	// offline lets nobody in but administrators, online ends that.
	offline, online string
}

const (
	// queryClock is the server's own clock, in seconds.
	queryClock = "SELECT FLOOR(UNIX_TIMESTAMP(SYSDATE(6)))"
	// queryUptime is a name, and for how many seconds the server has run: see readUptime.
	queryUptime = "SHOW GLOBAL STATUS LIKE 'Uptime'"

	queryConnection = "SELECT CONNECTION_ID()"
	// queryProcesses are all connections.
	queryProcesses    = "SHOW PROCESSLIST"
	columnProcess     = "Id"
	columnProcessUser = "User"
	columnCommand     = "Command"
	commandDump       = "Binlog Dump"
	unauthenticated   = "unauthenticated user"
	// queryRunning are the transactions of clients that may write, by session and second of their
	// begin: a transaction's own number may change. One that a session begins in the second in which
	// its last one began counts as that.
	queryRunning = "SELECT CONCAT(trx_mysql_thread_id, ' ', trx_started) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id > 0 AND trx_is_read_only = 0"

	killConnection = "KILL CONNECTION ?"
	briefly        = "SET SESSION lock_wait_timeout = 1"

	// attributeProcess is the connection attribute that names the sidecar's process on MySQL.
	attributeProcess = "understudy_process"
)

// mySQLLead knows this sidecar's connections by their attribute.
//
// https://dev.mysql.com/doc/refman/8.4/en/server-system-variables.html#sysvar_offline_mode
var mySQLLead = leadWords{
	state: "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed, '', @@GLOBAL.server_uuid, NOT (@@GLOBAL.read_only AND @@GLOBAL.super_read_only), @@GLOBAL.offline_mode, " +
		"COALESCE((SELECT THREAD_ID FROM performance_schema.replication_applier_status_by_coordinator WHERE CHANNEL_NAME = ''), " +
		"(SELECT MAX(THREAD_ID) FROM performance_schema.replication_applier_status_by_worker WHERE CHANNEL_NAME = ''), 0), @@GLOBAL.gtid_mode IN ('ON', 'ON_PERMISSIVE')",
	shows: "SELECT COUNT(*) > 0 FROM performance_schema.session_connect_attrs JOIN performance_schema.threads USING (PROCESSLIST_ID) " +
		"WHERE PROCESSLIST_ID = CONNECTION_ID() AND ATTR_NAME = '" + attributeProcess + "' AND ATTR_VALUE = ?",
	newest: "SELECT COALESCE(MAX(PROCESSLIST_ID), 0) FROM performance_schema.threads",
	before: "SELECT PROCESSLIST_ID FROM performance_schema.session_connect_attrs WHERE ATTR_NAME = '" + attributeProcess + "' AND ATTR_VALUE <> ? AND PROCESSLIST_ID <= ?",
	busy: "SELECT t.PROCESSLIST_ID FROM performance_schema.session_connect_attrs JOIN performance_schema.threads t USING (PROCESSLIST_ID) " +
		"WHERE ATTR_NAME = '" + attributeProcess + "' AND ATTR_VALUE = ? AND PROCESSLIST_ID <> ? AND PROCESSLIST_ID <= ? AND t.PROCESSLIST_COMMAND <> 'Sleep' " +
		"AND COALESCE(t.PROCESSLIST_STATE, '') NOT LIKE 'Waiting for semi-sync ACK%'",
	clients: "SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE NAME = 'thread/sql/one_connection' AND PROCESSLIST_ID IS NOT NULL " +
		"AND PROCESSLIST_COMMAND NOT LIKE 'Binlog Dump%' AND PROCESSLIST_COMMAND <> 'Clone' AND COALESCE(PROCESSLIST_STATE, '') NOT LIKE 'Waiting for semi-sync ACK%' " +
		"AND PROCESSLIST_ID NOT IN (SELECT PROCESSLIST_ID FROM performance_schema.session_connect_attrs WHERE ATTR_NAME = '" + attributeProcess + "' AND ? <> '') " +
		"AND PROCESSLIST_ID < ?",
	replicas: "SELECT t.PROCESSLIST_USER, COALESCE(t.PROCESSLIST_HOST, '') FROM performance_schema.threads t WHERE t.PROCESSLIST_COMMAND LIKE 'Binlog Dump%' " +
		"AND t.PROCESSLIST_USER IS NOT NULL AND EXISTS (SELECT * FROM performance_schema.user_variables_by_thread v WHERE v.THREAD_ID = t.THREAD_ID " +
		"AND v.VARIABLE_NAME IN ('rpl_semi_sync_replica', 'rpl_semi_sync_slave') AND v.VARIABLE_VALUE = '1')",
	locked:   "SELECT User FROM mysql.user WHERE account_locked = 'Y' AND User LIKE ?",
	admitted: "SELECT User FROM mysql.user WHERE account_locked = 'N' AND User LIKE ?",
	stuck:    "SELECT COUNT(*) FROM performance_schema.threads WHERE NAME = 'thread/sql/one_connection' AND PROCESSLIST_STATE = 'waiting for handler commit' AND PROCESSLIST_TIME >= ?",
	offline:  "SET GLOBAL offline_mode = ON",
	online:   "SET GLOBAL offline_mode = OFF",
}

const (
	columnDelay = "SQL_Delay"
	// columnUpstream is the server_uuid of the source that a channel of MySQL was connected to last.
	columnUpstream = "Source_UUID"
)

// startApplier starts the applier alone.
func (d dialect) startApplier() string { return d.start + " SQL_THREAD" }

// moveStatements point a channel that uses GTIDs at another source, and leave its applier and its
// relay logs as they are: what they hold may have been acknowledged. MariaDB refuses that while the
// applier runs, and drops relay logs when both threads stand still: there the applier begins anew.
func (d dialect) moveStatements(s Source) []statement {
	if d.movesStopped {
		return d.repointStatements(s)
	}
	verified, args := d.verified(s)
	move := d.changeTo("%_HOST = ?, %_PORT = ?, "+verified+heartbeats+"%_USER = ?, %_PASSWORD = ?", append(append([]any{s.Host, s.Port}, args...), s.User, s.Password)...)
	return []statement{{text: d.stopReceiver}, move, {text: d.startReceiver}}
}

// sideStatements turn the replica's side of semi-sync on or off.
func (d dialect) sideStatements(on, receiving bool) []statement {
	set := statement{text: "SET GLOBAL " + d.semiSyncWords.Replace(semiSyncReplica+"enabled") + " = " + onOff(on)}
	all := []statement{set}
	if d.cutOff != "" {
		all = append(all, statement{text: d.cutOff})
	}
	if !receiving {
		return all
	}
	return append(append([]statement{{text: d.stopReceiver}}, all...), statement{text: d.startReceiver})
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
