package replicate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

// actTimeout bounds one step. Stopping the applier waits for its transaction: on MySQL for up to a
// minute where the receiver was cut off within it.
const actTimeout = 90 * time.Second

// act takes a step that changes something.
func (a *Agent) act(ctx context.Context, s Standing, f Facts, step Step) error {
	d := dialectOf(f.Version)
	switch step {
	case Wait, Report, Reseed, StartOver, Rest, Leave:
		return nil
	case MarkComplete:
		return a.cfg.Record.MarkComplete()
	case MarkAttached:
		return a.cfg.Record.MarkAttached(ctx)
	case StopEvents, StartEvents:
		return a.switchEvents(ctx, d, s, step)
	case MakeAccount:
		return a.makeAccounts(ctx, d, s, f)
	case ChangePassword:
		change, err := a.adminChange(ctx, d)
		if err != nil {
			return err
		}
		return a.logins.asAdministrator(ctx, change)
	case Forget:
		return a.forget(ctx, d, s, f)
	}
	if step == SetSemiSync && s.Primary && s.SemiSync == SemiSyncRequired && !s.SemiSynced {
		// Before it is so: what is promised must outlast a crash.
		if err := a.cfg.Record.MarkSemiSynced(); err != nil {
			return err
		}
	}
	if step == OpenForWrites && a.cfg.MayOpen != nil {
		if err := a.cfg.MayOpen(ctx); err != nil {
			return err
		}
	}
	if err := exec(ctx, a.logins.db, a.statements(d, s, f, step)); err != nil {
		a.logins.distrust(ctx, err)
		return errors.Join(err, a.clearDamaged(ctx, d, s, err))
	}
	switch step {
	case OpenForWrites:
		a.scheduler.opened = true
		a.leveling = leveling{} // a start that nobody sees open waits for the members like any other
		a.tellOfSleeping(ctx, s)
	case Start: // once: the table may have a limit of its own
		a.standstill.full = false
	case Configure, Repoint, Follow:
		a.memory.given = s.source(f).Password
	}
	if step == Configure || step == TakeOver {
		// Not before, and before it starts: a channel that has applied something must not be sent
		// back to where the copy began.
		return a.cfg.Record.MarkConfigured()
	}
	return nil
}

// clearDamaged removes a channel of MariaDB whose files cannot be read, as after a power cut: the server
// does not sync them all. By GTID the next step makes it anew, and nothing is lost: what the relay
// logs have is dropped at each start of both threads.
//
// https://mariadb.com/kb/en/reset-replica/
func (a *Agent) clearDamaged(ctx context.Context, d dialect, s Standing, err error) error {
	byGTID := s.Role != nil && s.Role.Follows != "" || decideWithoutChannel(s).Step == Repoint
	if d.flavor != flavor.MariaDB || !isOneOf(err, errSourceInfo) || !byGTID {
		return nil
	}
	if err := exec(ctx, a.logins.db, []statement{{text: d.reset}}); err != nil {
		return fmt.Errorf("remove the channel whose files are damaged: %w", err)
	}
	a.log.Warn("the files of the replication channel were damaged, as after a power cut: it is made anew, from the GTID that the server has", "error", err)
	return nil
}

// statements are those of a step that is nothing but statements.
func (a *Agent) statements(d dialect, s Standing, f Facts, step Step) []statement {
	source := s.source(f)
	switch step {
	case Fence:
		return d.fenceStatements()
	case OpenForWrites:
		return []statement{{text: d.open}}
	case Unpersist:
		return unpersistStatements(f.Persisted)
	case Start:
		return []statement{{text: d.start}}
	case SetSemiSync:
		if s.Primary {
			return d.sourceStatements(s.SemiSync)
		}
		return d.acknowledgeStatements(f.Channel.IO != "No")
	case Configure:
		if s.Origin.Mode == origin.Executed {
			return d.goOnStatements(source, f.position())
		}
		return d.configureStatements(source, *s.beginning(f))
	case Repoint:
		if c := f.Channel; s.Role != nil && c != nil && c.UsingGTID {
			return d.moveStatements(source)
		}
		if s.Role != nil && f.Channel == nil && d.resume != "" { // what it wrote as the leader is no part of where it followed
			return append([]statement{{d.resume, []any{f.position()}}}, d.repointStatements(source)...)
		}
		if c := f.Channel; c != nil && (c.follows(source) || !c.UsingGTID) {
			return d.loginStatements(source)
		}
		return d.repointStatements(source)
	case TakeOver:
		return append(d.takeOverStatements(*s.Origin), renumberStatements(f.Version, *s.Origin, f.GTID)...)
	case Follow:
		return d.followStatements(source.at(f.Level.Ahead.Host), a.cfg.ServerID, f.position())
	case Detach:
		return d.detachStatements(a.cfg.ServerID)
	}
	return nil
}

// exec runs the statements on one connection. An error names the text of the one that failed, never
// its values.
func exec(ctx context.Context, db *sql.DB, statements []statement) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() {
		if closeErr := conn.Close(); err == nil { // one that is not used again is closed already
			err = closeErr
		}
	}()
	for _, st := range statements {
		if _, err := conn.ExecContext(ctx, st.text, st.args...); err != nil {
			// The session may be half-way through its settings: it is not used again.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
			return fmt.Errorf("execute %q: %w", st.text, withoutText(err))
		}
	}
	return nil
}

// withoutText keeps the quoted part of a statement that a syntax error repeats out of the log: it
// may hold a password.
func withoutText(err error) error {
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok && refused.Number == errParse {
		return fmt.Errorf("error %d: the server does not understand it", errParse)
	}
	return err
}
