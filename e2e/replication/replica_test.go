//go:build replication

package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// to changes a channel; each % of the options becomes the flavour's word.
func (w words) to(options string) string { return w.change + strings.ReplaceAll(options, "%", w.word) }

// unfenced are statements that a member would refuse because it is read-only. They leave no trace in
// its binary logs. Nobody may take the member for one that is open meanwhile: a primary would be
// taken for one that goes on without what it lacks.
func (w words) unfenced(statements ...string) []string {
	all := append([]string{}, w.admit...)
	all = append(append(all, "SET SESSION sql_log_bin = 0"), statements...)
	return append(append(all, "SET SESSION sql_log_bin = 1"), w.fence...)
}

func replicaKilled(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.r1.Server.Kill()
	f.says(ctx, t, f.r1, "waiting", "the server does not answer")
	if err := f.r1.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.r1, "start replication")
	f.rests(ctx, t, f.r1)
}

func sidecarsKilled(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	for _, m := range f.all() {
		m.KillSidecar()
		if err := m.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		f.rests(ctx, t, m)
	}
}

func writableReplica(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, f.open...)
	f.does(ctx, t, f.r1, "make read-only")
	f.rests(ctx, t, f.r1)
}

func secondChannel(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, f.named)
	f.reports(ctx, t, f.r1, "channels that understudy did not make: east")
	f.run(ctx, t, f.r1, f.forget)
	f.rests(ctx, t, f.r1)
}

func threadsStopped(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	for _, stop := range []string{f.stop, f.stopApplier, f.stopReceiver} {
		f.run(ctx, t, f.r1, stop)
		f.does(ctx, t, f.r1, "start replication")
		f.rests(ctx, t, f.r1)
	}
}

func channelRemoved(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, f.stop, f.reset)
	f.does(ctx, t, f.r1, "repoint replication")
	f.rests(ctx, t, f.r1)
}

func wrongSource(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	for _, options := range []string{"%_HOST = '127.0.0.9'", "%_PORT = 3309", "%_USER = 'somebody'"} {
		f.run(ctx, t, f.r1, f.stop, f.to(options))
		f.does(ctx, t, f.r1, "repoint replication")
		f.rests(ctx, t, f.r1)
	}
}

// rowsDiffer makes a row that the primary makes, too, and takes one away that the primary changes.
func rowsDiffer(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.p, "CREATE TABLE shop.differs (a INT PRIMARY KEY)")
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'differs'", "1")
	const insert, remove = "INSERT INTO shop.differs VALUES (5)", "DELETE FROM shop.differs WHERE a = 5"
	f.run(ctx, t, f.r1, f.unfenced(insert)...)
	f.run(ctx, t, f.p, insert)
	f.reports(ctx, t, f.r1, "the applier stopped with error 1062")
	f.unready(ctx, t, f.r1, "no event is skipped")
	f.run(ctx, t, f.r1, f.unfenced(remove)...)
	f.run(ctx, t, f.r1, f.startApplier)
	f.rests(ctx, t, f.r1)
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM shop.differs", "1")

	f.run(ctx, t, f.r1, f.unfenced(remove)...)
	f.run(ctx, t, f.p, append(slices.Clip(f.byRow), remove)...)
	f.reports(ctx, t, f.r1, "the applier stopped with error 1032")
	f.run(ctx, t, f.r1, f.unfenced(insert)...)
	f.run(ctx, t, f.r1, f.startApplier)
	f.rests(ctx, t, f.r1)
}

// harmless makes a replica log transactions of its own that change no data. It keeps its data.
func harmless(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	forgets := func(m *set.Member, words string) {
		t.Helper()
		f.says(ctx, t, m, `"step":"forget what changed no data"`, words)
		f.does(ctx, t, m, "configure replication", "start replication", "record that the member is attached")
		f.rests(ctx, t, m)
	}
	taken := f.gives(ctx, t, f.r2)
	f.run(ctx, t, f.r2, "FLUSH STATUS") // the writer's next commit is MariaDB's error 1950
	f.says(ctx, t, f.r2, "waiting", "will be forgotten when the clone")
	taken()
	forgets(f.r2, "FLUSH STATUS")

	f.run(ctx, t, f.p, "CREATE TABLE shop.memory (a INT PRIMARY KEY) ENGINE = MEMORY", "INSERT INTO shop.memory VALUES (1)")
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'shop' AND table_name = 'memory'", "1")
	const count = "SELECT COUNT(*) FROM shop.memory"
	f.arrives(ctx, t, f.r1, count, "1")
	if err := f.r1.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.r1.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	if n := f.ask(ctx, t, f.r1, count); n != "0" {
		t.Errorf("a MEMORY table has %s rows after a restart", n)
	}
	forgets(f.r1, "emptied the MEMORY table shop.memory")
	f.run(ctx, t, f.p, append(slices.Clip(f.byRow), "DELETE FROM shop.memory")...)
	f.reports(ctx, t, f.r1, "shop.memory is a MEMORY table")
	f.run(ctx, t, f.r1, f.unfenced("INSERT INTO shop.memory VALUES (1)")...)
	f.run(ctx, t, f.r1, f.startApplier)
	f.run(ctx, t, f.p, "DROP TABLE shop.memory")
	f.rests(ctx, t, f.r1)
}

