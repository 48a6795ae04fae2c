package replicate

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/lead"
)

// Hand does at the member's own server what lead.Controller decides, on connections of its own:
// looks as the sidecar's account, changes as the administrator, one at a time. It is for MySQL 8.0
// and later.
type Hand struct {
	logins *logins
	// hands has one connection.
	hands *sql.DB
	// password and previous are those of the members' accounts.
	password, previous func() (string, error)
	process            string
}

// NewProcess makes a name for this process, which its connections to the server bear.
func NewProcess() string { return rand.Text() }

// NewHand makes a Hand from the agent's settings. Close it.
func NewHand(cfg Config) *Hand {
	h := &Hand{logins: newLogins(cfg), password: cfg.ReplicationPassword, previous: cfg.ReplicationPasswordPrevious, process: cfg.Process}
	h.hands = h.logins.pool(cfg.Admin)
	h.hands.SetMaxOpenConns(1)
	return h
}

// Close ends its connections.
func (h *Hand) Close() error { return errors.Join(h.hands.Close(), h.logins.close()) }

var _ lead.Server = (*Hand)(nil)

// killPause is the time between two looks whether connections are gone.
const killPause = 20 * time.Millisecond

// dialect reads the server's version.
func (h *Hand) dialect(ctx context.Context, db *sql.DB) (dialect, error) {
	var text string
	if err := db.QueryRowContext(ctx, queryVersion).Scan(&text); err != nil {
		return dialect{}, fmt.Errorf("read the server's version: %w", err)
	}
	v, err := flavor.ParseServer(text)
	if err != nil {
		return dialect{}, err
	}
	if v.Flavor != flavor.MySQL || !v.AtLeast(8, 0, 0) {
		return dialect{}, fmt.Errorf("%s cannot lead by the Lease: that takes MySQL 8.0 or later", v)
	}
	return dialectOf(v), nil
}

// change executes statements as the administrator, on the one connection.
func (h *Hand) change(ctx context.Context, statements func(d dialect) []statement) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	return exec(ctx, h.hands, statements(d))
}

// Settle implements lead.Server.
func (h *Hand) Settle(ctx context.Context) error {
	conn, err := h.hands.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = conn.Close() }()
	var own uint64
	if err := conn.QueryRowContext(ctx, queryConnection).Scan(&own); err != nil {
		return fmt.Errorf("read the own connection: %w", err)
	}
	if err := h.cut(ctx, conn, queryBefore, h.process); err != nil {
		return err
	}
	return h.cut(ctx, conn, queryBusy, h.process, own)
}

// cut kills connections until a query finds none any more, twice. It fails where the server does
// not show its connections.
func (h *Hand) cut(ctx context.Context, conn *sql.Conn, query string, args ...any) error {
	var shows bool
	if err := conn.QueryRowContext(ctx, queryShows, h.process).Scan(&shows); err != nil || !shows {
		return errors.Join(errors.New("the server's performance_schema does not show its connections"), err)
	}
	return h.cutAll(ctx, conn, func() ([]uint64, error) { return connections(ctx, conn, query, args...) })
}

// cutProcesses is cut for connections in the process list that match.
func (h *Hand) cutProcesses(ctx context.Context, matches func(row) bool) error {
	conn, err := h.hands.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
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
		for _, id := range ids {
			clean = 0
			if _, err := conn.ExecContext(ctx, killConnection, id); err != nil && !isOneOf(err, errNoSuchThread) {
				return fmt.Errorf("kill a connection: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connections that were killed are not gone: %w", ctx.Err())
		case <-time.After(killPause):
		}
	}
	return nil
}

func connections(ctx context.Context, conn *sql.Conn, query string, args ...any) (ids []uint64, err error) {
	if ids, err = column[uint64](ctx, conn, query, args...); err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	return ids, nil
}

// column reads the one column of a query.
func column[T any](ctx context.Context, db querier, query string, args ...any) (all []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var one T
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// Look implements lead.Server.
func (h *Hand) Look(ctx context.Context) (lead.State, error) {
	s, err := h.look(ctx)
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = fmt.Errorf("%w: %w", lead.ErrDead, err)
	}
	return s, err
}

