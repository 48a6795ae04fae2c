package replicate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"understudy/replicate/origin"
)

// errNotForgotten is in the error when there is more to forget than was looked at.
var errNotForgotten = errors.New("the server has made other transactions meanwhile, which have to be looked at first")

// errCopied is returned when a backup has begun since the look.
var errCopied = errors.New("a backup of the server runs")

// forget makes the data a fresh copy at the point that they are at without the transactions of our
// server, which have changed nothing in them: its binary logs, which have them, go.
//
// The journal says so before the first of that is done. What a crash leaves is a fresh copy: with
// the transactions, which are found again, or without, and then it is configured. On MySQL it does
// not know its GTIDs for an instant; nothing but Configure starts it from there.
func (a *Agent) forget(ctx context.Context, d dialect, s Standing, f Facts) error {
	if a.cfg.Exclusive != nil {
		release, ok := a.cfg.Exclusive()
		if !ok {
			a.memory.judged = "" // so that the source is asked again
			return errCopied
		}
		defer release()
	}
	conn, err := a.logins.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = conn.Close() }()
	err = a.forgetOn(ctx, conn, d, s, f)
	if err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // it ends whatever holds commits off
		a.logins.distrust(ctx, err)
		a.memory.judged = "" // as above
		return err
	}
	a.memory.forget()
	if tables := f.Source.Emptied; tables != nil {
		const what, how = "MEMORY tables are empty here, as they are after each start of a server", "make them InnoDB on the primary, then reseed this member"
		a.log.Warn(what, "tables", tables, "how", how)
		a.tell(true, what+", whatever they have on the primary: "+strings.Join(tables, ", ")+"; "+how)
	}
	return nil
}

func (a *Agent) forgetOn(ctx context.Context, conn *sql.Conn, d dialect, s Standing, f Facts) error {
	if err := execute(ctx, conn, d.stop); err != nil {
		return err
	}
	if err := unchanged(ctx, conn, d, f); err != nil {
		return err
	}
	o := origin.Origin{Mode: origin.GTID, Of: origin.Source}
	if err := conn.QueryRowContext(ctx, d.queryWithout, f.Source.Errant).Scan(&o.GTID); err != nil {
		return fmt.Errorf("read where the data are: %w", err)
	}
	o.GTID = strings.ReplaceAll(o.GTID, "\n", "")
	if s.fresh(&f) { // it has not been told yet what it has
		o.GTID = s.beginning(f).GTID
	}
	if err := a.cfg.Record.MarkFresh(o); err != nil {
		return err
	}
	if err := execute(ctx, conn, append([]string{d.reset}, d.freeze...)...); err != nil {
		return err
	}
	if err := unchanged(ctx, conn, d, f); err != nil {
		return err
	}
	if err := execute(ctx, conn, append([]string{d.resetLog}, d.thaw...)...); err != nil {
		return err
	}
	for _, st := range d.beginStatements(o) {
		if _, err := conn.ExecContext(ctx, st.text, st.args...); err != nil {
			return fmt.Errorf("execute %q: %w", st.text, err)
		}
	}
	return nil
}

func execute(ctx context.Context, conn *sql.Conn, texts ...string) error {
	for _, text := range texts {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("execute %q: %w", text, err)
		}
	}
	return nil
}

// unchanged sees that our server has made no transactions since the source was asked.
func unchanged(ctx context.Context, conn *sql.Conn, d dialect, f Facts) error {
	var p possessions
	if err := conn.QueryRowContext(ctx, d.queryGTIDs).Scan(&p.has[0], &p.has[1], &p.purged); err != nil {
		return fmt.Errorf("read its GTIDs: %w", err)
	}
	p.has[0] = gtidOwner.ReplaceAllString(p.has[0], "")
	if p.own(f) != f.Source.own {
		return errNotForgotten
	}
	return nil
}
