package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"

	"understudy/replicate/failover"
	"understudy/replicate/flavor"
	"understudy/replicate/lead"
)

// Hand does at the member's own server what lead.Controller decides, on connections of its own:
// looks as the sidecar's account, changes as the administrator, one at a time. It is for MySQL 8.0
// and later, and for MariaDB 10.6 and later.
type Hand struct {
	logins *logins
	// hands has one connection.
	hands *sql.DB
	// password and previous are those of the members' accounts.
	password, previous func() (string, error)
	// source is who members followed before they went by the Lease, without the password.
	source Source
	// process is this process; before are the accounts of processes of this sidecar, id is the
	// member's own server_id, data what Config.Data is.
	process *Process
	before  [2]string
	id      uint32
	data    string
}

// NewHand makes a Hand from the agent's settings. Close it.
func NewHand(cfg Config) *Hand {
	h := &Hand{
		logins: newLogins(cfg), password: cfg.ReplicationPassword, previous: cfg.ReplicationPasswordPrevious, source: cfg.Source, process: cfg.Process,
		before: [2]string{cfg.Sidecar.User, cfg.Admin.User}, id: cfg.ServerID, data: cfg.Data,
	}
	h.hands = h.logins.pool(cfg.Admin)
	h.hands.SetMaxOpenConns(1)
	return h
}

// Close ends its connections.
func (h *Hand) Close() error { return errors.Join(h.hands.Close(), h.logins.close()) }

var _ lead.Server = (*Hand)(nil)

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
	if v.Flavor == flavor.MySQL && !v.AtLeast(8, 0, 0) || v.Flavor == flavor.MariaDB && !v.AtLeast(10, 6, 0) {
		return dialect{}, fmt.Errorf("%s cannot lead by the Lease: that takes MySQL 8.0, or MariaDB 10.6, or later", v)
	}
	return dialectOf(v), nil
}

// connect is the one connection, until it is closed.
func (h *Hand) connect(ctx context.Context) (*sql.Conn, error) {
	conn, err := h.hands.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	return conn, nil
}

// change executes statements as the administrator, on the one connection.
func (h *Hand) change(ctx context.Context, statements func(d dialect) []statement) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	return exec(ctx, h.hands, statements(d))
}

// channel reads what is known of the channels, as the administrator, on the one connection.
func (h *Hand) channel(ctx context.Context) (d dialect, s lead.State, err error) {
	if d, err = h.dialect(ctx, h.hands); err == nil {
		err = readChannel(ctx, h.hands, d, &s)
	}
	return d, s, err
}

// StopReceiving implements lead.Server.
func (h *Hand) StopReceiving(ctx context.Context) error {
	d, s, err := h.channel(ctx)
	if err != nil {
		return err
	}
	var all []statement
	if s.Receiving && s.Channel {
		all = append(all, statement{text: d.stopReceiver})
	}
	if s.Fetches {
		all = append(all, statement{text: stopFetch})
	}
	return exec(ctx, h.hands, all)
}

// Apply implements lead.Server.
func (h *Hand) Apply(ctx context.Context) error {
	return h.change(ctx, func(d dialect) []statement { return []statement{{text: d.startApplier()}} })
}

// Forget implements lead.Server.
func (h *Hand) Forget(ctx context.Context) error {
	d, s, err := h.channel(ctx)
	if err != nil {
		return err
	}
	all := []statement{{text: d.stop}, {text: d.reset}}
	if s.Fetches {
		all = append(endFetchStatements(), all...)
	}
	return exec(ctx, h.hands, all)
}

// SetSide implements lead.Server.
func (h *Hand) SetSide(ctx context.Context, on bool) error {
	d, s, err := h.channel(ctx)
	if err != nil {
		return err
	}
	return exec(ctx, h.hands, d.sideStatements(on, s.Receiving))
}

// SetWaiting implements lead.Server.
func (h *Hand) SetWaiting(ctx context.Context, on bool) error {
	err := h.change(ctx, func(d dialect) []statement { return d.waitStatements(on) })
	if !on && isOneOf(err, errUnknownVariable) {
		return nil // a server without the plugin waits for nobody
	}
	return err
}

// SetOffline implements lead.Server.
func (h *Hand) SetOffline(ctx context.Context, on bool) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	if !on {
		return exec(ctx, h.hands, []statement{{text: d.lead.online}})
	}
	if err := exec(ctx, h.hands, []statement{{text: d.lead.offline}}); err != nil {
		return err
	}
	if err := h.cutProcesses(ctx, func(r row) bool {
		return strings.HasPrefix(r.text(columnCommand), commandDump) || r.text(columnProcessUser) == unauthenticated
	}); err != nil || d.flavor == flavor.MySQL { // it cuts the others itself
		return err
	}
	return h.cutClients(ctx, d)
}

// WriteAs implements lead.Server.
func (h *Hand) WriteAs(ctx context.Context, term uint64) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil || d.flavor == flavor.MySQL {
		return err
	}
	id := h.id
	if term > 0 {
		id = failover.ServerID(term)
	} else if err := carryOver(ctx, h.hands); err != nil {
		return err
	}
	if err := exec(ctx, h.hands, writeAsStatements(id)); err != nil || term == 0 {
		return err
	}
	return h.cutClients(ctx, d) // they would go on with the id that they began with
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

// errRestarted is returned by Open when another server answers than the one that was looked at.
var errRestarted = errors.New("the server has restarted")

// Open implements lead.Server.
func (h *Hand) Open(ctx context.Context, boot string, arm func(context.Context) error) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	switch now, err := readBoot(ctx, conn); {
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

// LetGo implements lead.Server.
func (h *Hand) LetGo(ctx context.Context, statements []uint64) error {
	for _, id := range statements {
		if err := exec(ctx, h.hands, []statement{{letGo, []any{id}}}); err != nil && !isOneOf(err, errNoSuchQuery) {
			return err
		}
	}
	return nil
}

// Block implements lead.Server.
func (h *Hand) Block(ctx context.Context) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	fence := append([]statement{{text: briefly}}, d.fenceStatements()...)
	if d.flavor == flavor.MySQL {
		if err := exec(ctx, h.hands, fence); err != nil {
			return err
		}
		return h.dismissClients(ctx, d)
	}
	// What clients are at would hold up the statement that closes the server, and they would be cut after
	// it: read_only does not bind administrators. Those are cut again.
	if err := exec(ctx, h.hands, []statement{{text: d.lead.offline}}); err != nil {
		return err
	}
	if err := h.cutClients(ctx, d); err != nil {
		return err
	}
	if err := exec(ctx, h.hands, fence); err != nil {
		return err
	}
	return h.cutClients(ctx, d)
}

// Shut implements lead.Server.
func (h *Hand) Shut(ctx context.Context) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	ids, err := h.connections(ctx, conn, d, d.lead.clients, uint64(math.MaxInt64))
	if err := errors.Join(err, kill(ctx, conn, ids), conn.Close()); err != nil {
		return fmt.Errorf("cut clients: %w", err)
	}
	return exec(ctx, h.hands, append([]statement{{text: briefly}}, d.fenceStatements()...))
}
