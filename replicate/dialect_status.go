package replicate

import (
	"regexp"
	"strings"

	"understudy/replicate/flavor"
)

// The names of the columns of the replicas' status that matter here. Old servers, and MariaDB, have
// the same ones with the old words.
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

// gtidOwner is the thread that MySQL's gtid_owned names behind each transaction: "#48".
var gtidOwner = regexp.MustCompile(`#\d+`)

var oldWords = strings.NewReplacer("Source", "Master", "Replica", "Slave")

const (
	queryVersion = "SELECT @@version"
	// queryVariables is completed with a list of names.
	queryVariables = "SHOW GLOBAL VARIABLES WHERE Variable_name IN "
	// queryBooted is one row on a copy that MySQL's clone plugin made: where it ends in the donor's
	// own binary log. It is known once a server has started on the copy.
	queryBooted = "SELECT BINLOG_FILE, BINLOG_POSITION FROM performance_schema.clone_status WHERE BINLOG_FILE <> ''"
	// queryWorker is why the workers of MySQL's applier stopped, where the channel's status names
	// one that stopped because another had.
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

// The channel's columns that say whether, and by what, it verifies its source.
const (
	columnTLS    = "Source_SSL_Allowed"
	columnCA     = "Source_SSL_CA_File"
	columnVerify = "Source_SSL_Verify_Server_Cert"
)

// The columns of MariaDB's status that say it.
const (
	columnHeartbeats      = "Slave_received_heartbeats"
	columnHeartbeatPeriod = "Slave_heartbeat_period"
)

// queryHeartbeats is one row on MySQL where performance_schema is on.
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-replication-connection-status-table.html
const queryHeartbeats = "SELECT s.COUNT_RECEIVED_HEARTBEATS, c.HEARTBEAT_INTERVAL FROM performance_schema.replication_connection_status s " +
	"JOIN performance_schema.replication_connection_configuration c USING (CHANNEL_NAME) WHERE CHANNEL_NAME = ''"

// queryMemory is one row if a table is of the engine MEMORY. Only who may look at tables sees it.
const queryMemory = "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables WHERE engine = 'MEMORY' AND table_schema = ? AND table_name = ?"

// querySleeping lists events that only a replica's server leaves alone: every one that reached it
// by replication, also one that was disabled on the primary. Which of them were meant to run,
// nobody can tell from the copy.
//
// https://dev.mysql.com/doc/refman/8.4/en/replication-features-invoked.html
const querySleeping = "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS " +
	"WHERE STATUS IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED') ORDER BY 1, 2"

// reloadTLS has a server read its certificate again; empty where it cannot. It must not be logged:
// on a replica that would be a transaction of its own.
//
// https://dev.mysql.com/doc/refman/8.4/en/alter-instance.html
// https://mariadb.com/kb/en/flush/
func reloadTLS(v flavor.Version) string {
	switch {
	case v.Flavor == flavor.MariaDB:
		return "FLUSH LOCAL SSL"
	case v.AtLeast(8, 0, 16):
		return "ALTER INSTANCE RELOAD TLS"
	}
	return ""
}
