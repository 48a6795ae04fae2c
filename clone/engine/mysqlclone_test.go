package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/volume"
	"understudy/clone/xbstream"
	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

// patience bounds what a test waits for.
const patience = time.Minute

// With these options a server can be copied by itself. GTIDs are on by default since 9.7, and
// off in all versions before.
var (
	cloneOptions  = []string{"--plugin-load-add=mysql_clone.so", "--log-bin=binlog", "--gtid-mode=ON", "--enforce-gtid-consistency=ON"}
	noGTIDOptions = []string{"--plugin-load-add=mysql_clone.so", "--log-bin=binlog", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}
)

func mysql97(t *testing.T) testserver.Installation {
	t.Helper()
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	return in
}

// newClone is an engine with an empty directory of its own.
func newClone(t *testing.T) *MySQLClone {
	t.Helper()
	return &MySQLClone{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
}

// fill gives a server a table of about so many MiB, and one that is easy to compare.
func fill(t *testing.T, db *sql.DB, mib int) {
	t.Helper()
	execute(t, db, "CREATE DATABASE shop", "CREATE DATABASE vacant",
		"CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, filler VARCHAR(200))",
		"CREATE TABLE shop.pictures (id INT PRIMARY KEY AUTO_INCREMENT, picture LONGBLOB)")
	for range mib / 8 {
		execute(t, db, "INSERT INTO shop.pictures (picture) VALUES (REPEAT('x', 8 << 20))")
	}
}

// keepWriting keeps a server's applier busy until the function that it returns is called, which
// tells how many rows there are.
func keepWriting(t *testing.T, db *sql.DB) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	rows, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := db.ExecContext(context.WithoutCancel(ctx), "INSERT INTO shop.orders (filler) VALUES (REPEAT('y', 200))"); err != nil {
				t.Errorf("writer: %v", err)
				return
			}
			rows++
		}
	}()
	stop = func() int {
		cancel()
		<-done
		return rows
	}
	t.Cleanup(func() { stop() })
	return stop
}

// extracted makes a copy with the engine, and leaves nothing where it was made.
func extracted(t *testing.T, e *MySQLClone, a Account, reached func(Stage)) (dir string) {
	t.Helper()
	p, err := e.Backup(t.Context(), a, "backup-1", reached)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	_, err = xbstream.Extract(t.Context(), p.Stdout, root, xbstream.Options{})
	if err = errors.Join(err, p.Stdout.Close(), p.Wait()); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, e.Dir)
	return dir
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%s holds %v, %v", dir, entries, err)
	}
}

// prepared is a copy that a server can start on, and its origin.
func prepared(t *testing.T, e *MySQLClone, dir string) origin.Origin {
	t.Helper()
	if live, err := volume.Inspect(dir); err != nil || live.Content != volume.Incomplete {
		t.Errorf("before the prepare: %+v, %v", live, err)
	}
	if err := e.Prepare(t.Context(), dir, 0); err != nil {
		t.Fatal(err)
	}
	if live, err := volume.Inspect(dir); err != nil || live.Content != volume.Copy {
		t.Errorf("after the prepare: %+v, %v", live, err)
	}
	o, err := volume.Origin(dir, flavor.MySQL)
	if err != nil || o == nil {
		t.Fatal(o, err)
	}
	return *o
}

