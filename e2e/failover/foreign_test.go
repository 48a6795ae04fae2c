//go:build failover

package failover

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// Somebody replays another server's binary log on the leader, with its GTIDs: on MySQL they become the
// set's history, commits do not stop, and any member can lead with them, also after a planned change in
// the midst of it, and where the leader dies before the Lease says so. MariaDB's leader says at once that
// nobody else can lead with what is in another domain.
func TestReplayed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--stable-after=1s")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader := f.byName(before.Holder)
	f.execute(ctx, leader, "CREATE TABLE acked.x (n BIGINT PRIMARY KEY)")
	conn := f.session(ctx, leader)
	if f.mariaDB {
		play(ctx, t, conn, "SET SESSION gtid_domain_id = 7", "INSERT INTO acked.x VALUES (1)")
		f.await(ctx, "the leader says so", func() (bool, string) { return strings.Contains(f.log(leader), "which is not of its term"), "" })
		return
	}
	w.pause()
	played := 0
	// replay replays one transaction, and more until the session is cut, or for that long.
	replay := func(lasts time.Duration) (err error) {
		for begun := time.Now(); err == nil; time.Sleep(10 * time.Millisecond) {
			next := played + 1
			_, err = conn.ExecContext(ctx, fmt.Sprintf("SET GTID_NEXT = '3f2a0000-0000-0000-0000-00000000ffff:%d'", next))
			if err == nil {
				_, err = conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO acked.x VALUES (%d)", next))
			}
			if err == nil {
				played = next
				_, err = conn.ExecContext(ctx, "SET GTID_NEXT = 'AUTOMATIC'")
			}
			if time.Since(begun) >= lasts {
				break
			}
		}
		return err
	}
	if err := replay(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if pause := w.pause(); pause > 2*time.Second {
		t.Errorf("while %d transactions were replayed, no commit returned for %v", played, pause)
	}
	time.Sleep(2 * surplus) // nobody asks for a reseed
	if now := f.lease(ctx); now.Term != before.Term || len(now.Acknowledgers) != 2 {
		t.Errorf("%+v leads, after %+v", now, before)
	}
	cut := make(chan error, 1)
	go func() { cut <- replay(time.Minute) }()
	time.Sleep(2 * time.Second)
	if _, err := f.switchover(ctx, ""); err != nil { // in the midst of it
		t.Fatal(err)
	}
	err := <-cut
	t.Logf("the replay ended at %d: %v", played, err)
	f.moved(ctx, before)
	w.more(ctx, 50)
	stop()
	before = f.named(ctx, 2)
	leader = f.byName(before.Holder)
	f.killServer(leader)
	f.moved(ctx, before)
	f.rejoin(ctx, leader)

	before = f.named(ctx, 2)
	leader = f.byName(before.Holder)
	conn = f.session(ctx, leader)
	if err := replay(0); err != nil {
		t.Fatal(err)
	}
	f.killServer(leader) // before it can adopt that
	f.moved(ctx, before)
	f.rejoin(ctx, leader)
	f.check(ctx, w)
	for i := range f.n {
		var n int
		err := f.Member(i).Server.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM acked.x").Scan(&n)
		if err != nil || n < played || n > played+1 { // the last one got no answer
			t.Errorf("%s has %d of %d transactions that were replayed (%v)", f.Member(i).Name(), n, played, err)
		}
	}
}

// session is one of root on a member's server.
func (f *fixture) session(ctx context.Context, m *set.Member) *sql.Conn {
	f.t.Helper()
	db, err := m.Server.Open("root", f.RootPassword())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	return conn
}

// surplus is for how long a member has to have more than the set's history before it counts as such.
const surplus = 3 * time.Second

func play(ctx context.Context, t *testing.T, conn *sql.Conn, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}
