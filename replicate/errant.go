package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/replicate/gtid"
)

// narrowTimeout bounds the search in our binary logs, which may be long.
const narrowTimeout = 10 * time.Second

// narrowed is the last search's result, so that a loop that changes nothing does not
// search again.
type narrowed struct {
	before string
	after  gtid.Errant
}

// narrow finds out which transactions the bounds are that MariaDB's binlog state gives. When
// it cannot, the bounds are what is known.
func (a *Agent) narrow(ctx context.Context, bounds gtid.Errant, inSource func(list string) bool) gtid.Errant {
	if len(bounds.Ranges()) == 0 {
		return bounds
	}
	if a.narrowed.before == bounds.String() {
		return a.narrowed.after
	}
	ctx, cancel := context.WithTimeout(ctx, narrowTimeout)
	defer cancel()
	a.narrowed = narrowed{bounds.String(), bounds}
	logged, complete, err := readLogged(ctx, a.db, bounds, inSource)
	if err != nil {
		a.log.Warn("the errant transactions were not looked up in the binary logs", "within", bounds.String(), "error", err)
		return bounds
	}
	a.narrowed.after = bounds.Narrow(logged, complete)
	return a.narrowed.after
}

// readLogged reads the transactions within the bounds from our binary logs, the newest
// first, until one begins with a list of what came before that inSource says the source
// has all of. Without such a log, more may have been purged, and it is not complete.
func readLogged(ctx context.Context, db *sql.DB, bounds gtid.Errant, inSource func(list string) bool) (all []gtid.GTID, complete bool, err error) {
	files, err := readRows(ctx, db, queryBinlogs)
	if err != nil {
		return nil, false, fmt.Errorf("list the binary logs: %w", err)
	}
	for _, file := range slices.Backward(files) {
		before, logged, err := readBinlog(ctx, db, file.text(columnLogName), bounds)
		if err != nil {
			return nil, false, fmt.Errorf("read the binary log %s: %w", file.text(columnLogName), err)
		}
		all = append(all, logged...)
		if before != nil && inSource(*before) {
			return all, true, nil
		}
	}
	return all, false, nil
}

// readBinlog reads a log's list of what came before it, and its transactions within the bounds.
func readBinlog(ctx context.Context, db *sql.DB, name string, bounds gtid.Errant) (before *string, logged []gtid.GTID, err error) {
	rows, err := db.QueryContext(ctx, queryBinlogEvents, name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var event, info string
		var file, position, server, end sql.RawBytes
		if err := rows.Scan(&file, &position, &event, &server, &end, &info); err != nil {
			return nil, nil, err
		}
		switch event {
		case eventGTIDList: // "[0-100-7,\n0-101-9]"
			list := strings.Trim(info, "[]")
			before = &list
		case eventGTID: // "BEGIN GTID 0-101-9", or without BEGIN
			var g gtid.GTID
			_, text, _ := strings.Cut(info, "GTID ")
			if _, err := fmt.Sscanf(text, "%d-%d-%d", &g.Domain, &g.Server, &g.Sequence); err != nil {
				return nil, nil, fmt.Errorf("event at %s, %q: %w", position, info, err)
			}
			if bounds.Holds(g) {
				logged = append(logged, g)
			}
		}
	}
	return before, logged, rows.Err()
}
