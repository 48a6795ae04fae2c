package replicate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// logins are the member's own server as its accounts are let in: the pools of connections, and what
// is remembered of who got in, and who did not.
type logins struct {
	// server is its host:port, host the member's name, which its certificate bears, and ca the file
	// of the authorities.
	server, host, ca string
	// process, when set, knows each connection.
	process *Process
	// admin, sidecar and clone are the accounts.
	admin, sidecar, clone Login
	log                   *slog.Logger
	// db is for looks and steps, adminDB to make and change accounts.
	db, adminDB *sql.DB

	// asked is what was found out of the administrator's account last. Only the loop asks.
	asked administrator

	mu sync.Mutex
	// in is how db was let in last, and since when.
	in    entry
	since time.Time
	// unverified is why the server's certificate was not verified last; empty: it was.
	unverified string
	// backupsAs is as whom backups log in.
	backupsAs string
	// distrusted is when the sidecar's account lacked a privilege, and lacked the error.
	distrusted time.Time
	lacked     string
}

func newLogins(cfg Config) *logins {
	l := &logins{
		server: cfg.Server, host: cfg.Host, ca: cfg.Source.CA, admin: cfg.Admin, sidecar: cfg.Sidecar, clone: cfg.Clone, log: cfg.Log, process: cfg.Process,
	}
	l.db = sql.OpenDB(connector{logins: l, as: l.everyday, told: l.entered})
	l.db.SetMaxOpenConns(maxConnections)
	l.adminDB = sql.OpenDB(connector{logins: l, as: func() []Login { return []Login{l.admin} }, told: func(entry, error) {}})
	l.adminDB.SetMaxIdleConns(-1) // it is seldom used
	return l
}

// connector opens connections of a pool.
type connector struct {
	logins *logins
	// as are the accounts to try.
	as func() []Login
	// told hears how each attempt ended.
	told func(entry, error)
}

// Driver is of driver.Connector.
func (connector) Driver() driver.Driver { return mysql.MySQLDriver{} }

// Connect logs in.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, e, err := c.logins.logIn(ctx, c.as()...)
	c.told(e, err)
	return conn, err
}

// everyday are the accounts for looks and steps.
func (l *logins) everyday() []Login {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.distrusted) < distrustFor {
		return []Login{l.admin}
	}
	return []Login{l.sidecar, l.admin}
}

// logIn logs in as the first of the accounts that the server lets in.
func (l *logins) logIn(ctx context.Context, accounts ...Login) (driver.Conn, entry, error) {
	var refusal error
	instead := ""
	for i, account := range accounts {
		p, err := account.passwords()
		if err != nil {
			return nil, entry{}, err
		}
		if p.current == "" && i < len(accounts)-1 {
			continue // there is no such account
		}
		for n, password := range []string{p.current, p.previous} {
			if n > 0 && password == "" {
				continue
			}
			conn, over, err := l.enter(ctx, account.User, password)
			if err == nil {
				l.tellOfTransport(over)
				return conn, entry{account.User, password, instead, over}, nil
			}
			if !refuses(err) && !full(err) { // where clients have all connections, another account may be let in
				return nil, entry{}, err
			}
			refusal = err
		}
		instead = refusal.Error()
	}
	return nil, entry{}, refusal
}

// A server whose connections all are taken has one more for accounts that may pass that bound
// (CONNECTION ADMIN). Any other client that tries to connect takes this connection, too, until the
// server has seen who it is: so it is tried several times.
const (
	entryTries = 10
	entryPause = 20 * time.Millisecond
)

// enter connects, also where clients crowd the door.
func (l *logins) enter(ctx context.Context, user, password string) (conn driver.Conn, over transport, err error) {
	for range entryTries {
		if conn, over, err = l.connect(ctx, user, password); !full(err) {
			return conn, over, err
		}
		select {
		case <-ctx.Done():
			return nil, over, err
		case <-time.After(entryPause):
		}
	}
	return nil, over, err
}

func full(err error) bool { return isOneOf(err, errTooManyConnections) }

func (l *logins) connect(ctx context.Context, user, password string) (driver.Conn, transport, error) {
	dsn := mysql.NewConfig()
	dsn.Net, dsn.Addr, dsn.User, dsn.Passwd = "tcp", l.server, user, password
	dsn.Timeout, dsn.ReadTimeout, dsn.WriteTimeout = observeTimeout, actTimeout, actTimeout
	// CHANGE MASTER takes no placeholders on the server's side.
	dsn.InterpolateParams = true
	if l.process != nil {
		dsn.ConnectionAttributes, dsn.DialFunc = attributeProcess+":"+l.process.name, l.process.dial
	}
	dsn.Logger = &mysql.NopLogger{} // its news come back as errors, too
	conn, over, err := l.dial(ctx, dsn)
	if err != nil {
		return nil, over, err
	}
	// A server may let an account in that has expired, and then refuse all it says.
	if by, ok := conn.(driver.ExecerContext); ok {
		if _, err := by.ExecContext(ctx, queryAdmitted, nil); err != nil {
			return nil, over, errors.Join(err, conn.Close())
		}
	}
	return conn, over, nil
}

