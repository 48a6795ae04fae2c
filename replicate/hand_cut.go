package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"understudy/replicate/flavor"
)

// How a Hand ends connections.

// killPause is the time between two looks whether connections are gone.
const killPause = 5 * time.Millisecond

// Settle implements lead.Server. What begins later is none of its business: looks, and whoever logs
// in as the administrator, would never let it end.
func (h *Hand) Settle(ctx context.Context) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var own, newest uint64
	if err := conn.QueryRowContext(ctx, queryConnection).Scan(&own); err != nil {
		return fmt.Errorf("read the own connection: %w", err)
	}
	if err := conn.QueryRowContext(ctx, d.lead.newest).Scan(&newest); err != nil {
		return fmt.Errorf("read the newest connection: %w", err)
	}
	var accounts []any
	if d.flavor == flavor.MariaDB {
		accounts = []any{h.before[0], h.before[1]}
	}
	if err := h.cut(ctx, conn, d, d.lead.before, append(accounts, newest)...); err != nil {
		return err
	}
	return h.cut(ctx, conn, d, d.lead.busy, own, newest)
}

// cut kills connections until a query finds none any more, twice; its first value is this process. It
// fails where the server does not show its connections.
func (h *Hand) cut(ctx context.Context, conn *sql.Conn, d dialect, query string, args ...any) error {
	var shows bool
	if err := conn.QueryRowContext(ctx, d.lead.shows, h.process.mark(d.flavor)).Scan(&shows); err != nil || !shows {
		return errors.Join(errors.New("the server does not show its connections: on MySQL that takes performance_schema, on MariaDB the privilege PROCESS"), err)
	}
	return h.cutAll(ctx, conn, func() ([]uint64, error) { return h.connections(ctx, conn, d, query, args...) })
}

// cutProcesses is cut for connections in the process list that match.
func (h *Hand) cutProcesses(ctx context.Context, matches func(row) bool) error {
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return h.cutAll(ctx, conn, func() (ids []uint64, err error) {
		rows, err := readRows(ctx, conn, queryProcesses)
		if err == nil && len(rows) == 0 {
			err = errors.New("the server does not show its connections")
		}
		for _, r := range rows {
			if matches(r) {
				ids = append(ids, uint64(r.number(columnProcess))) //nolint:gosec // an id
			}
		}
		return ids, err
	})
}

func (h *Hand) cutAll(ctx context.Context, conn *sql.Conn, find func() ([]uint64, error)) error {
	for clean := 0; clean < 2; {
		ids, err := find()
		if err != nil {
			return err
		}
		clean++
		if len(ids) > 0 {
			clean = 0
		}
		if err := kill(ctx, conn, ids); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connections that were killed are not gone: %w", ctx.Err())
		case <-time.After(killPause):
		}
	}
	return nil
}

// kill kills connections, all of them that it can. One that has ended meanwhile is as good.
func kill(ctx context.Context, conn *sql.Conn, ids []uint64) (err error) {
	for _, id := range ids {
		if _, killErr := conn.ExecContext(ctx, killConnection, id); killErr != nil && !isOneOf(killErr, errNoSuchThread) {
			err = errors.Join(err, fmt.Errorf("kill a connection: %w", killErr))
		}
	}
	return err
}

// dismissPatience is how long statements of killed clients get to end: one that rolls back much takes
// longer, and commits nothing.
const dismissPatience = time.Second

// dismissClients kills the clients of a closed server of MySQL: it takes XA COMMIT of what was prepared
// before, and pools keep connections on which nothing can be written any more. It waits for what
// executes: who sleeps does nothing more but roll back.
func (h *Hand) dismissClients(ctx context.Context, d dialect) error {
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ids, err := h.connections(ctx, conn, d, d.lead.clients, uint64(math.MaxInt64))
	if err == nil {
		err = kill(ctx, conn, ids)
	}
	if err != nil {
		return err
	}
	for begun := time.Now(); time.Since(begun) < dismissPatience; {
		busy, err := h.connections(ctx, conn, d, d.lead.clients+" AND PROCESSLIST_COMMAND <> 'Sleep'", uint64(math.MaxInt64))
		if err != nil || !slices.ContainsFunc(busy, func(id uint64) bool { return slices.Contains(ids, id) }) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cut clients: %w", ctx.Err())
		case <-time.After(killPause):
		}
	}
	return nil
}

// connections are those that a query lists whose first value is this process.
func (h *Hand) connections(ctx context.Context, conn *sql.Conn, d dialect, query string, args ...any) (ids []uint64, err error) {
	if ids, err = column[uint64](ctx, conn, query, append([]any{h.process.mark(d.flavor)}, args...)...); err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return ids, nil
}

// cutClients kills the connections that clients have now, and returns when they are gone but for those
// whose commits wait. Who is cut off may be back by then.
func (h *Hand) cutClients(ctx context.Context, d dialect) error {
	now, err := h.logins.adminDB.Conn(ctx) // a new one
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	var newest uint64
	err = now.QueryRowContext(ctx, queryConnection).Scan(&newest)
	if err = errors.Join(err, now.Close()); err != nil {
		return fmt.Errorf("read the newest connection: %w", err)
	}
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	return h.cut(ctx, conn, d, d.lead.clients, newest)
}
