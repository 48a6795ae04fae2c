//go:build replication

package replication

import (
	"context"
	"testing"

	"understudy/e2e/testserver"
)

// scenario is one line of the table: which rows of Decide it provokes, and how.
type scenario struct {
	name string
	rows []string
	run  func(ctx context.Context, t *testing.T, f *fixture)
	// only names the one flavour that can show it.
	only string
	// quiet lets the writer begin when the rest is over: the primary is not open all the time.
	quiet bool
}

// Before and after each scenario the set has three members that are ready, and equal.
var scenarios = []scenario{
	{
		name: "first start of three", run: firstStart, quiet: true,
		rows: []string{
			"any the server does not answer", "any its image is done, which is not recorded", "primary an account is missing or wrong",
			"primary not attached", "primary else", "replica a fresh copy", "replica a thread is stopped", "replica both threads run, not attached",
			"replica else",
		},
	},
	{
		name: "the server's image is killed at its scripts", run: imageKilled,
		rows: []string{"any its image was interrupted", "any its image was interrupted again and again", "any nothing can prove that its image is done"},
	},
	{name: "nothing happens, and nothing is said", run: nothingHappens},
	{name: "the primary's pod is replaced", run: primaryReplaced, rows: []string{"primary read-only"}},
	{name: "the primary's server is killed", run: primaryKilled, rows: []string{"primary read-only", "replica the receiver is connecting"}},
	{name: "the primary's server restarts", run: primaryRestarts, rows: []string{"primary read-only", "replica the receiver is connecting"}},
	{name: "a replica's server is killed", run: replicaKilled, rows: []string{"any the server does not answer", "replica a thread is stopped"}},
	{name: "the sidecars are killed", run: sidecarsKilled},
	{name: "somebody makes the primary read-only", run: primaryReadOnly, quiet: true, rows: []string{"primary read-only"}},
	{
		name: "the primary runs without a safety option", run: primaryUnsafe, quiet: true,
		rows: []string{"primary a safety option did not take", "primary read-only, and a safety option did not take"},
	},
	{name: "the replication account is changed by hand", run: accountChanged, rows: []string{"primary an account is missing or wrong"}},
	{
		name: "the replication account has expired", run: accountExpired,
		rows: []string{"primary an account is missing or wrong", "replica the receiver is stopped, and the source bars its login"},
	},
	{name: "somebody makes the primary a replica", run: primaryFollows, rows: []string{
		"primary it is configured as a replica of no member, or is open", "primary it has a channel with a name",
	}},
	{name: "the sidecar has a wrong password", run: wrongAdminPassword, rows: []string{"any it refuses the login, or cannot be read"}},
	{name: "the sidecar is told the wrong flavour", run: wrongFlavour, rows: []string{"any it is of another flavour"}},
	{name: "a replica is writable", run: writableReplica, rows: []string{"replica not fenced"}},
	{name: "a replica gets a second channel", run: secondChannel, rows: []string{"replica it has a channel with a name"}},
	{name: "a paused replica is stopped and made writable", run: pausedReplica, rows: []string{"any somebody has paused the member"}},
	{name: "a paused primary's pod is replaced", run: pausedPrimary, quiet: true, rows: []string{"any somebody has paused the member"}},
	{name: "a replica's threads are stopped", run: threadsStopped, rows: []string{"replica a thread is stopped"}},
	{name: "a replica's channel is removed", run: channelRemoved, rows: []string{"replica no channel, GTID mode"}},
	{name: "a replica's verification is turned off", run: unverified, rows: []string{"replica wrong source, account or verification, GTID mode"}},
	{name: "the primary's certificate is somebody else's", run: refused, rows: []string{"replica the receiver is connecting"}},
	{name: "the primary does not prove itself, and a replica does not ask", run: unproven, rows: []string{"replica it does not verify its source"}},
	{name: "the primary does not prove itself, and a replica follows another member", run: detour, rows: []string{"replica Repoint is due, it runs, and no proof of the source"}},
	{name: "the set's secret is rotated", run: secretRotated, rows: []string{"replica a thread is stopped"}},
	{name: "a replica follows somebody else", run: wrongSource, rows: []string{"replica wrong source, account or verification, GTID mode"}},
	{
		name: "the replication password is changed", run: passwordChanged,
		rows: []string{"primary an account is missing or wrong", "replica the source refuses the login, password not tried yet"},
	},
	{
		name: "the replication password is changed while a replica lags", run: passwordChangedUnderLag,
		rows: []string{"replica Repoint is due, and not all that came is applied"},
	},
	{
		name: "the primary comes back from an old copy", run: primaryRestored, quiet: true,
		rows: []string{
			"primary a member may still say what it has", "primary a member has more, and is not followed", "primary it is followed",
			"primary it is followed, and a thread is stopped", "primary it is followed, and its password is refused",
			"primary it is followed, and the applier stopped with an error", "primary no member has more, and it follows one",
			"replica the source lacks what we have, and is not open yet", "replica the receiver stopped: the source lacked what we had",
		},
	},
	{
		name: "the primary comes back from an old copy, and who has more has transactions of its own", run: primaryRestoredAmongErrant, quiet: true,
		rows: []string{"primary a member has more, and none can be followed"},
	},
	{
		name: "the primary's volume is lost", run: primaryLost, quiet: true,
		rows: []string{"primary it is followed, and the receiver stopped with an error", "primary not fenced, and not opened since its server started", "primary a fresh copy"},
	},
	{
		name: "the primary comes back from an old copy, and its server starts writable", run: primaryStartsWritable, quiet: true,
		rows: []string{
			"primary not fenced, and not opened since its server started", "any events run where they must not",
			"primary a member has more, and is not followed", "primary events are to run, and do not",
		},
	},
	{
		name: "settings of the primary are persisted", run: primaryPersisted, only: testserver.MySQL,
		rows: []string{"primary settings are persisted that open it at its start"},
	},
	{
		name: "the primary has events", run: primaryEvents, quiet: true,
		rows: []string{"primary events are to run, and do not", "primary events are to run, and cannot be started"},
	},
	{name: "a replica's server starts writable", run: replicaStartsWritable, rows: []string{"replica not fenced", "any events run where they must not"}},
	{
		name: "settings of a replica are persisted", run: replicaPersisted, only: testserver.MySQL,
		rows: []string{"replica not fenced", "replica settings are persisted that open it at its start", "any events run where they must not"},
	},
	{
		name: "the primary opens with less, and gives the same numbers again", run: primaryForgets, quiet: true,
		rows: []string{"replica the source gives the numbers of what it has lost"},
	},
	{
		name: "the primary is begun empty beside members with data", run: primaryBegunEmpty, quiet: true,
		rows: []string{"primary it was begun empty, and a member has data"},
	},
	{name: "the accounts of sidecar and clones are changed by hand", run: ownAccountsChanged, rows: []string{"primary an account is missing or wrong"}},
	{name: "a set is older than the accounts of sidecar and clones", run: ownAccountsMissing, rows: []string{"primary an account is missing or wrong"}},
	{name: "the passwords of sidecar and clones are rotated", run: ownPasswordsRotated, rows: []string{"primary an account is missing or wrong"}},
	{name: "the administrator's password is unknown", run: adminUnknown, rows: []string{"primary an account is wrong, and cannot be made right"}},
	{name: "the administrator's password is rotated", run: adminPasswordRotated, rows: []string{"primary the administrator's password is rotated"}},
	{
		name: "semi-sync is required, and the replicas leave, or hang", run: semiSync,
		rows: []string{
			"primary semi-sync is due, and not as it has to be", "primary commits wait for a replica, and none acknowledges them",
			"replica semi-sync is wanted, and its side is off",
		},
	},
	{name: "the primary's machine hangs", run: primaryHangs, rows: []string{"replica nothing comes from its source"}},
	{name: "rows differ on a replica", run: rowsDiffer, rows: []string{"replica the applier stopped: the rows differ"}},
	{
		name: "somebody flushes on a replica, and a MEMORY table is used after a restart", run: harmless,
		rows: []string{
			"replica the same, which changed no data, and a backup runs", "replica the source lacks what we have, which changed no data",
			"replica the applier stopped: a MEMORY table lacks a row",
		},
	},
	{name: "a table is missing on a replica", run: applierFails, rows: []string{"replica the applier stopped with another error"}},
	{ // quiet: a transaction that arrives meanwhile counts as the replica's own, and is left out
		name: "two servers with one server_id", run: sameServerID, quiet: true,
		rows: []string{"replica the receiver stopped with an error of its own"},
	},
	{name: "a replica runs without a safety option", run: replicaUnsafe, rows: []string{"replica a safety option did not take"}},
	{name: "a replica's volume is lost", run: volumeLost, rows: []string{"replica a fresh copy"}},
	{name: "a copy starts without a safety option", run: copyUnsafe, rows: []string{"replica a fresh copy, and a safety option did not take"}},
	{name: "a replica has transactions of its own", run: errantReplica, rows: []string{"replica the source lacks what we have"}},
	{name: "a replica is reseeded on request", run: reseeded, rows: []string{"replica the source lacks what we have"}},
	{name: "the primary gets a replica's own transactions", run: errantBrought, rows: []string{"replica the source lacks what we have"}, only: testserver.MySQL},
	{name: "the primary has purged what a replica lacks", run: purged, rows: []string{"replica the source has purged what we lack"}, only: testserver.MySQL},
	{
		name: "the primary has purged what a replica needs next", run: purgedUnseen, only: testserver.MariaDB,
		rows: []string{"replica the receiver stopped: it asks for what is gone"},
	},
	{
		name: "replicas by file and position", run: byPosition,
		rows: []string{"replica wrong account or verification, by file and position", "replica wrong source, file and position mode"},
	},
	{
		name: "a clone of a replica by file and position", run: cloneByPosition, only: testserver.MariaDB,
		rows: []string{"replica a fresh copy", "replica no channel, file and position mode, or no origin"},
	},
	{name: "a directory from elsewhere", run: adopted, rows: []string{
		"any it was adopted, and its files are not looked for yet", "any it was adopted, and has all its files", "replica no channel, file and position mode, or no origin",
	}},
}

