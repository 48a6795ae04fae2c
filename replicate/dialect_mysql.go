package replicate

import (
	"strings"

	"understudy/replicate/flavor"
)

// mySQL is the dialect of a version of MySQL: today's words, and those of the versions before, the
// latest first.
func mySQL(v flavor.Version) dialect {
	d := dialect{
		flavor: flavor.MySQL, lead: mySQLLead,
		queryServer: "SELECT @@server_id, @@read_only, @@read_only AND @@super_read_only, @@event_scheduler, @@gtid_executed, @@gtid_mode IN ('ON', 'ON_PERMISSIVE'), @@server_uuid, '', ''",
		queryStatus: "SHOW REPLICA STATUS",
		// A transaction is sent to the replicas before it counts as executed. Until then it is
		// owned, which is read first: between the two it must not be missed.
		queryGTIDs:    "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged FROM DUAL WHERE @@GLOBAL.gtid_mode IN ('ON', 'ON_PERMISSIVE')",
		queryIdentity: "SELECT @@GLOBAL.read_only, @@GLOBAL.server_id, @@GLOBAL.server_uuid",
		mayStartOpen:  true,
		queryOrigin:   queryMySQLOrigin, queryPersisted: queryMySQLPersisted,
		fence:           "SET GLOBAL super_read_only = ON", // sets read_only, too, unless it is on already
		open:            "SET GLOBAL read_only = OFF",      // clears super_read_only, too
		admit:           "SET GLOBAL super_read_only = OFF",
		eventsByDefault: true,
		resetLog:        "RESET BINARY LOGS AND GTIDS",
		queryWithout:    "SELECT GTID_SUBTRACT(@@GLOBAL.gtid_executed, ?)",
		start:           "START REPLICA", stop: "STOP REPLICA", reset: "RESET REPLICA ALL", stopToLogIn: "STOP REPLICA IO_THREAD",
		change: "CHANGE REPLICATION SOURCE TO ", word: "SOURCE",
		byGTID: "SOURCE_AUTO_POSITION = 1", byPosition: "SOURCE_AUTO_POSITION = 0",
		// A source that does not know the password's hash by heart, as after its start, wants the
		// password itself: only TLS carries that. Servers make themselves certificates, if they
		// have no others. The number of tries is the default before 8.4, where it became 10.
		always: "SOURCE_RETRY_COUNT = 86400, ", encrypted: true,
		// What a copy has already may not be named again (error 3546).
		begin:         []string{"SET GLOBAL gtid_purged = CONCAT('+', GTID_SUBTRACT(?, @@GLOBAL.gtid_executed))"},
		semiSyncWords: strings.NewReplacer(),
		stopReceiver:  "STOP REPLICA IO_THREAD", startReceiver: "START REPLICA IO_THREAD",
		scheme: cachingScheme, files: mySQLFiles,
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
		d.eventsByDefault = false
		d.always, d.encrypted = "", false // its plugin never sends the password, and not every build has certificates
		d.begin = []string{"RESET MASTER", "SET GLOBAL gtid_purged = ?"}
		d.scheme, d.files = nativeScheme, mySQL57Files
	}
	return d
}
