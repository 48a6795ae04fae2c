package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// querySleeping lists events that only a replica's server leaves alone: every one that
// reached it by replication, also one that was disabled on the primary. Which of them were
// meant to run, nobody can tell from the copy.
//
// https://dev.mysql.com/doc/refman/8.4/en/replication-features-invoked.html
const querySleeping = "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS " +
	"WHERE STATUS IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED') ORDER BY 1, 2"

// readSleeping reads them as schema.event. Only who may make events sees them all: the
// administrator.
func readSleeping(ctx context.Context, db *sql.DB) (all []string, err error) {
	rows, err := readRows(ctx, db, querySleeping)
	if err != nil {
		return nil, fmt.Errorf("read which events are disabled: %w", err)
	}
	for _, r := range rows {
		all = append(all, r["EVENT_SCHEMA"]+"."+r["EVENT_NAME"])
	}
	return all, nil
}

// tellOfSleeping says of a primary whose data are a copy of a replica, whenever it has
// opened, which events do not run.
func (a *Agent) tellOfSleeping(ctx context.Context, s Standing) {
	if s.Origin == nil {
		return
	}
	all, err := readSleeping(ctx, a.adminDB)
	if err != nil {
		a.log.Warn("it is not known whether events came back disabled with the copy of a replica", "error", err)
		return
	}
	if len(all) == 0 {
		return
	}
	const what, how = "events came back disabled with the copy of a replica, which does not know which of them ran", "ALTER EVENT … ENABLE, or DISABLE, each"
	a.log.Warn(what, "events", all, "how", how)
	a.tell(true, what+": "+strings.Join(all, ", ")+"; "+how)
}
