package load

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// waitTimeout bounds WaitGTID when its context has no deadline.
const waitTimeout = time.Minute

// Checksum is one table's content in short.
type Checksum struct {
	Rows int64
	Sum  uint64 // of CHECKSUM TABLE
}

// Checksums returns a checksum of each table of the shop, by the table's name. Two servers that
// nothing writes to have the same data if these are equal.
func Checksums(ctx context.Context, db *sql.DB) (map[string]Checksum, error) {
	sums := make(map[string]Checksum, len(tables))
	for _, table := range tables {
		var name string
		var sum sql.NullInt64 // NULL: the table is not there
		if err := db.QueryRowContext(ctx, "CHECKSUM TABLE "+table).Scan(&name, &sum); err != nil {
			return nil, fmt.Errorf("read checksum of %s: %w", table, err)
		}
		if !sum.Valid {
			return nil, fmt.Errorf("read checksum of %s: no such table", table)
		}
		var rows int64
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&rows); err != nil {
			return nil, fmt.Errorf("count rows of %s: %w", table, err)
		}
		sums[table] = Checksum{Rows: rows, Sum: uint64(sum.Int64)} //nolint:gosec // 32 bits
	}
	return sums, nil
}

// errNoPosition is in the error of a wait for nothing, which would be over at once.
var errNoPosition = errors.New("no position to wait for: nothing was committed, or the server gives no GTIDs")

// WaitGTID waits until the replica that db connects to has applied the position. It gives up when
// ctx ends, or after a minute if ctx has no deadline. It is for replicas only: a MariaDB primary
// applies nothing.
func WaitGTID(ctx context.Context, db *sql.DB, gtid string) error {
	if gtid == "" {
		return errNoPosition
	}
	dialect, err := detect(ctx, db)
	if err != nil {
		return fmt.Errorf("wait for %s: %w", gtid, err)
	}
	timeout := waitTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// The server gives up a little earlier, so that there is time to ask how far it came.
	var result int
	if err := db.QueryRowContext(ctx, dialect.waitGTID, gtid, timeout.Seconds()*0.9).Scan(&result); err != nil {
		return fmt.Errorf("wait for %s: %w", gtid, err)
	}
	if result == 0 {
		return nil
	}
	var applied string
	if err := db.QueryRowContext(ctx, dialect.applied).Scan(&applied); err != nil {
		return fmt.Errorf("wait for %s: %w", gtid, errors.Join(context.DeadlineExceeded, err))
	}
	return fmt.Errorf("wait for %s, replica is at %q: %w", gtid, applied, context.DeadlineExceeded)
}

// ErrDiffers is returned for a replica that does not have what its primary has.
var ErrDiffers = errors.New("the data differ from the primary's")

// CompareReplica waits until a replica has the last commit, and compares its tables with the
// primary's, to which no writes may be running. It returns the checksums of both.
func (l *Load) CompareReplica(ctx context.Context, primary, replica *sql.DB) (map[string]Checksum, error) {
	if err := WaitGTID(ctx, replica, l.LastGTID()); err != nil {
		return nil, err
	}
	if err := l.VerifyLedger(ctx, replica); err != nil {
		return nil, err
	}
	want, err := Checksums(ctx, primary)
	if err != nil {
		return nil, err
	}
	got, err := Checksums(ctx, replica)
	if err != nil {
		return nil, err
	}
	for name, sum := range want {
		if got[name] != sum {
			return nil, fmt.Errorf("%w: %s is %+v there, %+v here", ErrDiffers, name, sum, got[name])
		}
	}
	if want["shop.ledger"].Rows == 0 {
		return nil, fmt.Errorf("%w: the ledger is empty on both", errNoPosition)
	}
	return got, nil
}