func boot(t *testing.T, in testserver.Installation, dir string, extra ...string) *sql.DB {
	t.Helper()
	s, err := in.Start(t.Context(), testserver.Config{DataDir: dir, RootPassword: rootPassword, Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s.DB()
}

func query[T any](t *testing.T, db *sql.DB, text string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRowContext(t.Context(), text, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for begun := time.Now(); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// A server under a writer is copied; the copy boots, has all schemas and every row of a
// moment of the donor's history, and knows its GTIDs.
func TestMySQLCloneWithGTID(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 64)
	e := newClone(t)
	stop := keepWriting(t, s.DB())
	var stages []Stage
	dir := extracted(t, e, account, func(s Stage) { stages = append(stages, s) })
	rows := stop()
	o := prepared(t, e, dir)
	if len(stages) == 0 || stages[len(stages)-1] != Copying {
		t.Errorf("stages %q", stages)
	}
	uuid := query[string](t, s.DB(), "SELECT @@server_uuid")
	if o.Mode != origin.GTID || o.Of != origin.Donor || !strings.HasPrefix(o.GTID, uuid+":1-") {
		t.Errorf("origin %+v", o)
	}
	copied := boot(t, in, dir, cloneOptions...)
	if query[int](t, copied, "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)", o.GTID) != 1 {
		t.Error("the copy lacks transactions that were executed before")
	}
	got := query[int](t, copied, "SELECT COUNT(*) FROM shop.orders")
	if last := query[int](t, copied, "SELECT MAX(id) FROM shop.orders"); got != last || got > rows {
		t.Errorf("%d rows up to number %d of %d written", got, last, rows)
	}
	const sums = "SELECT GROUP_CONCAT(SHA2(picture, 256) ORDER BY id) FROM shop.pictures"
	if query[string](t, copied, sums) != query[string](t, s.DB(), sums) {
		t.Error("the pictures differ")
	}
	execute(t, copied, "USE vacant", "CREATE TABLE vacant.t (id INT PRIMARY KEY)")
	if query[string](t, copied, "SELECT @@server_uuid") == uuid {
		t.Error("the copy has the donor's identity")
	}
}

// Without GTIDs the copy of a primary knows its coordinate once a server has started on it.
func TestMySQLCloneOfAPrimaryWithoutGTID(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, noGTIDOptions...)
	fill(t, s.DB(), 0)
	e := newClone(t)
	dir := extracted(t, e, account, func(Stage) {})
	if d := cmp.Diff(origin.Origin{Mode: origin.FirstBoot, Of: origin.Donor}, prepared(t, e, dir)); d != "" {
		t.Error(d)
	}
	copied := boot(t, in, dir, noGTIDOptions...)
	const clone = "SELECT CONCAT(binlog_file, ':', binlog_position) FROM performance_schema.clone_status"
	var file, unused string
	var position int64
	if err := s.DB().QueryRowContext(t.Context(), "SHOW BINARY LOG STATUS").Scan(&file, &position, &unused, &unused, &unused); err != nil {
		t.Fatal(err)
	}
	if got, want := query[string](t, copied, clone), fmt.Sprintf("%s:%d", file, position); got != want {
		t.Errorf("the copy is at %s, the donor at %s", got, want)
	}
}

// A replica without GTIDs stands still while it is copied, and goes on; the copy
// replicates from where it stood, and becomes equal.
func TestMySQLCloneOfAReplicaWithoutGTID(t *testing.T) {
	in := mysql97(t)
	source, _ := startInstallation(t, in, append(noGTIDOptions, "--server-id=1")...)
	replica, account := startInstallation(t, in, append(noGTIDOptions, "--server-id=2")...)
	address := source.Config()
	follow := func(db *sql.DB, file string, position uint64) {
		execute(t, db, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='root', SOURCE_PASSWORD='%s', SOURCE_SSL=1, "+
			"SOURCE_LOG_FILE='%s', SOURCE_LOG_POS=%d", address.Addr, address.Port, rootPassword, file, position), "START REPLICA")
	}
	follow(replica.DB(), "binlog.000001", 4)
	fill(t, source.DB(), 32)
	stop := keepWriting(t, source.DB())
	eventually(t, "replication", func() bool {
		var n int
		return replica.DB().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM shop.orders").Scan(&n) == nil && n > 10
	})
	e := newClone(t)
	held := false
	dir := extracted(t, e, account, func(s Stage) {
		state := query[string](t, replica.DB(), "SELECT service_state FROM performance_schema.replication_applier_status WHERE channel_name = ''")
		if strings.HasPrefix(string(s), "snapshot") {
			held = held || state == "OFF" && e.Holding()
		}
		if s == Copying && (state != "ON" || e.Holding()) {
			t.Errorf("the applier is %s while the snapshot is streamed", state)
		}
	})
	if !held {
		t.Error("the applier was not seen to stand still")
	}
	o := prepared(t, e, dir)
	if o.Mode != origin.Position || o.Of != origin.Source || o.File == "" || o.Position == 0 {
		t.Fatalf("origin %+v", o)
	}
	copied := boot(t, in, dir, append(noGTIDOptions, "--server-id=3", "--skip-replica-start")...)
	execute(t, copied, "STOP REPLICA", "RESET REPLICA ALL")
	follow(copied, o.File, o.Position)
	wantMovedApplierRefused(t, e, account, replica.DB())
	rows := stop()
	for name, db := range map[string]*sql.DB{"replica": replica.DB(), "copy": copied} {
		eventually(t, name, func() bool { return query[int](t, db, "SELECT COUNT(*) FROM shop.orders") == rows })
		const sum = "SELECT BIT_XOR(CRC32(CONCAT(id, filler))) FROM shop.orders"
		if query[uint32](t, db, sum) != query[uint32](t, source.DB(), sum) {
			t.Errorf("the %s differs from the source", name)
		}
	}
}

// wantMovedApplierRefused starts the applier of a busy replica behind the engine's back.
func wantMovedApplierRefused(t *testing.T, e *MySQLClone, a Account, replica *sql.DB) {
	t.Helper()
	const count = "SELECT COUNT(*) FROM shop.orders"
	p, err := e.Backup(t.Context(), a, "backup-2", func(s Stage) {
		if strings.HasPrefix(string(s), "snapshot") {
			before := query[int](t, replica, count)
			execute(t, replica, "START REPLICA SQL_THREAD")
			eventually(t, "applier", func() bool { return query[int](t, replica, count) > before })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, p.Stdout)
	if err := p.Wait(); !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "started the applier") {
		t.Errorf("error %v", err)
	}
	wantEmpty(t, e.Dir)
}

// However a backup ends, neither its snapshot nor its CLONE is left, and the next one works.
func TestMySQLCloneIsEnded(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 256)
	boom := errors.New("boom")
	begin := func(t *testing.T, ctx context.Context, e *MySQLClone) *Process {
		t.Helper()
		p, err := e.Backup(ctx, account, "backup-1", func(Stage) {})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	written := func(t *testing.T, e *MySQLClone) {
		t.Helper()
		eventually(t, "snapshot", func() bool {
			_, err := os.Stat(filepath.Join(e.Dir, "backup-1", "mysql.ibd"))
			return err == nil
		})
	}
	tests := []struct {
		name string
		run  func(t *testing.T, e *MySQLClone) error
		want error
	}{
		{"cancelled while it is made", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			ctx, cancel := context.WithCancelCause(t.Context())
			p := begin(t, ctx, e)
			written(t, e)
			cancel(boom)
			_, _ = io.Copy(io.Discard, p.Stdout)
			return p.Wait()
		}, boom},
		{"cancelled while it is streamed", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			ctx, cancel := context.WithCancelCause(t.Context())
			p := begin(t, ctx, e)
			_, _ = io.CopyN(io.Discard, p.Stdout, 1<<20)
			cancel(boom)
			_, _ = io.Copy(io.Discard, p.Stdout)
			return p.Wait()
		}, boom},
		{"the reader leaves", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			p := begin(t, t.Context(), e)
			_, _ = io.CopyN(io.Discard, p.Stdout, 1<<20)
			_ = p.Stdout.Close()
			return p.Wait()
		}, io.ErrClosedPipe},
		{"the volume fills up", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			e.MinFree = math.MaxInt64
			p := begin(t, t.Context(), e)
			_, _ = io.Copy(io.Discard, p.Stdout)
			return p.Wait()
		}, ErrNoRoom},
		{"another CLONE runs", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			other := newClone(t)
			p := begin(t, t.Context(), other)
			written(t, other)
			mine := begin(t, t.Context(), e)
			n, _ := io.Copy(io.Discard, mine.Stdout)
			if n > 0 {
				t.Errorf("%d bytes came", n)
			}
			_, _ = io.Copy(io.Discard, p.Stdout)
			return errors.Join(mine.Wait(), p.Wait())
		}, ErrBusy},
		{"another backup runs", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			p := begin(t, t.Context(), e)
			_, err := e.Backup(t.Context(), account, "backup-2", func(Stage) {})
			_, _ = io.Copy(io.Discard, p.Stdout)
			return errors.Join(err, p.Wait())
		}, ErrBusy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newClone(t)
			if err := tt.run(t, e); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			wantEmpty(t, e.Dir)
			if n := query[int](t, s.DB(), "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_info LIKE 'CLONE%'"); n != 0 {
				t.Errorf("%d CLONEs go on", n)
			}
			e.MinFree = 0
			extracted(t, e, account, func(Stage) {})
		})
	}
}