// elsewhere are the rows that a flavour cannot show here, and where they are tested.
var elsewhere = map[string]map[string]bool{
	testserver.MariaDB: {
		"any it is not proven yet that its image is done":                true, // TestImage of package main: only Kubernetes tells later
		"any it was adopted, and files are missing":                      true, // TestAdoptedWhole of package e2e
		"any it was adopted, and somebody vouches for it":                true, // as above
		"replica the applier stopped: it wanted room, and there is some": true, // TestFullVolume
		"replica the source has purged what we lack":                     true, // footnote 4
		"replica a fresh copy that does not say where it ends":           true, // only MySQL's clone plugin leaves such copies
		// Only MySQL has SET PERSIST.
		"primary settings are persisted that open it at its start": true,
		"replica settings are persisted that open it at its start": true,
	},
	testserver.MySQL: {
		"any it is not proven yet that its image is done":                true, // TestImage of package main: only Kubernetes tells later
		"any it was adopted, and files are missing":                      true, // TestAdoptedWhole of package e2e
		"any it was adopted, and somebody vouches for it":                true, // as above
		"replica the applier stopped: it wanted room, and there is some": true, // TestFullVolume
		"primary events are to run, and cannot be started":               true, // the sidecar's account may
		"replica the receiver stopped: it asks for what is gone":         true, // footnote 4: it is seen before
		// TestCopiesByPosition of package replicate: it takes a set without GTIDs.
		"replica a fresh copy that does not say where it ends": true,
	},
}