// gives has a member give a clone, which stands still until it is taken.
func (f *fixture) gives(ctx context.Context, t *testing.T, m *set.Member) (taken func()) {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, "clone-from", m.Host, "--to", "-", "--set=db", "--secret-file="+f.SecretFile())
	stream, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		_, err := io.Copy(io.Discard, stream)
		if err := errors.Join(err, cmd.Wait()); err != nil {
			t.Error(err)
		}
	}
}

// arrives waits until a query on a replica has this result.
func (f *fixture) arrives(ctx context.Context, t *testing.T, m *set.Member, query, want string) {
	t.Helper()
	f.until(ctx, t, query, func() bool { return f.ask(ctx, t, m, query) == want })
}

func sameServerID(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, "SET GLOBAL server_id = 100", f.stop) // it is the start that compares the two
	f.reports(ctx, t, f.r1, "see --server-id-base")
	f.run(ctx, t, f.r1, "SET GLOBAL server_id = 101", f.stop, f.start)
	f.rests(ctx, t, f.r1)
}

func replicaUnsafe(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, "SET GLOBAL sync_binlog = 0")
	f.reports(ctx, t, f.r1, `sync_binlog is "0", not "1"`)
	f.run(ctx, t, f.r1, "SET GLOBAL sync_binlog = 1")
	f.rests(ctx, t, f.r1)
}

func volumeLost(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.reseed(ctx, t, f.r2)
	f.rests(ctx, t, f.r2)
}

