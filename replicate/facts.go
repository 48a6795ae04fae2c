package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/flavor"

	"github.com/go-sql-driver/mysql"
)

// Facts are what one turn of the loop saw.
type Facts struct {
	// Answers says that a server greeted us on TCP, even if it then refused the login.
	Answers bool
	// Trouble is why the server could not be observed; empty when it was.
	Trouble string

	Version  flavor.Version
	ServerID uint32
	ReadOnly bool
	// GTID is what the server has executed.
	GTID string
	// Channel is nil when the server is not configured as a replica.
	Channel *Channel
	// Mismatches are the safety options that did not take, in words.
	Mismatches []string
	// AccountRight says that the replication account is as it should be. It is looked
	// at on the primary only.
	AccountRight bool
}

// Channel is a server's replication from its source.
type Channel struct {
	Host string
	Port int
	User string
	// UsingGTID is false in file and position mode.
	UsingGTID bool
	// IO is the state of the receiving thread: Yes, No, Connecting, Preparing.
	IO string
	// SQLRunning says that the applying thread runs.
	SQLRunning bool
	IOErrno    int
	IOError    string
	SQLErrno   int
	SQLError   string
	// Lag is in seconds; nil when the server cannot tell.
	Lag *int64
}

// observeTimeout bounds one look at the server.
const observeTimeout = 5 * time.Second

// observe looks at the server. It never fails: what it could not see is in Trouble.
func (a *Agent) observe(ctx context.Context) Facts {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	var f Facts
	err := a.look(ctx, &f)
	if err == nil {
		return f
	}
	f.Trouble = err.Error()
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok {
		f.Answers = true
		if refused.Number == errAccessDenied {
			f.Trouble += "; check --admin-user and --admin-password-file"
		}
	}
	return f
}

func (a *Agent) look(ctx context.Context, f *Facts) error {
	var version string
	if err := a.db.QueryRowContext(ctx, queryServer).Scan(&version, &f.ServerID, &f.ReadOnly, &f.GTID); err != nil {
		return fmt.Errorf("read the server's state: %w", err)
	}
	f.Answers = true
	var err error
	if f.Version, err = flavor.ParseServer(version); err != nil {
		return err
	}
	a.setVersion(version)
	if f.Channel, err = readChannel(ctx, a.db); err != nil {
		return err
	}
	if f.Mismatches, err = readMismatches(ctx, a.db, a.cfg.Options); err != nil {
		return err
	}
	if a.cfg.Primary {
		f.AccountRight, err = a.accountRight(ctx)
	}
	return err
}

// readChannel reads the default channel by the names of its columns, which vary.
func readChannel(ctx context.Context, db *sql.DB) (*Channel, error) {
	rows, err := db.QueryContext(ctx, queryStatus)
	if err != nil {
		return nil, fmt.Errorf("read replica status: %w", err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("read replica status: %w", err)
	}
	if !rows.Next() {
		return nil, rows.Err()
	}
	values := make([]sql.NullString, len(names))
	targets := make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, fmt.Errorf("read replica status: %w", err)
	}
	text := func(name string) string {
		if i := slices.Index(names, name); i >= 0 {
			return values[i].String
		}
		return ""
	}
	number := func(name string) int {
		n, _ := strconv.Atoi(text(name))
		return n
	}
	c := &Channel{
		Host: text(columnHost), Port: number(columnPort), User: text(columnUser),
		UsingGTID: text(columnUsing) != "No", IO: text(columnIO), SQLRunning: text(columnSQL) == "Yes",
		IOErrno: number(columnIOErrno), IOError: text(columnIOError),
		SQLErrno: number(columnSQLErrno), SQLError: text(columnSQLError),
	}
	if lag, err := strconv.ParseInt(text(columnLag), 10, 64); err == nil {
		c.Lag = &lag
	}
	return c, rows.Err()
}

// readMismatches compares the server's variables with what the options promised.
func readMismatches(ctx context.Context, db *sql.DB, opts []Option) ([]string, error) {
	var names []any
	for _, o := range opts {
		if o.Verify != "" {
			names = append(names, o.Name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	marks := "(?" + strings.Repeat(",?", len(names)-1) + ")"
	rows, err := db.QueryContext(ctx, queryVariables+marks, names...)
	if err != nil {
		return nil, fmt.Errorf("read the server's variables: %w", err)
	}
	defer func() { _ = rows.Close() }()
	have := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, fmt.Errorf("read the server's variables: %w", err)
		}
		have[name] = value
	}
	return compare(opts, have), rows.Err()
}

func compare(opts []Option, have map[string]string) []string {
	var wrong []string
	for _, o := range opts {
		if got := have[o.Name]; o.Verify != "" && got != o.Verify {
			wrong = append(wrong, fmt.Sprintf("%s is %q, not %q", o.Name, got, o.Verify))
		}
	}
	return wrong
}

func (a *Agent) accountRight(ctx context.Context) (bool, error) {
	source, err := a.source()
	if err != nil {
		return false, err
	}
	var hash, plugin, mayReplicate string
	err = a.db.QueryRowContext(ctx, queryAccount, source.User).Scan(&hash, &plugin, &mayReplicate)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the replication account: %w", err)
	}
	return plugin == nativePlugin && mayReplicate == "Y" && strings.EqualFold(hash, nativeHash(source.Password)), nil
}
