package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

// observeTimeout bounds one look at the server.
const observeTimeout = 5 * time.Second

// observe looks at the server. It never fails: what it could not see is in Trouble.
func (a *Agent) observe(ctx context.Context, s Standing) Facts {
	ctx, cancel := context.WithTimeout(ctx, observeTimeout)
	defer cancel()
	outside := a.lookOutside()
	f := outside
	a.logins.preferOwn(ctx)
	err := a.readServer(ctx, s, &f)
	if a.logins.distrust(ctx, err) {
		f = outside
		err = a.readServer(ctx, s, &f)
	}
	if err == nil {
		a.standstill.watch(&f)
		return f
	}
	f.Trouble = err.Error()
	if isLeaving(err) {
		f.Answers = false
	} else if refused, ok := errors.AsType[*mysql.MySQLError](err); ok {
		f.Answers = true
		if refuses(refused) {
			f.Trouble += "; check --admin-user and --admin-password-file"
			if a.logins.sidecar.Password != nil {
				f.Trouble += ", and --sidecar-password-file"
			}
		}
	}
	f.completeTrouble()
	return f
}

// lookOutside is what is known without the server.
func (a *Agent) lookOutside() Facts {
	f := Facts{Seen: time.Now()}
	if a.cfg.Volume != nil {
		var err error
		if f.Volume, err = a.cfg.Volume(); err != nil {
			a.log.Debug("the room on the volume is not known", "error", err)
		}
	}
	if a.cfg.Container != nil {
		f.Container = a.cfg.Container()
	}
	return f
}

func (a *Agent) readServer(ctx context.Context, s Standing, f *Facts) error {
	var version string
	if err := a.logins.db.QueryRowContext(ctx, queryVersion).Scan(&version); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	f.Answers = true
	var err error
	if f.Version, err = flavor.ParseServer(version); err != nil {
		return err
	}
	a.setVersion(version)
	if f.Version.Flavor != s.Flavor {
		return nil // there is nothing else to ask it
	}
	d := dialectOf(f.Version)
	if err := a.readState(ctx, d, f); err != nil {
		return err
	}
	if s.Role != nil && !f.UsesGTID {
		return errNoGTIDs
	}
	if err := a.lookAtEvents(ctx, d, s, f); err != nil {
		return err
	}
	if f.Persisted, err = readPersisted(ctx, a.logins.db, d); err != nil {
		return err
	}
	if f.Channel, f.OtherChannels, err = readChannels(ctx, a.logins.db, f.Version.Flavor, d); err != nil {
		return err
	}
	if c := f.Channel; c != nil && c.UsingGTID && c.SQLRunning {
		c.Pending = f.Received() != f.Executed
	}
	if f.MemoryTable, err = a.memoryTable(ctx, f.Channel); err != nil {
		return err
	}
	if f.Mismatches, err = readMismatches(ctx, a.logins.db, a.cfg.Options); err != nil {
		return err
	}
	return a.readWanted(ctx, d, s, f)
}

// readWanted reads what only some members are asked for.
func (a *Agent) readWanted(ctx context.Context, d dialect, s Standing, f *Facts) (err error) {
	if s.SemiSync.wanted() {
		if f.SemiSync, err = readSemiSync(ctx, a.logins.db); err != nil {
			return err
		}
		if !f.SemiSync.Known {
			f.Mismatches = append(f.Mismatches, semiSyncMismatch)
		}
	}
	if s.fresh(f) && s.Origin.Mode == origin.FirstBoot {
		if f.Booted, err = readBooted(ctx, a.logins.db); err != nil {
			return err
		}
	}
	if s.Primary && f.ReadOnly && !f.UsesGTID {
		if f.BinaryLog, err = readBinaryLog(ctx, a.logins.db); err != nil {
			return err
		}
	}
	if s.Primary {
		if f.Accounts, err = a.lookAtAccounts(ctx, d, s, *f); err != nil {
			return err
		}
	}
	return nil
}

// readState reads the server's own state, which is all of Facts down to Executed.
func (a *Agent) readState(ctx context.Context, d dialect, f *Facts) error {
	var events, slavePos, binlogState string
	row := a.logins.db.QueryRowContext(ctx, d.queryServer)
	if err := row.Scan(&f.ServerID, &f.ReadOnly, &f.Fenced, &events, &f.GTID, &f.UsesGTID, &f.ServerUUID, &slavePos, &binlogState); err != nil {
		return fmt.Errorf("read the server's state: %w", err)
	}
	f.EventsOn, f.EventsDisabled = events == "ON", events == eventsDisabled
	if err := f.readWritable(ctx, a.logins.db, d); err != nil {
		return err
	}
	f.GTID = strings.ReplaceAll(f.GTID, "\n", "") // MySQL begins a line for each server
	executed := []string{slavePos, binlogState}
	if f.Version.Flavor == flavor.MySQL {
		executed = []string{f.GTID}
	}
	var err error
	if f.Executed, err = unite(f.Version.Flavor, executed...); err != nil {
		return fmt.Errorf("read the server's GTIDs: %w", err)
	}
	if f.Version.Flavor == flavor.MariaDB {
		f.GTID = f.position()
	}
	f.Known = true
	return nil
}

// row is a row of a status, by the names of its columns, which vary.
type row map[string]string

func (r row) text(column string) string {
	if value, ok := r[column]; ok {
		return value
	}
	return r[oldWords.Replace(column)]
}

func (r row) number(column string) int {
	n, _ := strconv.Atoi(r.text(column))
	return n
}

// querier is a pool of connections, or one.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// readRows reads all rows of a statement whose columns are not known in advance.
func readRows(ctx context.Context, db querier, query string) (all []row, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		targets := make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		r := row{}
		for i, name := range names {
			r[name] = values[i].String
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// readBooted reads where the copy ends that the server runs on, nil when it does not say. Without
// the clone plugin it cannot.
func readBooted(ctx context.Context, db *sql.DB) (*origin.Origin, error) {
	o := origin.Origin{Mode: origin.Position, Of: origin.Donor}
	err := db.QueryRowContext(ctx, queryBooted).Scan(&o.File, &o.Position)
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok && refused.Number == errNoSuchTable || errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, fmt.Errorf("read where the copy ends: %w", err)
	}
	return &o, nil
}
