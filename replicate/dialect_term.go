package replicate

import (
	"strings"

	"understudy/replicate/failover"
)

// What it takes on MariaDB to lead by the Lease. It shows no attributes of connections where
// performance_schema is off, as it is by default: this sidecar's connections are known by their
// account and port.
//
// https://mariadb.com/kb/en/information-schema-processlist-table/
// https://mariadb.com/kb/en/server-system-variables/#max_user_connections

const (
	// fromHere are connections of this host, by TCP, each with its port behind the last colon.
	fromHere = "(HOST LIKE '127.%' OR HOST LIKE '::1:%' OR HOST LIKE 'localhost:%')"
	// ofProcess is above 0 for those of the ports that are its value.
	ofProcess = "(" + fromHere + " AND FIND_IN_SET(SUBSTRING_INDEX(HOST, ':', -1), ?))"
	// committing are the sessions whose commits wait for a replica, or for another that does: those
	// of one group in the binary log wait for the first of them.
	committing = "(COALESCE(STATE, '') LIKE 'Waiting for semi-sync ACK%' OR COALESCE(STATE, '') LIKE 'Commit%' OR COALESCE(STATE, '') LIKE 'Waiting for prior transaction%')"
	// freely is the number of connections of one account that the server lets in; it limits nothing.
	// At its start this has to be another number than 0, or it cannot be changed.
	freely = "2147483647"
	// queryWaits are the statements whose commits wait, letGo ends the wait of one, if it is still at
	// that: the commit succeeds.
	//
	// https://mariadb.com/kb/en/kill/
	queryWaits = "SELECT QUERY_ID FROM information_schema.PROCESSLIST WHERE COALESCE(STATE, '') LIKE 'Waiting for semi-sync ACK%'"
	letGo      = "KILL QUERY ID ?"
	// fetchChannel is a second channel, over which an heir receives from another member, while the
	// applier of the first one goes on, and with it the heir's receipt. It begins after that one.
	//
	// https://mariadb.com/kb/en/multi-source-replication/
	fetchChannel = "understudy_fetch"
)

var mariaDBLead = leadWords{
	state: "SELECT '', @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state, @@GLOBAL.server_id, @@GLOBAL.read_only = 'OFF', @@GLOBAL.max_user_connections = -1, " +
		"COALESCE((SELECT MIN(ID) FROM information_schema.PROCESSLIST WHERE COMMAND = 'Slave_SQL'), 0), TRUE",
	shows: "SELECT COUNT(*) > 0 FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'PROCESS' AND ? <> '' " +
		"AND GRANTEE = CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')",
	newest: "SELECT MAX(ID) FROM information_schema.PROCESSLIST",
	before: "SELECT ID FROM information_schema.PROCESSLIST WHERE " + fromHere + " AND NOT " + ofProcess + " AND USER IN (?, ?) AND ID <= ? AND NOT " + committing,
	busy:   "SELECT ID FROM information_schema.PROCESSLIST WHERE " + ofProcess + " AND ID <> ? AND ID <= ? AND COMMAND <> 'Sleep' AND NOT " + committing,
	clients: "SELECT ID FROM information_schema.PROCESSLIST WHERE NOT " + ofProcess + " AND COMMAND NOT LIKE 'Binlog Dump%' AND COMMAND NOT LIKE 'Slave%' " +
		"AND COMMAND <> 'Daemon' AND USER NOT IN ('system user', 'event_scheduler') AND NOT " + committing + " AND ID < ?",
	replicas: "SELECT USER, SUBSTRING_INDEX(HOST, ':', 1) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'",
	locked:   "SELECT User FROM mysql.global_priv WHERE JSON_VALUE(Priv, '$.account_locked') = 1 AND User LIKE ?",
	admitted: "SELECT User FROM mysql.global_priv WHERE COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) <> 1 AND User LIKE ?",
	stuck:    "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for someone to free space' AND TIME >= ?",
	offline:  "SET GLOBAL max_user_connections = -1",
	online:   "SET GLOBAL max_user_connections = " + freely,
}

// writeAsStatements have all sessions that begin from now on write with a server_id, and the one that
// says so, too. Others keep the one that they began with.
func writeAsStatements(id uint32) []statement {
	return []statement{{setServerID, []any{id}}, {text: "SET SESSION server_id = @@GLOBAL.server_id"}}
}

// fetchStatements have the server receive over fetchChannel, and endFetchStatements remove it.
func (d dialect) fetchStatements(s Source) []statement {
	change := d.channelTo(s, d.byGTID)
	change.text = "CHANGE MASTER '" + fetchChannel + "' TO " + strings.TrimPrefix(change.text, d.change)
	return []statement{change, {text: "START SLAVE '" + fetchChannel + "'"}}
}

func endFetchStatements() []statement {
	return []statement{{text: "STOP SLAVE '" + fetchChannel + "'"}, {text: "RESET SLAVE '" + fetchChannel + "' ALL"}}
}

// stopFetch stops its receiver.
const stopFetch = "STOP SLAVE '" + fetchChannel + "' IO_THREAD"

// ofTerm says that a server_id is that of a term, see failover.ServerID.
func ofTerm(id uint64) bool { return id >= uint64(failover.ServerID(0)) && id < 1<<31 }