// A process that was killed leaves a CLONE in the server, which goes on.
func TestMySQLCloneRecovers(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 256)
	e := newClone(t)
	ended := make(chan error, 1)
	go func() {
		_, err := s.DB().ExecContext(context.WithoutCancel(t.Context()), statementClone+"'"+filepath.Join(e.Dir, "orphan")+"'")
		ended <- err
	}()
	eventually(t, "CLONE", func() bool {
		_, err := os.Stat(filepath.Join(e.Dir, "orphan", "mysql.ibd"))
		return err == nil
	})
	if err := e.Recover(t.Context(), account); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("it was over already")
	}
	wantEmpty(t, e.Dir)
}

// A server that dies takes its CLONE with it, and leaves the files.
func TestMySQLCloneOfAServerThatDies(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 256)
	e := newClone(t)
	p, err := e.Backup(t.Context(), account, "backup-1", func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "snapshot", func() bool {
		_, err := os.Stat(filepath.Join(e.Dir, "backup-1", "mysql.ibd"))
		return err == nil
	})
	s.Kill()
	_, _ = io.Copy(io.Discard, p.Stdout)
	if err := p.Wait(); !errors.Is(err, ErrSnapshot) {
		t.Errorf("error %v", err)
	}
	wantEmpty(t, e.Dir)
}

