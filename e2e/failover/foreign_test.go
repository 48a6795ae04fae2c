//go:build failover

package failover

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Somebody replays another server's binary log on the leader, with its GTIDs: on MySQL they become the
// set's history, commits do not stop, and any member can lead with them. MariaDB's leader says at once
// that nobody else can lead with what is in another domain.
func TestReplayed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--stable-after=1s")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader := f.byName(before.Holder)
	f.execute(ctx, leader, "CREATE TABLE acked.x (n BIGINT PRIMARY KEY)")
	db, err := leader.Server.Open("root", f.RootPassword())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if f.mariaDB {
		play(ctx, t, conn, "SET SESSION gtid_domain_id = 7", "INSERT INTO acked.x VALUES (1)")
		f.await(ctx, "the leader says so", func() (bool, string) { return strings.Contains(f.log(leader), "which is not of its term"), "" })
		return
	}
	w.pause()
	played := 0
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		played++
		play(ctx, t, conn, fmt.Sprintf("SET GTID_NEXT = '3f2a0000-0000-0000-0000-00000000ffff:%d'", played),
			fmt.Sprintf("INSERT INTO acked.x VALUES (%d)", played), "SET GTID_NEXT = 'AUTOMATIC'")
	}
	if pause := w.pause(); pause > 2*time.Second {
		t.Errorf("while %d transactions were replayed, no commit returned for %v", played, pause)
	}
	time.Sleep(2 * surplus) // nobody asks for a reseed
	if now := f.lease(ctx); now.Term != before.Term || len(now.Acknowledgers) != 2 {
		t.Errorf("%+v leads, after %+v", now, before)
	}
	stop()
	pid, err := leader.Server.ServerPid()
	if err != nil {
		t.Fatal(err)
	}
	f.must("", syscall.Kill(pid, syscall.SIGKILL))
	f.moved(ctx, before)
	f.rejoin(ctx, leader)
	f.check(ctx, w)
	for i := range f.n {
		var n int
		err := f.Member(i).Server.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM acked.x").Scan(&n)
		if err != nil || n != played {
			t.Errorf("%s has %d of %d transactions that were replayed (%v)", f.Member(i).Name(), n, played, err)
		}
	}
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