func (h *Hand) look(ctx context.Context) (s lead.State, err error) {
	db := h.logins.db
	d, err := h.dialect(ctx, db)
	if err != nil {
		return s, err
	}
	if s.Boot, err = readBoot(ctx, db, d); err != nil {
		return s, err
	}
	var owned, executed string
	var applier uint64
	if err := db.QueryRowContext(ctx, queryLead).Scan(&owned, &executed, &s.Data, &s.Writable, &s.Offline, &applier); err != nil {
		return s, fmt.Errorf("read the server's state: %w", err)
	}
	if applier > 0 {
		s.Applier = strconv.FormatUint(applier, 10)
	}
	if s.Executed, err = unite(flavor.MySQL, executed); err != nil {
		return s, err
	}
	if s.Position, err = unite(flavor.MySQL, executed, gtidOwner.ReplaceAllString(owned, "")); err != nil {
		return s, err
	}
	s.Has = s.Executed
	if err := readChannel(ctx, db, d, &s); err != nil {
		return s, err
	}
	semi, err := readSemiSync(ctx, db)
	if err != nil {
		return s, err
	}
	s.Waiting = semi.Source && semi.Safe && semi.Active && semi.Wait == requiredWait
	s.Source, s.Held, s.Side = semi.Source, semi.Waiting, semi.Replica || semi.Acknowledging
	return s, nil
}

// readChannel adds what the channel without a name says.
func readChannel(ctx context.Context, db *sql.DB, d dialect, s *lead.State) error {
	rows, err := readRows(ctx, db, d.queryStatus)
	if err != nil {
		return fmt.Errorf("read replica status: %w", err)
	}
	for _, r := range rows {
		if r.text(columnChannel) != "" {
			s.Error = "it also replicates over the channel " + r.text(columnChannel)
			continue
		}
		c := r.channel()
		s.Channel, s.User, s.Receiving = true, c.User, c.IO != "No"
		s.Delay = time.Duration(r.number(columnDelay)) * time.Second
		if c.Lag != nil {
			s.Lag = time.Duration(*c.Lag) * time.Second
		}
		if s.Has, err = unite(flavor.MySQL, s.Executed, c.Received); err != nil {
			return err
		}
		if c.SQLErrno != 0 && !c.SQLRunning {
			s.Error = fmt.Sprintf("the applier stopped with error %d: %s", c.SQLErrno, c.SQLError)
		}
	}
	return nil
}

// readBoot identifies the start of the server by its second: two starts of a server are never in
// the same one.
func readBoot(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}, d dialect,
) (string, error) {
	for {
		var before, after int64
		var name string
		var uptime int64
		if err := db.QueryRowContext(ctx, queryClock).Scan(&before); err != nil {
			return "", fmt.Errorf("read the server's clock: %w", err)
		}
		if err := db.QueryRowContext(ctx, d.queryUptime).Scan(&name, &uptime); err != nil {
			return "", fmt.Errorf("read for how long the server has run: %w", err)
		}
		if err := db.QueryRowContext(ctx, queryClock).Scan(&after); err != nil {
			return "", fmt.Errorf("read the server's clock: %w", err)
		}
		if before == after { // else it is not known which second the uptime is of
			return strconv.FormatInt(before-uptime, 10), nil
		}
	}
}

// StopReceiving implements lead.Server.
func (h *Hand) StopReceiving(ctx context.Context) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	var s lead.State
	if err := readChannel(ctx, h.hands, d, &s); err != nil {
		return err
	}
	if !s.Receiving {
		return nil
	}
	return exec(ctx, h.hands, []statement{{text: d.stopReceiver}})
}

// Apply implements lead.Server.
func (h *Hand) Apply(ctx context.Context) error {
	return h.change(ctx, func(d dialect) []statement { return []statement{{text: d.startApplier()}} })
}

// Forget implements lead.Server.
func (h *Hand) Forget(ctx context.Context) error {
	return h.change(ctx, func(d dialect) []statement { return []statement{{text: d.stop}, {text: d.reset}} })
}