// entered notes as whom the agent works, and says it when that changes. Where nobody is let in, an
// account that lacks a privilege is better than none.
func (l *logins) entered(e entry, err error) {
	l.mu.Lock()
	before := l.in
	if err == nil {
		l.in, l.since = e, time.Now()
	} else {
		e, l.distrusted = l.in, time.Time{}
	}
	l.mu.Unlock()
	if before.user != e.user {
		l.log.Info("logged in to the server", "account", e.user, "instead", e.instead)
	}
}

// logInAnew has the next look log in again. The connection that there is, is not given up where
// clients have all others: there may be no next one.
func (l *logins) logInAnew(ctx context.Context) {
	// It takes nothing of the time of the look.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), observeTimeout)
	defer cancel()
	conn, _, err := l.logIn(ctx, l.everyday()...)
	if full(err) {
		return
	}
	if err == nil {
		_ = conn.Close()
	}
	l.db.SetMaxIdleConns(-1)
	l.db.SetMaxIdleConns(maxConnections)
}

// preferOwn tries the sidecar's account again where the administrator stands in for it.
func (l *logins) preferOwn(ctx context.Context) {
	own, err := l.sidecar.passwords()
	if err != nil || own.current == "" {
		return
	}
	l.mu.Lock()
	due := l.in.user == l.admin.User && l.in.user != l.sidecar.User && time.Since(l.since) > loginRetry && time.Since(l.distrusted) > distrustFor
	l.mu.Unlock()
	if due {
		l.logInAnew(ctx)
	}
}

// distrust has the administrator stand in for an account that lacks a privilege. It reports whether
// that makes a difference.
func (l *logins) distrust(ctx context.Context, err error) bool {
	if !lacksPrivilege(err) {
		return false
	}
	l.mu.Lock()
	own := l.in.user == l.sidecar.User && l.in.user != l.admin.User
	news := own && l.lacked != err.Error()
	if own {
		l.distrusted, l.lacked = time.Now(), err.Error()
	}
	l.mu.Unlock()
	if news {
		l.log.Warn("the sidecar's account lacks a privilege", "account", l.sidecar.User, "error", err)
	}
	if own {
		l.logInAnew(ctx)
	}
	return own
}

// administrator is what is known of the administrator's account.
type administrator struct {
	of    passwords
	asked time.Time
	// login is the account as which it is in, user@host; err is why it is not.
	login string
	err   error
}

// askAdministrator logs in as the administrator, as seldom as can be: when the passwords have
// changed, and now and then after a refusal.
func (l *logins) askAdministrator(ctx context.Context) administrator {
	of, err := l.admin.passwords()
	known := l.asked
	if err == nil && known.of == of && !known.asked.IsZero() && (known.err == nil || time.Since(known.asked) < loginRetry) {
		return known
	}
	now := administrator{of: of, asked: time.Now(), err: err}
	if err == nil {
		now.err = l.adminDB.QueryRowContext(ctx, queryLogin).Scan(&now.login)
	}
	if _, refused := errors.AsType[*mysql.MySQLError](now.err); now.err != nil && !refused {
		now.asked = time.Time{} // a connection that was cut says nothing of the account
	}
	l.asked = now
	return now
}

// asAdministrator executes what makes or changes accounts.
func (l *logins) asAdministrator(ctx context.Context, statements []statement) error {
	err := exec(ctx, l.adminDB, statements)
	if err != nil {
		l.asked = administrator{} // it may be refused now
		return err
	}
	l.mu.Lock()
	l.distrusted, l.lacked = time.Time{}, ""
	l.mu.Unlock()
	l.logInAnew(ctx)
	return nil
}

// pool is one more pool, for the accounts given, of whose logins nothing is remembered. Whoever
// asks for it closes it.
func (l *logins) pool(accounts ...Login) *sql.DB {
	return sql.OpenDB(connector{logins: l, as: func() []Login { return accounts }, told: func(entry, error) {}})
}

func (l *logins) close() error { return errors.Join(l.db.Close(), l.adminDB.Close()) }

const maxConnections = 2

func (l *logins) backup(ctx context.Context) (Access, error) {
	conn, e, err := l.logIn(ctx, l.clone, l.admin)
	if err != nil {
		return Access{}, fmt.Errorf("log in to the server for a backup: %w", err)
	}
	l.mu.Lock()
	before := l.backupsAs
	l.backupsAs = e.user
	l.mu.Unlock()
	if before != e.user {
		l.log.Info("backups log in to the server", "account", e.user, "instead", e.instead)
	}
	return Access{User: e.user, Password: e.password, TLS: e.over.tls}, conn.Close()
}
