//go:build failover

package failover

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"understudy/e2e/set"
)

// A transaction that XA PREPARE has acknowledged is not lost, and can be ended wherever it is asked
// for: after the leader's server was killed, on a member that was cloned meanwhile, and after a
// switchover.
func TestPreparedXA(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--stable-after=1s")
	w, stop := f.begin(ctx)
	leader := func() *set.Member { return f.byName(f.named(ctx, 2).Holder) }
	f.execute(ctx, leader(), "CREATE TABLE acked.x (n BIGINT PRIMARY KEY)")
	for n := 1; n <= 4; n++ {
		_ = f.prepare(ctx, leader(), n).Close()
	}
	before := f.named(ctx, 2)
	old := f.byName(before.Holder)
	w.pause()
	f.killServer(old)
	f.moved(ctx, before)
	w.more(ctx, 50)
	f.rejoin(ctx, old)
	f.prepared(ctx, "1", "2", "3", "4")
	f.execute(ctx, leader(), "XA COMMIT '1'")
	f.execute(ctx, leader(), "XA ROLLBACK '2'")

	// A copy has them, too, and can lead with them.
	cloned := f.byName("db-1")
	if cloned.Name() == leader().Name() {
		cloned = f.byName("db-2")
	}
	had := f.named(ctx, 2).receipt(cloned)
	f.reseed(ctx, cloned)
	f.await(ctx, cloned.Name()+" acknowledges with its new data", func() (bool, string) {
		r := f.lease(ctx)
		return r.receipt(cloned) != "" && r.receipt(cloned) != had, fmt.Sprintf("%+v", r)
	})
	f.prepared(ctx, "3", "4")
	before = f.named(ctx, 2)
	session := f.prepare(ctx, leader(), 5)
	if _, err := f.switchover(ctx, cloned.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := session.ExecContext(ctx, "XA COMMIT '5'"); err == nil {
		t.Error("a former leader has committed, and its clients believe it")
	}
	f.moved(ctx, before)
	f.execute(ctx, leader(), "XA COMMIT '5'")
	f.execute(ctx, leader(), "XA COMMIT '3'")
	f.execute(ctx, leader(), "XA ROLLBACK '4'")
	f.prepared(ctx)
	f.named(ctx, 2)
	stop()
	f.check(ctx, w)
	for i := range f.n {
		var rows string
		err := f.Member(i).Server.DB().QueryRowContext(ctx, "SELECT GROUP_CONCAT(n ORDER BY n) FROM acked.x").Scan(&rows)
		if err != nil || rows != "1,3,5" {
			t.Errorf("%s has the rows %q, not 1, 3 and 5 (%v)", f.Member(i).Name(), rows, err)
		}
	}
}

func (f *fixture) execute(ctx context.Context, m *set.Member, statement string) {
	f.t.Helper()
	if _, err := m.Server.DB().ExecContext(ctx, statement); err != nil {
		f.t.Fatalf("%s on %s: %v", statement, m.Name(), err)
	}
}

// prepare makes a prepared transaction whose name is the row that it inserts, and returns its session.
func (f *fixture) prepare(ctx context.Context, m *set.Member, n int) *sql.Conn {
	f.t.Helper()
	conn := f.session(ctx, m)
	for _, statement := range []string{"XA START '%d'", "INSERT INTO acked.x VALUES (%d)", "XA END '%[1]d'", "XA PREPARE '%d'"} {
		if _, err := conn.ExecContext(ctx, fmt.Sprintf(statement, n)); err != nil {
			f.t.Fatalf("%s: %v", fmt.Sprintf(statement, n), err)
		}
	}
	return conn
}

// prepared waits until each member has these prepared transactions, and no other.
func (f *fixture) prepared(ctx context.Context, want ...string) {
	f.t.Helper()
	for i := range f.n {
		m := f.Member(i)
		f.within(ctx, 30*time.Second, fmt.Sprintf("%s has the prepared transactions %v", m.Name(), want), func() (bool, string) {
			got, err := recovered(ctx, m.Server.DB())
			return err == nil && slices.Equal(got, want), fmt.Sprint(got, err)
		})
	}
}

// recovered are the names of the prepared transactions of a server, in their order.
func recovered(ctx context.Context, db *sql.DB) (names []string, err error) {
	rows, err := db.QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var format, global, branch int64
		var name string
		if err := rows.Scan(&format, &global, &branch, &name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, rows.Err()
}

// receipt is what a member is named with; empty: it is not.
func (r record) receipt(m *set.Member) string {
	for _, a := range r.Acknowledgers {
		if a.Member == m.Name() {
			return a.Receipt
		}
	}
	return ""
}
