package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

const (
	// narrowTimeout bounds the search in our binary logs, which may be long.
	narrowTimeout = 10 * time.Second
	// narrowRetry is how long a search that failed is not made again.
	narrowRetry = time.Minute
)

// looked is what our binary logs say of transactions that the source lacks.
type looked struct {
	// errant are the transactions; on MariaDB they may be bounds.
	errant gtid.Errant
	// deeds are those that were found, the oldest first.
	deeds []deed
	// harmless says that all of them were found, that our own server made them, and that none has
	// changed data that a copy of the source would have: see deed.harmless.
	harmless bool
}

// search is one for transactions, and what it found, so that a loop that changes nothing does not
// search again.
type search struct {
	of     string
	found  looked
	failed time.Time
}

// answers says that the search need not be made again.
func (s search) answers(of string) bool {
	return s.of == of && (s.failed.IsZero() || time.Since(s.failed) < narrowRetry)
}

// lookUp finds out which transactions the bounds are that MariaDB's binlog state gives, and of both
// flavours what they did. When it cannot, it returns what is known.
func (a *Agent) lookUp(ctx context.Context, s Standing, f Facts, c comparison) looked {
	ours := c.errant.OnlyOf(f.ServerUUID, f.ServerID)
	if c.errant.Empty() || s.Flavor == flavor.MySQL && !ours {
		return looked{errant: c.errant}
	}
	last := &a.memory.search
	if last.answers(c.errant.String()) {
		return last.found
	}
	ctx, cancel := context.WithTimeout(ctx, narrowTimeout)
	defer cancel()
	*last = search{of: c.errant.String(), found: looked{errant: c.errant}}
	deeds, complete, err := a.readDeeds(ctx, s, c)
	if err == nil {
		err = a.askEngines(ctx, deeds)
	}
	if err != nil {
		last.failed = time.Now()
		a.log.Warn("the errant transactions were not looked up in the binary logs", "within", c.errant.String(), "error", err)
		return last.found
	}
	after := looked{errant: c.errant, deeds: deeds}
	if s.Flavor == flavor.MySQL {
		complete = uint64(len(deeds)) == c.errant.Count()
	} else {
		after.errant = c.errant.Narrow(gtidsOf(deeds), complete)
	}
	after.harmless = ours && complete && len(deeds) > 0 && !slices.ContainsFunc(deeds, func(d deed) bool { return !d.harmless() })
	last.found = after
	return after
}

// gtidsOf are the transactions' names on MariaDB.
func gtidsOf(deeds []deed) []gtid.GTID {
	var all []gtid.GTID
	for _, d := range deeds {
		var g gtid.GTID
		if _, err := fmt.Sscanf(d.id, "%d-%d-%d", &g.Domain, &g.Server, &g.Sequence); err == nil { // Errant.Has has read it
			all = append(all, g)
		}
	}
	return all
}

// readDeeds reads the errant transactions from our binary logs, the newest log first, until one
// begins with a list of what came before that has none of them. Without such a log, more may have
// been purged, and it is not complete.
func (a *Agent) readDeeds(ctx context.Context, s Standing, c comparison) (all []deed, complete bool, err error) {
	files, err := readRows(ctx, a.logins.db, queryBinlogs)
	if err != nil {
		return nil, false, fmt.Errorf("list the binary logs: %w", err)
	}
	db := a.logins.db
	if s.Flavor == flavor.MySQL {
		// There it takes REPLICATION SLAVE, which the sidecar's account does without.
		own := s.Source
		own.User = a.cfg.Source.User // under a Lease the member follows by another one
		db = a.logins.pool(own.login())
		defer func() { err = errors.Join(err, db.Close()) }()
	}
	for _, file := range slices.Backward(files) {
		before, deeds, err := readBinlog(ctx, db, file.text(columnLogName), c.errant)
		if err != nil {
			return nil, false, fmt.Errorf("read the binary log %s: %w", file.text(columnLogName), err)
		}
		all = append(deeds, all...)
		if before != nil && c.before(*before) {
			return all, true, nil
		}
	}
	return all, false, nil
}

// askEngines finds out which of the tables that were emptied are of the engine MEMORY.
func (a *Agent) askEngines(ctx context.Context, deeds []deed) error {
	type name struct{ schema, table string }
	known := map[name]bool{}
	for i := range deeds {
		schema, table, ok := deeds[i].empties()
		if !ok {
			continue
		}
		of := name{schema, table}
		if _, asked := known[of]; !asked {
			in, err := a.logins.inMemory(ctx, schema, table)
			if err != nil {
				return err
			}
			known[of] = in != ""
		}
		deeds[i].inMemory = known[of]
	}
	return nil
}

// login is the account that asks the source, on our own server.
func (s Source) login() Login {
	return Login{
		User:     s.User,
		Password: func() (string, error) { return s.Password, nil },
		Previous: func() (string, error) { return s.Previous, nil },
	}
}

// before reports whether a list of what came before a binary log has nothing of what is errant.
func (c comparison) before(list string) bool {
	if c.flavor == flavor.MySQL {
		return !c.errant.Touches(list)
	}
	return c.inSource(list)
}

// readBinlog reads a log's list of what came before it, and its errant transactions.
func readBinlog(ctx context.Context, db *sql.DB, name string, errant gtid.Errant) (before *string, deeds []deed, err error) {
	rows, err := db.QueryContext(ctx, queryBinlogEvents, name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var of *deed // the transaction that the events belong to, if it is errant
	for rows.Next() {
		var event, info string
		var file, position, server, end sql.RawBytes
		if err := rows.Scan(&file, &position, &event, &server, &end, &info); err != nil {
			return nil, nil, err
		}
		switch event {
		case eventGTIDList, eventPreviousGTIDs: // "[0-100-7,\n0-101-9]"; on MySQL without brackets
			list := strings.Trim(info, "[]")
			before = &list
		case eventGTID:
			if of, err = begin(info, errant); err != nil {
				return nil, nil, fmt.Errorf("event at %s: %w", position, err)
			}
			if of != nil {
				deeds = append(deeds, *of)
				of = &deeds[len(deeds)-1]
			}
		default:
			if of != nil {
				of.events++
				if event == eventQuery && of.query == "" {
					of.query = info
				}
			}
		}
	}
	return before, deeds, rows.Err()
}
