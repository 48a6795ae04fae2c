package replicate

import (
	"strconv"
	"strings"
)

// The names of the variables and the status of semi-synchronous replication, in the words of MySQL
// 8.0.26 and later.
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

// acknowledgeStatements have the receiver tell its source what it has. One that runs has to be
// restarted for that. It is stopped first: a receiver that is stopped will be started, one that
// runs would be left as it is.
func (d dialect) acknowledgeStatements(running bool) []statement {
	return d.sideStatements(true, running)
}

// unlogged are statements that wait for no replica, since they stay out of the binary log.
func unlogged(all []statement) []statement {
	return append(append([]statement{{text: "SET SESSION sql_log_bin = 0"}}, all...), statement{text: "SET SESSION sql_log_bin = 1"})
}

// semiSyncName is the name of a variable in today's words.
func semiSyncName(name string) string {
	return strings.NewReplacer("master", "source", "slave", "replica").Replace(strings.ToLower(name))
}