// What is missing is said, before the first byte.
func TestMySQLCloneRefuses(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	execute(t, s.DB(), "CREATE USER least@'%' IDENTIFIED BY 'p'", "GRANT PROCESS ON *.* TO least@'%'")
	for _, table := range []string{"clone_progress", "clone_status", "threads", "replication_connection_configuration", "keyring_component_status"} {
		execute(t, s.DB(), "GRANT SELECT ON performance_schema."+table+" TO least@'%'")
	}
	least := account
	least.User, least.Password = "least", "p"
	tests := []struct {
		name    string
		account Account
		spoil   func(t *testing.T, e *MySQLClone)
		want    string
	}{
		{"privilege", least, func(*testing.T, *MySQLClone) {}, "GRANT BACKUP_ADMIN"},
		{"plugin", account, func(t *testing.T, _ *MySQLClone) {
			t.Helper()
			execute(t, s.DB(), "UNINSTALL PLUGIN clone")
		}, "plugin-load-add=mysql_clone.so"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newClone(t)
			tt.spoil(t, e)
			p, err := e.Backup(t.Context(), tt.account, "backup-1", func(Stage) {})
			if err == nil {
				n, _ := io.Copy(io.Discard, p.Stdout)
				if err = p.Wait(); n > 0 {
					t.Errorf("%d bytes came", n)
				}
			}
			if !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%q is not in: %v", tt.want, err)
			}
			wantEmpty(t, e.Dir)
			if tt.account == least {
				leastSuffices(t, s, least)
			}
		})
	}
}

// leastSuffices gives an account what the refusal asked for.
func leastSuffices(t *testing.T, s *testserver.Server, least Account) {
	t.Helper()
	execute(t, s.DB(), "GRANT BACKUP_ADMIN ON *.* TO least@'%'")
	e := newClone(t)
	if inv, err := e.Inventory(t.Context(), least, s.Config().DataDir); err != nil || inv.StreamBytes() == 0 {
		t.Errorf("inventory %+v, %v", inv, err)
	}
	extracted(t, e, least, func(Stage) {})
}

