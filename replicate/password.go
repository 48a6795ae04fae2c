package replicate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// passwords are an account's password and, while it is rotated, the one before it, which is
// empty otherwise.
//
// A rotation reaches the members one by one, in any order. Until all have it, the account
// has both on the primary, where the server can do that, so that members that know one of
// them get in. A member that knows both uses the one that is taken.
type passwords struct{ current, previous string }

// readPasswords reads them anew. previous may be nil.
func readPasswords(current, previous func() (string, error)) (p passwords, err error) {
	if p.current, err = current(); err != nil || previous == nil {
		return p, err
	}
	if p.previous, err = previous(); err != nil {
		return p, fmt.Errorf("the previous one: %w", err)
	}
	if p.previous == p.current {
		p.previous = ""
	}
	return p, nil
}

// are reports whether an account has these, and nothing else. Where it cannot have two, the
// current one is enough.
func (p passwords) are(hash, secondHash string, by scheme, can second) bool {
	if !by.isHash(hash, p.current) {
		return false
	}
	if p.previous == "" || can == never {
		return secondHash == ""
	}
	return by.isHash(secondHash, p.previous)
}

// account is what the server stores of one.
type account struct {
	hash, plugin, second string
	mayReplicate         bool
}

// readAccount reads an account; nil when there is none.
func readAccount(ctx context.Context, db *sql.DB, d dialect, user, host string) (*account, error) {
	var a account
	err := db.QueryRowContext(ctx, d.queryAccount, user, host).Scan(&a.hash, &a.plugin, &a.mayReplicate, &a.second)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, fmt.Errorf("read the account %s@%s: %w", user, host, err)
	}
	return &a, nil
}

func replicationAccountRight(ctx context.Context, db *sql.DB, d dialect, s Source) (bool, error) {
	a, err := readAccount(ctx, db, d, s.User, anyHost)
	if err != nil || a == nil {
		return false, err
	}
	return a.plugin == d.plugin && a.mayReplicate && passwords{s.Password, s.Previous}.are(a.hash, a.second, d.scheme, d.second), nil
}

// loginRefused says that the source does not let the replica in.
func (f Facts) loginRefused() bool { return f.Channel != nil && f.Channel.IOErrno == errAccessDenied }

// taken is the password that the source took, of those that there were.
type taken struct {
	of       passwords
	password string
	asked    time.Time
}

// choosePassword picks the one of two passwords that the source takes, or the member that
// a first ordinal follows. While it takes neither, or does not answer, that is the last one
// that it took, or else the current one.
func (a *Agent) choosePassword(ctx context.Context, s Standing, f Facts) Standing {
	of := s.Source
	if s.Primary && f.Level != nil && f.Level.Ahead != nil {
		of.Host = f.Level.Ahead.Host
	} else if s.Primary {
		return s
	}
	if of.Previous == "" {
		return s
	}
	both := passwords{s.Source.Password, s.Source.Previous}
	if a.taken.of != both {
		a.taken = taken{of: both, password: both.current}
	}
	// A server that is refused tries again now and then, and so do we.
	if time.Since(a.taken.asked) >= connectRetry*time.Second || a.taken.asked.IsZero() {
		a.askPassword(ctx, of, dialectOf(f.Version))
	}
	s.Source.Password = a.taken.password
	s.PasswordTried = a.tried(s.Source.Password)
	return s
}

func (a *Agent) askPassword(ctx context.Context, s Source, d dialect) {
	a.taken.asked = time.Now()
	for _, password := range []string{a.taken.of.current, a.taken.of.previous} {
		ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
		s.Password = password
		_, _, err := askSource(ctx, s, d)
		cancel()
		switch {
		case refuses(err):
		case err == nil || errors.Is(err, sql.ErrNoRows): // it has no GTIDs to tell of
			a.taken.password = password
			return
		default:
			a.log.Debug("the source was not asked which password it takes", "error", err)
			return
		}
	}
}

// refuses reports whether an error is a server's refusal of a login.
func refuses(err error) bool {
	refused, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && refused.Number == errAccessDenied
}

// tried reports whether the server was given this password last.
func (a *Agent) tried(password string) bool {
	return a.triedPassword != "" && a.triedPassword == password
}

// adminConnector logs in to the member's own server with the password that it takes.
type adminConnector struct {
	agent *Agent
	dsn   *mysql.Config
}

// Driver is of driver.Connector.
func (adminConnector) Driver() driver.Driver { return mysql.MySQLDriver{} }

// Connect tries the current password, and the previous one where that is refused.
func (c adminConnector) Connect(ctx context.Context) (driver.Conn, error) {
	p, err := c.agent.adminPasswords()
	if err != nil {
		return nil, err
	}
	conn, err := c.connect(ctx, p.current)
	if refuses(err) && p.previous != "" {
		return c.connect(ctx, p.previous)
	}
	return conn, err
}

func (c adminConnector) connect(ctx context.Context, password string) (driver.Conn, error) {
	dsn := c.dsn.Clone()
	dsn.Passwd = password
	connector, err := mysql.NewConnector(dsn)
	if err != nil {
		return nil, fmt.Errorf("set up the connection: %w", err)
	}
	conn, err := connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c.agent.mu.Lock()
	defer c.agent.mu.Unlock()
	c.agent.adminTook = password
	return conn, nil
}

func (a *Agent) adminPasswords() (passwords, error) {
	p, err := readPasswords(a.cfg.AdminPassword, a.cfg.AdminPasswordPrevious)
	if err != nil {
		return p, fmt.Errorf("read the administrator's password: %w", err)
	}
	return p, nil
}

// AdminPassword is the administrator's password that the member's server takes, for whoever
// else logs in to it. It is safe to call from any goroutine.
func (a *Agent) AdminPassword() (string, error) {
	p, err := a.adminPasswords()
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.previous != "" && p.previous == a.adminTook {
		return p.previous, err
	}
	return p.current, err
}

// adminChange makes the statements that a rotation of the administrator's password needs;
// nil when it needs none. An account that proves itself in another way, or has a password
// that is none of the two, is somebody else's business.
func (a *Agent) adminChange(ctx context.Context, d dialect) ([]statement, error) {
	if a.cfg.AdminPasswordPrevious == nil {
		return nil, nil
	}
	want, err := a.adminPasswords()
	if err != nil {
		return nil, err
	}
	var login string
	if err := a.db.QueryRowContext(ctx, queryLogin).Scan(&login); err != nil {
		return nil, fmt.Errorf("read as whom we are in: %w", err)
	}
	at := strings.LastIndexByte(login, '@')
	user, host := login[:max(at, 0)], login[at+1:]
	has, err := readAccount(ctx, a.db, d, user, host)
	if err != nil || has == nil {
		return nil, err
	}
	i := slices.IndexFunc(d.schemes(), func(s scheme) bool { return s.plugin == has.plugin })
	if i < 0 || has.second == otherPassword || has.second == "" && want.previous == "" {
		return nil, nil
	}
	by := d.schemes()[i]
	known := by.isHash(has.hash, want.current) || want.previous != "" && by.isHash(has.hash, want.previous)
	if !known || want.are(has.hash, has.second, by, d.second) {
		return nil, nil
	}
	return d.passwordStatements(user, host, by, want), nil
}