// words are the parts of statements that differ between the flavours.
type words struct {
	flavour string
	// other is the other flavour.
	other       string
	fence, open []string
	// admit lets root write to a server that is read-only. MariaDB's root may anyway.
	admit                     []string
	start, stop, reset        string
	reloadTLS                 string
	stopApplier, stopReceiver string
	startApplier              string
	// change takes options in which each % stands for MASTER or SOURCE.
	change, word       string
	byGTID, byPosition string
	// byRow makes the session write what it changes row by row.
	byRow []string
	// named and forget make and remove a channel with a name.
	named, forget string
}

var languages = map[string]words{
	testserver.MariaDB: {
		flavour: testserver.MariaDB, other: testserver.MySQL,
		fence: []string{"SET GLOBAL read_only = ON"}, open: []string{"SET GLOBAL read_only = OFF"},
		start: "START SLAVE", stop: "STOP SLAVE", reset: "RESET SLAVE ALL", reloadTLS: "FLUSH LOCAL SSL",
		stopApplier: "STOP SLAVE SQL_THREAD", stopReceiver: "STOP SLAVE IO_THREAD", startApplier: "START SLAVE SQL_THREAD",
		change: "CHANGE MASTER TO ", word: "MASTER", byGTID: "MASTER_USE_GTID = slave_pos", byPosition: "MASTER_USE_GTID = no",
		byRow: []string{"SET SESSION binlog_format = ROW"},
		named: "CHANGE MASTER 'east' TO MASTER_HOST = '127.0.0.9'", forget: "RESET SLAVE 'east' ALL",
	},
	testserver.MySQL: {
		flavour: testserver.MySQL, other: testserver.MariaDB,
		fence: []string{"SET GLOBAL super_read_only = ON"}, open: []string{"SET GLOBAL read_only = OFF"},
		admit: []string{"SET GLOBAL super_read_only = OFF"},
		start: "START REPLICA", stop: "STOP REPLICA", reset: "RESET REPLICA ALL", reloadTLS: "ALTER INSTANCE RELOAD TLS",
		stopApplier: "STOP REPLICA SQL_THREAD", stopReceiver: "STOP REPLICA IO_THREAD", startApplier: "START REPLICA SQL_THREAD",
		change: "CHANGE REPLICATION SOURCE TO ", word: "SOURCE", byGTID: "SOURCE_AUTO_POSITION = 1", byPosition: "SOURCE_AUTO_POSITION = 0",
		named: "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.9' FOR CHANNEL 'east'", forget: "RESET REPLICA ALL FOR CHANNEL 'east'",
	},
}
