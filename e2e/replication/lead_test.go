//go:build replication

package replication

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/e2e/set"
)

// oldCopy copies the primary's directory, writes a row to shop.level, and then puts the copy in its
// place: the replicas have the row, and the primary lacks it. meanwhile is called before that,
// while all members have the row.
func (f *fixture) oldCopy(ctx context.Context, t *testing.T, row string, meanwhile func()) {
	t.Helper()
	f.run(ctx, t, f.p, "CREATE TABLE IF NOT EXISTS shop.level (a INT PRIMARY KEY)")
	f.down(ctx, t, f.p)
	saved := filepath.Join(t.TempDir(), "saved")
	if err := os.CopyFS(saved, os.DirFS(f.p.Live())); err != nil {
		t.Fatal(err)
	}
	f.up(ctx, t, f.p)
	f.does(ctx, t, f.p, "open for writes")
	f.run(ctx, t, f.p, "INSERT INTO shop.level VALUES ("+row+")")
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.arrives(ctx, t, r, "SELECT COUNT(*) FROM shop.level WHERE a = "+row, "1")
	}
	meanwhile()
	f.down(ctx, t, f.p)
	if err := errors.Join(os.RemoveAll(f.p.Live()), os.CopyFS(f.p.Live(), os.DirFS(saved))); err != nil {
		t.Fatal(err)
	}
}

const follow = "follow the member that has more"

// primaryRestored is a first ordinal that comes back with less than its replicas have, with
// obstacles to its catch-up.
func primaryRestored(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.oldCopy(ctx, t, "5", func() {})
	f.initialise(ctx, t, f.p)
	if err := f.p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.p, f.unfenced("INSERT INTO shop.level VALUES (5)")...)
	wrong := filepath.Join(f.dir, "wrong")
	if err := os.WriteFile(wrong, []byte("another password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.p.StartSidecar("--replication-password-file=" + wrong); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, t, f.p, "waiting", "until the members have said what they have")
	f.does(ctx, t, f.p, follow)
	f.says(ctx, t, f.p, "waiting", "it follows db-", "error 1045")
	f.unready(ctx, t, f.p, "the primary is read-only: it follows db-")
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.says(ctx, t, r, "the source is not open for writes yet, and lacks transactions that this member has")
	}
	f.run(ctx, t, f.p, f.stopReceiver)
	f.says(ctx, t, f.p, "step done", follow, "a thread is stopped")
	f.restartSidecar(ctx, t, f.p)
	f.says(ctx, t, f.p, "step done", follow, "refuses the password")
	f.reports(ctx, t, f.p, "the applier stopped with error 1062")
	f.run(ctx, t, f.p, f.unfenced("DELETE FROM shop.level WHERE a = 5")...)
	f.run(ctx, t, f.p, f.startApplier)
	f.does(ctx, t, f.p, "stop following", "open for writes")
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.does(ctx, t, r, "start replication")
		f.rests(ctx, t, r)
	}
}

// primaryRestoredAmongErrant finds a member that has all that it lacks, and errant transactions.
func primaryRestoredAmongErrant(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.oldCopy(ctx, t, "6", func() {
		f.down(ctx, t, f.r2)
		f.errant(ctx, t, f.r1)
	})
	f.up(ctx, t, f.p)
	f.reports(ctx, t, f.p, "db-1 has more than any other member")
	f.unready(ctx, t, f.p, "it does not open for writes, because it lacks what members have")
	f.up(ctx, t, f.r2)
	f.does(ctx, t, f.p, follow, "stop following", "open for writes")
	f.reports(ctx, t, f.r1, "the source lacks transactions that this member has")
	f.reseed(ctx, t, f.r1)
	f.rests(ctx, t, f.r2)
}

