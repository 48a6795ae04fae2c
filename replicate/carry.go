package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// mariadb-backup writes gtid_current_pos into a copy as where the copy stands. That is gtid_slave_pos,
// and what the binary log has by the server_id that the server has now. A server that wrote under
// another one, as the leader of an earlier term or before its server_id was changed, says less there
// than it has: a replica made of such a copy would apply again what it has.

// ReadyForBackup has the server say to a backup tool all that it has. It is safe to call from any
// goroutine.
func (a *Agent) ReadyForBackup(ctx context.Context) error {
	if a.cfg.Flavor != flavor.MariaDB {
		return nil
	}
	return carry(ctx, a.logins.db)
}

const (
	// carryTimeout bounds carry, carryPause is the time between two tries.
	carryTimeout = 5 * time.Second
	carryPause   = 50 * time.Millisecond
)

// carry puts all that a server of MariaDB has executed into gtid_slave_pos, if gtid_current_pos lacks
// some of it. A server with a channel has it there.
func carry(ctx context.Context, db *sql.DB) error {
	ctx, cancel := context.WithTimeout(ctx, carryTimeout)
	defer cancel()
	for {
		has, lacks, err := carries(ctx, db)
		if err != nil || !lacks {
			return err
		}
		_, err = db.ExecContext(ctx, mariaDB.resume, has)
		if err == nil {
			return nil
		}
		select { // who writes meanwhile makes what was read too old
		case <-ctx.Done():
			return fmt.Errorf("gtid_current_pos, which a copy would have as its position, is less than the server has: %w", err)
		case <-time.After(carryPause):
		}
	}
}

// carries reads what the server has, and whether gtid_current_pos lacks some of it.
func carries(ctx context.Context, db querier) (has string, lacks bool, err error) {
	all, current, err := executedByAll(ctx, db)
	if err != nil {
		return "", false, err
	}
	says, err := gtid.Parse(flavor.MariaDB, current)
	if err != nil {
		return "", false, fmt.Errorf("read gtid_current_pos: %w", err)
	}
	if says.Contains(all) {
		return "", false, nil
	}
	channels, err := hasChannels(ctx, db)
	return all.String(), !channels, err
}

// executedByAll reads what a server of MariaDB has executed, whoever wrote it, and gtid_current_pos.
func executedByAll(ctx context.Context, db querier) (all gtid.History, current string, err error) {
	var slavePos, state string
	err = each(ctx, db, queryCarried, func(scan func(...any) error) error { return scan(&current, &slavePos, &state) })
	if err == nil {
		all, err = gtid.Parse(flavor.MariaDB, slavePos, state)
	}
	if err != nil {
		return all, "", fmt.Errorf("read its GTIDs: %w", err)
	}
	return all, current, nil
}

func hasChannels(ctx context.Context, db querier) (bool, error) {
	channels, err := readRows(ctx, db, mariaDB.queryStatus)
	if err != nil {
		return false, fmt.Errorf("read replica status: %w", err)
	}
	return len(channels) > 0, nil
}

// carryOver is carry before the server takes another server_id, whether gtid_current_pos lacks
// something yet or not: a backup that runs reads it in its end.
func carryOver(ctx context.Context, db *sql.DB) error {
	channels, err := hasChannels(ctx, db)
	if err != nil || channels {
		return err
	}
	all, _, err := executedByAll(ctx, db)
	if err == nil && !all.Empty() {
		_, err = db.ExecContext(ctx, mariaDB.resume, all.String())
	}
	if err != nil {
		return fmt.Errorf("keep its position: %w", err)
	}
	return nil
}
