package replicate

import "understudy/replicate/flavor"

var mariaDB = dialect{
	flavor: flavor.MariaDB, lead: mariaDBLead, movesStopped: true,
	// https://mariadb.com/kb/en/semisynchronous-replication/#rpl_semi_sync_slave_kill_conn_timeout
	cutOff: "SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = 1",
	// read_only was a boolean, and is one of four words since MariaDB 12.
	queryServer: "SELECT @@server_id, @@read_only <> 'OFF', @@read_only <> 'OFF', @@event_scheduler, '', 1, '', @@gtid_slave_pos, @@gtid_binlog_state",
	queryStatus: "SHOW ALL SLAVES STATUS",
	queryGTIDs:  "SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state, ''",
	// A server that started writable was not opened.
	queryIdentity: "SELECT @@GLOBAL.read_only <> 'OFF' OR COALESCE((SELECT GLOBAL_VALUE_ORIGIN <> 'SQL' FROM information_schema.SYSTEM_VARIABLES " +
		"WHERE VARIABLE_NAME = 'READ_ONLY'), 1), @@GLOBAL.server_id, ''",
	queryOrigin:     queryMariaDBOrigin,
	fence:           "SET GLOBAL read_only = ON",
	open:            "SET GLOBAL read_only = OFF",
	eventsNeedSuper: true,
	resetLog:        "RESET MASTER",
	freeze:          []string{"SET SESSION lock_wait_timeout = 5", "BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"},
	thaw:            []string{"BACKUP STAGE END", "SET SESSION lock_wait_timeout = DEFAULT"},
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
	files:   mariaDBFiles,
	sidecar: mariaDBSidecar, clone: mariaDBClone, held: heldMariaDB,
}

// queryCarried is one row: what a backup tool takes for the server's position, and what the server
// has.
//
// https://mariadb.com/kb/en/gtid/#gtid_current_pos
const queryCarried = "SELECT @@GLOBAL.gtid_current_pos, @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state"
