package replicate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

// actTimeout bounds one step. Stopping the applier waits for its transaction: on MySQL for up to a
// minute where the receiver was cut off within it.
const actTimeout = 90 * time.Second

// act takes a step that changes something.
func (a *Agent) act(ctx context.Context, s Standing, f Facts, step Step) error {
	d, source := dialectOf(f.Version), s.source(f)
	var statements []statement
	switch step {
	case MarkComplete:
		return a.cfg.Record.MarkComplete()
	case MarkAttached:
		return a.cfg.Record.MarkAttached(ctx)
	case Fence:
		statements = d.fenceStatements()
	case OpenForWrites:
		statements = []statement{{text: d.open}}
	case StopEvents, StartEvents:
		return a.switchEvents(ctx, s, step)
	case Unpersist:
		statements = unpersistStatements(f.Persisted)
	case Start:
		statements = []statement{{text: d.start}}
	case MakeAccount:
		return a.makeAccounts(ctx, d, s, f)
	case ChangePassword:
		change, err := a.adminChange(ctx, d)
		if err != nil {
			return err
		}
		return a.logins.asAdministrator(ctx, change)
	case SetSemiSync:
		if s.Primary {
			statements = d.sourceStatements(s.SemiSync)
		} else {
			statements = d.acknowledgeStatements(f.Channel.IO != "No")
		}
	case Forget:
		return a.forget(ctx, d, s, f)
	case Configure:
		if s.Origin.Mode == origin.Executed {
			statements = d.goOnStatements(source, f.position())
		} else {
			statements = d.configureStatements(source, *s.beginning(f))
		}
	case Repoint:
		if c := f.Channel; c != nil && (c.follows(source) || !c.UsingGTID) {
			statements = d.loginStatements(source)
		} else {
			statements = d.repointStatements(source)
		}
	case TakeOver:
		statements = append(d.takeOverStatements(*s.Origin), renumberStatements(f.Version, *s.Origin, f.GTID)...)
	case Follow:
		statements = d.followStatements(source.at(f.Level.Ahead.Host), a.cfg.ServerID, f.position())
	case Detach:
		statements = d.detachStatements(a.cfg.ServerID)
	case Wait, Report, Reseed, StartOver, Rest, Leave:
		return nil
	}
	if step == SetSemiSync && s.Primary && s.SemiSync == SemiSyncRequired && !s.SemiSynced {
		// Before it is so: what is promised must outlast a crash.
		if err := a.cfg.Record.MarkSemiSynced(); err != nil {
			return err
		}
	}
	if err := exec(ctx, a.logins.db, statements); err != nil {
		a.logins.distrust(ctx, err)
		return err
	}
	if step == OpenForWrites {
		a.tellOfSleeping(ctx, s)
	}
	if step == Start { // once: the table may have a limit of its own
		a.standstill.full = false
	}
	if step == Configure || step == Repoint || step == Follow {
		a.memory.given = source.Password
	}
	if step == Configure || step == TakeOver {
		// Not before, and before it starts: a channel that has applied something must not be sent
		// back to where the copy began.
		return a.cfg.Record.MarkConfigured()
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
