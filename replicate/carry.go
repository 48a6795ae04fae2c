package replicate

import (
	"context"
	"database/sql"
	"fmt"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// mariadb-backup writes gtid_current_pos into a copy as where the copy stands. That is gtid_slave_pos,
// and what the binary log has by the server_id that the server has now. A server that wrote under
// another one, as the leader of an earlier term or before its server_id was changed, says less there
// than it has: a replica made of such a copy would apply again what it has.
//
// https://mariadb.com/kb/en/gtid/#gtid_current_pos

const queryCarried = "SELECT @@GLOBAL.gtid_current_pos, @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state"

// ReadyForBackup has the server say to a backup tool all that it has. It is safe to call from any
// goroutine.
func (a *Agent) ReadyForBackup(ctx context.Context) error {
	if a.cfg.Flavor != flavor.MariaDB {
		return nil
	}
	return carry(ctx, a.logins.db)
}

// carry puts all that a server of MariaDB has executed into gtid_slave_pos, if gtid_current_pos lacks
// some of it. A server with a channel has it there.
func carry(ctx context.Context, db *sql.DB) error {
	const tries = 3 // who writes meanwhile makes what was read too old
	var failed error
	for range tries {
		var current, slavePos, state string
		if err := db.QueryRowContext(ctx, queryCarried).Scan(&current, &slavePos, &state); err != nil {
			return fmt.Errorf("read its GTIDs: %w", err)
		}
		has, err := gtid.Parse(flavor.MariaDB, slavePos, state)
		if err != nil {
			return err
		}
		if says, err := gtid.Parse(flavor.MariaDB, current); err != nil || says.Contains(has) {
			return err
		}
		channels, err := readRows(ctx, db, mariaDB.queryStatus)
		if err != nil || len(channels) > 0 {
			return err
		}
		if _, failed = db.ExecContext(ctx, mariaDB.resume, has.String()); failed == nil {
			return nil
		}
	}
	return fmt.Errorf("gtid_current_pos, which a copy would have as its position, is less than the server has: %w", failed)
}
