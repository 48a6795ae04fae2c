package replicate

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
)

// As whom the agent and the backups log in to the member's own server is decided here:
//
//	what for                      accounts, the first that is let in
//	----------------------------  ----------------------------------
//	looks and steps               the sidecar's, the administrator's
//	backups                       the clone's, the administrator's
//	to make and change accounts   the administrator's
//
// Of each account the current password is tried, then the previous one. The administrator
// stands in where the accounts are not there yet: before the primary has made them, and on
// a directory that was adopted.

// Login is an account of the member's own server.
type Login struct {
	User string
	// Password is read anew for every connection. But for the administrator, an empty one
	// says that there is no such account.
	Password func() (string, error)
	// Previous, when set, is the password before that, empty when there is none. The server
	// may take either, and the primary's account gets both.
	Previous func() (string, error)
}

func (l Login) passwords() (passwords, error) {
	if l.Password == nil {
		return passwords{}, nil
	}
	p, err := readPasswords(l.Password, l.Previous)
	if err != nil {
		return p, fmt.Errorf("read the password of %s: %w", l.User, err)
	}
	return p, nil
}

const (
	// loginRetry is how long an account that was refused is not tried again.
	loginRetry = 30 * time.Second
	// distrustFor is the same for one that was let in and lacks a privilege.
	distrustFor = 5 * time.Minute
)

// entry is as whom, and by which password, the server let us in.
type entry struct {
	user, password string
	// instead says why it is not the account that was preferred; empty when it is.
	instead string
	// over is how the connection is secured.
	over transport
}

// connector opens connections of a pool.
type connector struct {
	agent *Agent
	// as are the accounts to try.
	as func() []Login
	// told hears how each attempt ended.
	told func(entry, error)
}

// Driver is of driver.Connector.
func (connector) Driver() driver.Driver { return mysql.MySQLDriver{} }

// Connect logs in.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, e, err := c.agent.logIn(ctx, c.as()...)
	c.told(e, err)
	return conn, err
}

func (a *Agent) admin() []Login { return []Login{a.cfg.Admin} }

// everyday are the accounts for looks and steps.
func (a *Agent) everyday() []Login {
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.distrusted) < distrustFor {
		return a.admin()
	}
	return []Login{a.cfg.Sidecar, a.cfg.Admin}
}