// primaryLost cannot catch up, since the members have purged what it lacks. Then its volume is
// deleted, too.
func primaryLost(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.oldCopy(ctx, t, "7", func() {
		f.run(ctx, t, f.p, "CREATE EVENT shop.nightly ON SCHEDULE EVERY 1 DAY STARTS CURRENT_TIMESTAMP + INTERVAL 1 DAY DO DO 0")
		for _, r := range []*set.Member{f.r1, f.r2} {
			f.arrives(ctx, t, r, "SELECT COUNT(*) FROM information_schema.events WHERE event_name = 'nightly'", "1")
			f.purge(ctx, t, r)
		}
	})
	f.up(ctx, t, f.p)
	f.reports(ctx, t, f.p, "it cannot catch up with db-")
	f.loseVolume(ctx, t, f.p)
	if r, err := f.p.Init(ctx, nil, "--bootstrap=false"); err != nil || r.Code != 0 {
		t.Fatalf("init ended with %d (%v): %s", r.Code, err, r.LastLine())
	}
	open := filepath.Join(f.p.Config, "zz.cnf")
	if err := os.WriteFile(open, []byte("[mysqld]\nread_only = OFF\nloose_super_read_only = OFF\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.p.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	if err := f.p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "make read-only", "take over the copy", "record that the member is attached")
	f.says(ctx, t, f.p, "events came back disabled", "shop.nightly")
	f.does(ctx, t, f.p, "open for writes")
	f.run(ctx, t, f.p, "DROP EVENT shop.nightly")
	if err := os.Remove(open); err != nil {
		t.Fatal(err)
	}
	if got := f.ask(ctx, t, f.p, "SELECT COUNT(*) FROM shop.level WHERE a = 7"); got != "1" {
		t.Error("it came back without the row that it lacked")
	}
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.rests(ctx, t, r)
	}
}

// primaryForgets opens for writes with less than its replicas have, since no member answered, and
// gives the same numbers to other transactions, until GTIDs do not show it any more.
func primaryForgets(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	replicas := []*set.Member{f.r1, f.r2}
	f.oldCopy(ctx, t, "9", func() {
		for _, r := range replicas {
			if err := r.StopSidecar(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
	f.up(ctx, t, f.p)
	f.does(ctx, t, f.p, "open for writes")
	const words = "the primary lost transactions that this member has"
	for _, r := range replicas {
		if err := r.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		f.reports(ctx, t, r, words)
		if err := r.StopSidecar(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []string{"10", "11", "12"} {
		f.run(ctx, t, f.p, "INSERT INTO shop.level VALUES ("+row+")")
	}
	if err := f.r1.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	f.reports(ctx, t, f.r1, words)
	if n := f.ask(ctx, t, f.r1, "SELECT COUNT(*) FROM shop.level WHERE a > 9"); n != "0" {
		t.Errorf("replication went on, and it has %s rows of the primary's new ones beside the one that the primary lost", n)
	}
	// It counts for no member: the primary must not follow it, a joiner must not clone it, and its
	// volume must not become the primary's.
	f.down(ctx, t, f.p)
	f.refusesVolumeOf(ctx, t, f.r1, "has transactions that the last primary had lost")
	f.up(ctx, t, f.r1)
	f.reports(ctx, t, f.r1, words)
	f.up(ctx, t, f.p)
	f.does(ctx, t, f.p, "open for writes")
	for _, r := range replicas {
		f.reseed(ctx, t, r)
	}
}

// refusesVolumeOf has the first ordinal, which is down, come with a copy of a member's volume. It
// takes that member down.
func (f *fixture) refusesVolumeOf(ctx context.Context, t *testing.T, m *set.Member, words string) {
	t.Helper()
	f.down(ctx, t, m)
	aside := f.p.Volume + ".aside"
	if err := errors.Join(os.Rename(f.p.Volume, aside), os.CopyFS(f.p.Volume, os.DirFS(m.Volume))); err != nil {
		t.Fatal(err)
	}
	r, err := f.p.Init(ctx, nil)
	if err != nil || r.Code != 3 || !strings.Contains(r.LastLine(), words) {
		t.Errorf("init ended with %d (%v): %s", r.Code, err, r.LastLine())
	}
	if j, err := f.p.Journal(); err != nil || j.Phase != "attached" {
		t.Errorf("it left the journal %+v, %v", j, err)
	}
	if err := errors.Join(os.RemoveAll(f.p.Volume), os.Rename(aside, f.p.Volume)); err != nil {
		t.Fatal(err)
	}
}

// primaryBegunEmpty has lost its volume, and no member that knows of the set's data answers when it
// starts.
func primaryBegunEmpty(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	replicas := []*set.Member{f.r1, f.r2}
	for _, r := range replicas {
		if err := r.StopSidecar(ctx); err != nil {
			t.Fatal(err)
		}
	}
	f.loseVolume(ctx, t, f.p)
	f.initialise(ctx, t, f.p)
	for _, r := range replicas {
		if err := r.StartSidecar(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.p.StartSidecar(), f.p.StartServer(ctx)); err != nil {
		t.Fatal(err)
	}
	f.reports(ctx, t, f.p, "it started empty and does not open for writes, because members have data: db-1 (")
	f.unready(ctx, t, f.p, "delete its volume claim and its pod")
	// Done. Its init may start empty now, but does not, since members with data answer.
	f.loseVolume(ctx, t, f.p)
	f.up(ctx, t, f.p)
	f.does(ctx, t, f.p, "take over the copy", "open for writes")
	for _, r := range replicas {
		f.ready(ctx, t, r)
	}
}

// passwordChangedUnderLag changes the password while the applier lags.
func passwordChangedUnderLag(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.p, "CREATE TABLE IF NOT EXISTS shop.level (a INT PRIMARY KEY)")
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'level'", "1")
	conn, err := f.r1.Server.DB().Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "LOCK TABLES shop.level READ"); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.p, "INSERT INTO shop.level VALUES (8)")
	f.arrives(ctx, t, f.r2, "SELECT COUNT(*) FROM shop.level WHERE a = 8", "1")
	if err := os.WriteFile(f.ReplicationPasswordFile(), []byte("a third replication password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "make the accounts")
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.run(ctx, t, r, f.stopReceiver)
		f.does(ctx, t, r, "start replication")
	}
	f.says(ctx, t, f.r1, "waiting", "once the applier has applied all that was received")
	if _, err := conn.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.does(ctx, t, r, "repoint replication")
		f.rests(ctx, t, r)
	}
}