// SetSide implements lead.Server.
func (h *Hand) SetSide(ctx context.Context, on bool) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	var s lead.State
	if err := readChannel(ctx, h.hands, d, &s); err != nil {
		return err
	}
	return exec(ctx, h.hands, d.sideStatements(on, s.Receiving))
}

// SetWaiting implements lead.Server.
func (h *Hand) SetWaiting(ctx context.Context, on bool) error {
	return h.change(ctx, func(d dialect) []statement { return d.waitStatements(on) })
}

// SetOffline implements lead.Server.
func (h *Hand) SetOffline(ctx context.Context, on bool) error {
	if err := exec(ctx, h.hands, []statement{offlineStatement(on)}); err != nil || !on {
		return err
	}
	return h.cutProcesses(ctx, func(r row) bool {
		return strings.HasPrefix(r.text(columnCommand), commandDump) || r.text(columnProcessUser) == unauthenticated
	})
}

// Accounts implements lead.Server.
func (h *Hand) Accounts(ctx context.Context, members []string) error {
	p, err := readPasswords(h.password, h.previous)
	if err != nil {
		return fmt.Errorf("read the replication password: %w", err)
	}
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	var due []statement
	for _, m := range members {
		has, err := readAccount(ctx, h.hands, d, lead.Account(m), anyHost)
		if err != nil {
			return err
		}
		if has == nil || has.plugin != d.plugin || !p.are(has.hash, has.second, d.scheme, d.second) {
			due = append(due, d.memberStatements(lead.Account(m), p)...)
		}
	}
	if due == nil {
		return nil
	}
	return exec(ctx, h.hands, unlogged(due))
}

// Bar implements lead.Server.
func (h *Hand) Bar(ctx context.Context, member string) error {
	if err := exec(ctx, h.hands, unlogged(lockStatements(lead.Account(member), true))); err != nil {
		return err
	}
	// One that is still logging in may have been looked up before the account was locked.
	return h.cutProcesses(ctx, func(r row) bool {
		return r.text(columnProcessUser) == lead.Account(member) || r.text(columnProcessUser) == unauthenticated
	})
}

// Admit implements lead.Server.
func (h *Hand) Admit(ctx context.Context, member string) error {
	return exec(ctx, h.hands, unlogged(lockStatements(lead.Account(member), false)))
}

// Locked implements lead.Server.
func (h *Hand) Locked(ctx context.Context) (members []string, err error) {
	prefix := lead.Account("")
	users, err := column[string](ctx, h.hands, queryLocked, likeAccounts(prefix))
	if err != nil {
		return nil, fmt.Errorf("list locked accounts: %w", err)
	}
	for _, user := range users {
		members = append(members, strings.TrimPrefix(user, prefix))
	}
	return members, nil
}

// errRestarted is returned by Open when another server answers than the one that was looked at.
var errRestarted = errors.New("the server has restarted")

// Open implements lead.Server.
func (h *Hand) Open(ctx context.Context, boot string, arm func(context.Context) error) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	conn, err := h.hands.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = conn.Close() }()
	switch now, err := readBoot(ctx, conn, d); {
	case err != nil:
		return err
	case now != boot:
		return errRestarted
	}
	if err := arm(ctx); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, d.open); err != nil {
		return fmt.Errorf("open the server for writes: %w", err)
	}
	return nil
}

// Block implements lead.Server.
func (h *Hand) Block(ctx context.Context) error {
	return h.change(ctx, func(d dialect) []statement { return append([]statement{{text: briefly}}, d.fenceStatements()...) })
}

// Shut implements lead.Server.
func (h *Hand) Shut(ctx context.Context) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	conn, err := h.hands.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	ids, err := connections(ctx, conn, queryClients)
	for _, id := range ids {
		if _, killErr := conn.ExecContext(ctx, killConnection, id); killErr != nil && !isOneOf(killErr, errNoSuchThread) {
			err = errors.Join(err, killErr)
		}
	}
	if err := errors.Join(err, conn.Close()); err != nil {
		return fmt.Errorf("cut clients: %w", err)
	}
	return exec(ctx, h.hands, append([]statement{{text: briefly}}, d.fenceStatements()...))
}
