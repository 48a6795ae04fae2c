package engine

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// temporaryWait is how long a backup of a replica waits until its applier has no temporary
	// tables. It is less than a joiner waits for the first byte.
	temporaryWait = 10 * time.Second
	// temporaryEvery is the interval of looks.
	temporaryEvery = 200 * time.Millisecond
)

// awaitNoTemporary waits until a replica's applier has no temporary tables, which exist when the
// source logs statements instead of rows. No copy has them, and the copy's applier stops with error
// 1146 at the next statement that uses one. A table that stays open does not prevent the backup,
// because it may never be used again.
//
// https://dev.mysql.com/doc/refman/8.4/en/replication-features-temptables.html
func awaitNoTemporary(ctx context.Context, log *slog.Logger, a Account) {
	if !a.Replica {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, temporaryWait)
	defer cancel()
	for {
		n, err := openTemporary(ctx, a)
		switch {
		case err != nil && ctx.Err() == nil:
			log.Warn("whether the applier holds temporary tables, which no copy has, is not known", "error", err)
			return
		case err == nil && n == 0:
			return
		}
		select {
		case <-ctx.Done():
			log.Warn("the applier holds temporary tables, which no copy has: the copy's may stop with error 1146; set binlog_format=ROW on the primary", "waited", temporaryWait)
			return
		case <-time.After(temporaryEvery):
		}
	}
}

func openTemporary(ctx context.Context, a Account) (int, error) {
	connector, err := mysql.NewConnector(config(a))
	if err != nil {
		return 0, err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	v, err := pairs(ctx, db, "SHOW GLOBAL STATUS WHERE Variable_name IN ('Slave_open_temp_tables', 'Replica_open_temp_tables')")
	if err != nil {
		return 0, err
	}
	sum := 0
	for name, text := range v { // which names exist depends on the version
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("%s is %q: %w", name, text, err)
		}
		sum = max(sum, n)
	}
	return sum, nil
}
