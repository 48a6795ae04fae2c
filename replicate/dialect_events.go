package replicate

import "strings"

// What it takes on MySQL 8.0 and later to have scheduled events run on the leader.
//
// https://dev.mysql.com/doc/refman/8.4/en/replication-features-invoked.html
// https://dev.mysql.com/doc/refman/8.4/en/alter-event.html

const (
	// quotedEvent is an event's name as statements take it.
	quotedEvent = "CONCAT('`', REPLACE(EVENT_SCHEMA, '`', '``'), '`.`', REPLACE(EVENT_NAME, '`', '``'), '`')"
	// queryEnabled are the events that run, querySleeper those that querySleeping lists, each with its
	// definer.
	queryEnabled = "SELECT " + quotedEvent + " FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'"
	querySleeper = "SELECT " + quotedEvent + ", DEFINER FROM information_schema.EVENTS WHERE STATUS IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED')"
)

// enableStatement enables an event, whose name is quoted. It keeps its definer, which ALTER EVENT would
// make the administrator otherwise, and all else.
func enableStatement(name, definer string) statement {
	return statement{text: "ALTER DEFINER = " + quotedDefiner(definer) + " EVENT " + name + " ENABLE"}
}

// quotedDefiner quotes user@host.
func quotedDefiner(definer string) string {
	at := max(strings.LastIndexByte(definer, '@'), 0)
	quoted := func(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
	return quoted(definer[:at]) + "@" + quoted(strings.TrimPrefix(definer[at:], "@"))
}