func copyUnsafe(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.loseVolume(ctx, t, f.r2)
	f.initialise(ctx, t, f.r2)
	unsafe := filepath.Join(f.r2.Config, "zz.cnf")
	if err := os.WriteFile(unsafe, []byte("[mysqld]\nsync_binlog = 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.r2.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	if err := f.r2.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.reports(ctx, t, f.r2, `sync_binlog is "0", not "1"`)
	f.unready(ctx, t, f.r2, "safety options did not take")
	if err := os.Remove(unsafe); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.r2, "SET GLOBAL sync_binlog = 1")
	f.does(ctx, t, f.r2, "configure replication", "start replication", "record that the member is attached")
	f.rests(ctx, t, f.r2)
}

// errant writes transactions on a replica that its source lacks, and returns the GTID set. The
// sidecar is stopped meanwhile: it would start the threads between two statements.
func (f *fixture) errant(ctx context.Context, t *testing.T, m *set.Member) (gtids string) {
	t.Helper()
	if err := m.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	statements := append([]string{f.stop}, f.open...)
	statements = append(statements, "CREATE TABLE IF NOT EXISTS shop.errant (a INT PRIMARY KEY)", "INSERT INTO shop.errant VALUES (1)")
	f.run(ctx, t, m, append(statements, f.fence...)...)
	if f.flavour == testserver.MySQL {
		gtids = f.ask(ctx, t, m, "SELECT @@server_uuid") + ":1-2"
	} else {
		last := f.ask(ctx, t, m, "SELECT SUBSTRING_INDEX(@@gtid_binlog_pos, '-', -1)")
		n, err := strconv.Atoi(last)
		if err != nil {
			t.Fatal(err)
		}
		gtids = fmt.Sprintf("0-%s-%d..%d", f.ask(ctx, t, m, "SELECT @@server_id"), n-1, n)
	}
	if err := m.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	return gtids
}

func errantReplica(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	gtids := f.errant(ctx, t, f.r2)
	f.reports(ctx, t, f.r2, "the source lacks transactions that this member has: "+gtids)
	f.unready(ctx, t, f.r2, gtids)
	f.reseed(ctx, t, f.r2)
	f.rests(ctx, t, f.r2)
}

// errantBrought brings a replica's errant transactions to the primary, under the same GTIDs. On
// MariaDB that cannot be done under a writer, which has used the same numbers.
func errantBrought(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	gtids := f.errant(ctx, t, f.r2)
	f.reports(ctx, t, f.r2, gtids)
	uuid, _, _ := strings.Cut(gtids, ":")
	f.run(ctx, t, f.p,
		"SET gtid_next = '"+uuid+":1'", "CREATE TABLE IF NOT EXISTS shop.errant (a INT PRIMARY KEY)",
		"SET gtid_next = '"+uuid+":2'", "INSERT INTO shop.errant VALUES (1)", "SET gtid_next = AUTOMATIC")
	f.does(ctx, t, f.r2, "start replication")
	f.rests(ctx, t, f.r2)
}

// away stops a replica until the primary has purged what it lacks.
func away(ctx context.Context, t *testing.T, f *fixture, m *set.Member) {
	t.Helper()
	f.down(ctx, t, m)
	f.run(ctx, t, f.p, "CREATE TABLE IF NOT EXISTS shop.missed (a INT PRIMARY KEY)", "DROP TABLE shop.missed")
	f.purge(ctx, t, f.p)
	f.up(ctx, t, m)
}

// purge removes all of a member's binary logs but an empty one.
func (f *fixture) purge(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	f.run(ctx, t, m, "FLUSH BINARY LOGS")
	f.until(ctx, t, "old binary logs are gone", func() bool {
		var names []string
		rows, err := m.Server.DB().QueryContext(ctx, "SHOW BINARY LOGS")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		var name string
		values[0] = &name
		for rows.Next() {
			if err := rows.Scan(values...); err != nil {
				t.Fatal(err)
			}
			names = append(names, name)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if len(names) > 1 { // a log that is being sent to somebody stays for a while
			f.run(ctx, t, m, "PURGE BINARY LOGS TO '"+names[len(names)-1]+"'")
		}
		return len(names) == 1
	})
}

func purged(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	away(ctx, t, f, f.r2)
	f.reports(ctx, t, f.r2, "the source has purged transactions that this member lacks")
	f.unready(ctx, t, f.r2, "reseed this member")
	f.reseed(ctx, t, f.r2)
	f.rests(ctx, t, f.r2)
}

func purgedUnseen(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	away(ctx, t, f, f.r2)
	f.reports(ctx, t, f.r2, "the receiver stopped with error 1236")
	f.reseed(ctx, t, f.r2)
	f.rests(ctx, t, f.r2)
}

// byPosition makes a replica replicate by file and position, as old sets do.
func byPosition(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, f.stop, f.to(f.byPosition+", %_USER = 'somebody'"))
	f.does(ctx, t, f.r1, "repoint replication")
	f.rests(ctx, t, f.r1)
	f.run(ctx, t, f.r1, f.stop, f.to("%_HOST = '127.0.0.9'"))
	f.reports(ctx, t, f.r1, "by file and position, which mean nothing at")
	f.toGTID(ctx, t, f.r1)
}

// toGTID makes a replica use GTIDs again.
func (f *fixture) toGTID(ctx context.Context, t *testing.T, r *set.Member) {
	t.Helper()
	f.run(ctx, t, r, f.stop, f.to(fmt.Sprintf("%%_HOST = '%s', %%_USER = 'somebody', ", f.p.Host)+f.byGTID))
	f.does(ctx, t, r, "repoint replication")
	f.rests(ctx, t, r)
}

// cloneByPosition clones a replica that replicates by file and position. MySQL's copies still have
// their GTIDs.
func cloneByPosition(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.r1, f.stop, f.to(f.byPosition))
	f.does(ctx, t, f.r1, "repoint replication") // CHANGE MASTER has set the heartbeat back
	f.rests(ctx, t, f.r1)
	f.loseVolume(ctx, t, f.r2)
	f.up(ctx, t, f.r2)
	f.says(ctx, t, f.r2, "configure replication", "a fresh copy, from")
	f.rests(ctx, t, f.r2)
	f.run(ctx, t, f.r2, f.stop, f.reset)
	f.reports(ctx, t, f.r2, "its file and position went with it")
	f.toGTID(ctx, t, f.r1)
	f.toGTID(ctx, t, f.r2)
}

// adopted gives a member a directory of unknown origin.
func adopted(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	if err := f.r2.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.r2, f.stop, f.reset)
	f.down(ctx, t, f.r2)
	known := []string{filepath.Join(f.r2.Volume, ".understudy", "journal")}
	for _, pattern := range []string{"understudy_clone_info", "xtrabackup_*", "mariadb_backup_*"} {
		paths, err := filepath.Glob(filepath.Join(f.r2.Live(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, paths...)
	}
	for _, path := range known {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	f.up(ctx, t, f.r2)
	f.does(ctx, t, f.r2, "record that the data directory is complete")
	f.reports(ctx, t, f.r2, "nothing says from where to replicate")
	f.unready(ctx, t, f.r2, "configure it by hand or reseed this member")
	f.toGTID(ctx, t, f.r2)
}
