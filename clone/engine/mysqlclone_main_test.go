package engine

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"understudy/clone/volume"
	"understudy/clone/xbstream"
	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
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
	return unpacked(t, e, e.Backup, a, reached)
}

// handedOver is extracted without a snapshot.
func handedOver(t *testing.T, e *MySQLClone, a Account, reached func(Stage)) (dir string) {
	t.Helper()
	return unpacked(t, e, e.BackupDirect, a, reached)
}

// backupOf is a way to make a backup.
type backupOf func(ctx context.Context, a Account, dir string, reached func(Stage)) (*Process, error)

func unpacked(t *testing.T, e *MySQLClone, backup backupOf, a Account, reached func(Stage)) (dir string) {
	t.Helper()
	p, err := backup(t.Context(), a, "backup-1", reached)
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