// logIn logs in as the first of the accounts that the server lets in.
func (a *Agent) logIn(ctx context.Context, accounts ...Login) (driver.Conn, entry, error) {
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
			conn, over, err := a.enter(ctx, account.User, password)
			if err == nil {
				a.tellOfTransport(over)
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
// (CONNECTION ADMIN). Whoever else tries to connect takes that one, too, until the server has
// seen who it is: so it is tried several times.
const (
	entryTries = 10
	entryPause = 20 * time.Millisecond
)

// enter connects, also where clients crowd the door.
func (a *Agent) enter(ctx context.Context, user, password string) (conn driver.Conn, over transport, err error) {
	for range entryTries {
		if conn, over, err = a.connect(ctx, user, password); !full(err) {
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

func (a *Agent) connect(ctx context.Context, user, password string) (driver.Conn, transport, error) {
	dsn := mysql.NewConfig()
	dsn.Net, dsn.Addr, dsn.User, dsn.Passwd = "tcp", a.cfg.Server, user, password
	dsn.Timeout, dsn.ReadTimeout, dsn.WriteTimeout = observeTimeout, actTimeout, actTimeout
	// CHANGE MASTER takes no placeholders on the server's side.
	dsn.InterpolateParams = true
	dsn.Logger = &mysql.NopLogger{} // its news come back as errors, too
	conn, over, err := a.dial(ctx, dsn)
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

// queryAdmitted is a statement that only an expired account is refused.
const queryAdmitted = "DO 0"

// entered notes as whom the agent works, and says it when that changes. Where nobody is let
// in, an account that lacks a privilege is better than none.
func (a *Agent) entered(e entry, err error) {
	a.mu.Lock()
	before := a.in
	if err == nil {
		a.in, a.inSince = e, time.Now()
	} else {
		e, a.distrusted = a.in, time.Time{}
	}
	a.mu.Unlock()
	if before.user != e.user {
		a.log.Info("logged in to the server", "account", e.user, "instead", e.instead)
	}
}

// logInAnew has the next look log in again. The connection that there is, is not given up
// where clients have all others: there may be no next one.
func (a *Agent) logInAnew(ctx context.Context) {
	// It takes nothing of the time of the look.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), observeTimeout)
	defer cancel()
	conn, _, err := a.logIn(ctx, a.everyday()...)
	if full(err) {
		return
	}
	if err == nil {
		_ = conn.Close()
	}
	a.db.SetMaxIdleConns(-1)
	a.db.SetMaxIdleConns(maxConnections)
}

// preferOwn tries the sidecar's account again where the administrator stands in for it.
func (a *Agent) preferOwn(ctx context.Context) {
	own, err := a.cfg.Sidecar.passwords()
	if err != nil || own.current == "" {
		return
	}
	a.mu.Lock()
	due := a.in.user == a.cfg.Admin.User && a.in.user != a.cfg.Sidecar.User && time.Since(a.inSince) > loginRetry && time.Since(a.distrusted) > distrustFor
	a.mu.Unlock()
	if due {
		a.logInAnew(ctx)
	}
}

// distrust has the administrator stand in for an account that lacks a privilege. It reports
// whether that makes a difference.
func (a *Agent) distrust(ctx context.Context, err error) bool {
	if !lacksPrivilege(err) {
		return false
	}
	a.mu.Lock()
	own := a.in.user == a.cfg.Sidecar.User && a.in.user != a.cfg.Admin.User
	news := own && a.lacked != err.Error()
	if own {
		a.distrusted, a.lacked = time.Now(), err.Error()
	}
	a.mu.Unlock()
	if news {
		a.log.Warn("the sidecar's account lacks a privilege", "account", a.cfg.Sidecar.User, "error", err)
	}
	if own {
		a.logInAnew(ctx)
	}
	return own
}

// Access is how the member's own server lets somebody in.
type Access struct {
	User, Password string
	// TLS is how the connection is secured; nil where the server has no TLS.
	TLS *tls.Config
}

// BackupLogin is how the member's server lets backups in. It is safe to call from any
// goroutine.
func (a *Agent) BackupLogin(ctx context.Context) (Access, error) {
	conn, e, err := a.logIn(ctx, a.cfg.Clone, a.cfg.Admin)
	if err != nil {
		return Access{}, fmt.Errorf("log in to the server for a backup: %w", err)
	}
	a.mu.Lock()
	before := a.backupsAs
	a.backupsAs = e.user
	a.mu.Unlock()
	if before != e.user {
		a.log.Info("backups log in to the server", "account", e.user, "instead", e.instead)
	}
	return Access{User: e.user, Password: e.password, TLS: e.over.tls}, conn.Close()
}

// administrator is what is known of the administrator's account.
type administrator struct {
	of    passwords
	asked time.Time
	// login is the account as which it is in, user@host; err is why it is not.
	login string
	err   error
}

// askAdministrator logs in as the administrator, as seldom as can be: when the passwords
// have changed, and now and then after a refusal.
func (a *Agent) askAdministrator(ctx context.Context) administrator {
	of, err := a.cfg.Admin.passwords()
	known := a.administrator
	if err == nil && known.of == of && !known.asked.IsZero() && (known.err == nil || time.Since(known.asked) < loginRetry) {
		return known
	}
	now := administrator{of: of, asked: time.Now(), err: err}
	if err == nil {
		now.err = a.adminDB.QueryRowContext(ctx, queryLogin).Scan(&now.login)
	}
	a.administrator = now
	return now
}

// asAdministrator executes what makes or changes accounts.
func (a *Agent) asAdministrator(ctx context.Context, statements []statement) error {
	err := a.exec(ctx, a.adminDB, statements)
	if err != nil {
		a.administrator = administrator{} // it may be refused now
		return err
	}
	a.mu.Lock()
	a.distrusted, a.lacked = time.Time{}, ""
	a.mu.Unlock()
	a.logInAnew(ctx)
	return nil
}

// open makes the pools.
func (a *Agent) open() {
	a.db = sql.OpenDB(connector{agent: a, as: a.everyday, told: a.entered})
	a.db.SetMaxOpenConns(maxConnections)
	a.adminDB = sql.OpenDB(connector{agent: a, as: a.admin, told: func(entry, error) {}})
	a.adminDB.SetMaxIdleConns(-1) // it is seldom used
}

const maxConnections = 2