// A server that has another file system where its snapshots shall be is found out soon.
func TestMySQLCloneElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system for the server alone")
	}
	in := mysql97(t)
	e := newClone(t)
	script := "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs none " + e.Dir + " && exec \"$0\" \"$@\"' " + in.Server + " \"$@\"\n"
	in.Server = filepath.Join(t.TempDir(), "mysqld")
	if err := os.WriteFile(in.Server, []byte(script), 0o700); err != nil { //nolint:gosec // it has to be executable
		t.Fatal(err)
	}
	_, account := startInstallation(t, in, cloneOptions...)
	p, err := e.Backup(t.Context(), account, "backup-1", func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	n, _ := io.Copy(io.Discard, p.Stdout)
	if err := p.Wait(); n > 0 || !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), "mount the volume's sub-path .understudy/snapshot into the server's container, at "+e.Dir) {
		t.Errorf("%d bytes, error %v", n, err)
	}
}

// What a copy would lack is named, and so is the room that there is not.
func TestMySQLCloneInventory(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 16)
	e := newClone(t)
	inv, err := e.Inventory(t.Context(), account, s.Config().DataDir)
	if err != nil || len(inv.CannotCarry) > 0 || inv.Unable != nil {
		t.Errorf("inventory %+v, %v", inv, err)
	}
	p, err := e.Backup(t.Context(), account, "backup-1", func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	streamed, _ := io.Copy(io.Discard, p.Stdout)
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := inv.StreamBytes(); got < streamed*8/10 || got > streamed*12/10 {
		t.Errorf("estimated %d bytes, streamed %d", got, streamed)
	}
	execute(t, s.DB(), "CREATE TABLE shop.old (id INT) ENGINE=MyISAM", "CREATE TABLE shop.lines (id INT NOT NULL) ENGINE=CSV", "CREATE TABLE shop.brief (id INT) ENGINE=MEMORY")
	e.MinFree = math.MaxInt64 / 2
	inv, err = e.Inventory(t.Context(), account, s.Config().DataDir)
	if err != nil {
		t.Error(err)
	}
	all := strings.Join(inv.CannotCarry, "\n")
	if len(inv.CannotCarry) != 2 || !strings.Contains(all, "shop.old is of the engine MyISAM") || !strings.Contains(all, "shop.lines is of the engine CSV") {
		t.Errorf("named:\n%s", all)
	}
	if !errors.Is(inv.Unable, ErrNoRoom) || !strings.Contains(inv.Unable.Error(), "--min-free") {
		t.Errorf("unable: %v", inv.Unable)
	}
}

// A copy that lacks what no server starts without is found out by the prepare.
func TestMySQLClonePrepareFindsWhatIsMissing(t *testing.T) {
	whole := []string{"mysql.ibd", "ibdata1", "undo_001", "#innodb_redo/#ib_redo0"}
	for _, missing := range append(whole, "nothing") {
		t.Run(missing, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range append(whole, MySQLCloneInfo) {
				if name == missing {
					continue
				}
				path := filepath.Join(dir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(typeRaw), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			err := newClone(t).Prepare(t.Context(), dir, 0)
			if (err == nil) != (missing == "nothing") {
				t.Error(err)
			}
			if _, statErr := os.Stat(filepath.Join(dir, "mysql")); (statErr == nil) != (err == nil) && !errors.Is(statErr, fs.ErrNotExist) {
				t.Error(statErr)
			}
		})
	}
}

func TestMySQLClonePairing(t *testing.T) {
	e := newClone(t)
	first, err := e.Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for text, fits := range map[string]bool{
		"8.0.16": false, "5.7.44-log": false, "8.0.17": true, "8.4.7": true, "9.7.4-2": true, "10.11.19-MariaDB": false,
	} {
		server, err := flavor.ParseServer(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.CheckPairing(first, server); (err == nil) != fits || err != nil && !errors.Is(err, ErrPairing) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
