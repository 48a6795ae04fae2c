package engine

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"understudy/clone/mysqlwire"
	"understudy/clone/xbstream"
	"understudy/e2e/testserver"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

// A server under a writer hands over its data; the copy boots, has all schemas and every row of a
// moment of the donor's history, and knows its GTIDs.
func TestMySQLDirectWithGTID(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	account.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a server of the test's
	fill(t, s.DB(), 256)
	e := newClone(t)
	stop := keepWriting(t, s.DB())
	var stages []Stage
	dir := handedOver(t, e, account, func(s Stage) { stages = append(stages, s) })
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
	if last := query[int](t, copied, "SELECT MAX(id) FROM shop.orders"); got != last || got > rows || got == 0 {
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
func TestMySQLDirectOfAPrimaryWithoutGTID(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, noGTIDOptions...)
	fill(t, s.DB(), 0)
	e := newClone(t)
	dir := handedOver(t, e, account, func(Stage) {})
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

// A replica without GTIDs stands still for a moment at the end; the copy replicates from where it
// stood.
func TestMySQLDirectOfAReplicaWithoutGTID(t *testing.T) {
	in := mysql97(t)
	source, _ := startInstallation(t, in, append(noGTIDOptions, "--server-id=1")...)
	replica, account := startInstallation(t, in, append(noGTIDOptions, "--server-id=2")...)
	follow(t, replica.DB(), source, "SOURCE_LOG_FILE='binlog.000001', SOURCE_LOG_POS=4")
	fill(t, source.DB(), 32)
	stop := keepWriting(t, source.DB())
	eventually(t, "replication", func() bool {
		var n int
		return replica.DB().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM shop.orders").Scan(&n) == nil && n > 10
	})
	e := newClone(t)
	wantHoldRefused(t, e, account, replica.DB())
	held := false
	dir := handedOver(t, e, account, func(s Stage) {
		switch {
		case strings.HasPrefix(string(s), "waiting for the applier"):
			held = true
		case e.Holding():
			t.Errorf("the applier stands still while the server is %s", s)
		}
	})
	if !held || e.Holding() {
		t.Errorf("the applier stood still: %v, and does: %v", held, e.Holding())
	}
	o := prepared(t, e, dir)
	if o.Mode != origin.Position || o.Of != origin.Source || o.File == "" || o.Position == 0 {
		t.Fatalf("origin %+v", o)
	}
	copied := boot(t, in, dir, append(noGTIDOptions, "--server-id=3", "--skip-replica-start")...)
	execute(t, copied, "STOP REPLICA", "RESET REPLICA ALL")
	follow(t, copied, source, fmt.Sprintf("SOURCE_LOG_FILE='%s', SOURCE_LOG_POS=%d", o.File, o.Position))
	rows := stop()
	for name, db := range map[string]*sql.DB{"replica": replica.DB(), "copy": copied} {
		eventually(t, name, func() bool { return query[int](t, db, "SELECT COUNT(*) FROM shop.orders") == rows })
		wantSame(t, source.DB(), db)
	}
}

// wantHoldRefused: an account that may copy the server, and not have its applier stand still, is refused
// before anything begins.
func wantHoldRefused(t *testing.T, e *MySQLClone, a Account, db *sql.DB) {
	t.Helper()
	execute(t, db, "CREATE USER half@'%' IDENTIFIED BY 'x'", "GRANT BACKUP_ADMIN, PROCESS, SHOW VIEW ON *.* TO half@'%'", "GRANT SELECT ON performance_schema.* TO half@'%'")
	a.User, a.Password = "half", "x"
	_, err := e.BackupDirect(t.Context(), a, "", func(Stage) {})
	for _, want := range []string{"GRANT REPLICATION_SLAVE_ADMIN ON *.* TO 'half'@'%'", "GRANT SELECT ON mysql.slave_relay_log_info TO 'half'@'%'"} {
		if !errors.Is(err, ErrUnable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func follow(t *testing.T, db *sql.DB, source *testserver.Server, from string) {
	t.Helper()
	c := source.Config()
	execute(t, db, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='root', SOURCE_PASSWORD='%s', SOURCE_SSL=1, %s",
		c.Addr, c.Port, rootPassword, from), "START REPLICA")
}

// wantSame compares all tables.
func wantSame(t *testing.T, want, got *sql.DB) {
	t.Helper()
	sums := func(db *sql.DB) map[string]string {
		tables, err := column(t.Context(), db, "SELECT CONCAT('`', table_schema, '`.`', table_name, '`') FROM information_schema.tables "+
			"WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')")
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, name := range tables {
			var table string
			var sum sql.NullString
			if err := db.QueryRowContext(t.Context(), "CHECKSUM TABLE "+name).Scan(&table, &sum); err != nil {
				t.Fatal(err)
			}
			var kind, message string
			if err := db.QueryRowContext(t.Context(), "CHECK TABLE "+name).Scan(&table, &kind, &kind, &message); err != nil {
				t.Fatal(err)
			}
			all[name] = message + " " + sum.String
		}
		return all
	}
	if d := cmp.Diff(sums(want), sums(got)); d != "" {
		t.Error(d)
	}
}

// What DDL statements do meanwhile is right in the copy: tables are made, altered, renamed, emptied
// and dropped, and made again under the same name, with compressed pages, rows and in tablespaces
// of several tables.
func TestMySQLDirectDuringDDL(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, append(cloneOptions, "--server-id=1")...)
	db := s.DB()
	fill(t, db, 128)
	execute(t, db, "CREATE TABLESPACE several ADD DATAFILE 'several.ibd'", "CREATE TABLE shop.a1 (id INT PRIMARY KEY, v TEXT) TABLESPACE several",
		"CREATE DATABASE `"+changesName+"`", "CREATE TABLE `"+changesName+"`.t (id INT PRIMARY KEY)", "CREATE DATABASE understudy_changes", "CREATE TABLE understudy_changes.t (id INT PRIMARY KEY)",
		"CREATE TABLE shop.`Ünïcode #1/.` (id INT PRIMARY KEY, v TEXT)", "CREATE TABLE shop.parts (id INT PRIMARY KEY, v TEXT) PARTITION BY HASH (id) PARTITIONS 4",
		"CREATE TABLE shop.holes (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT) COMPRESSION='zlib'", "CREATE TABLE shop.zip (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8")
	for range 20 {
		execute(t, db, "INSERT INTO shop.holes (v) VALUES (REPEAT('z', 1 << 20))", "INSERT INTO shop.zip (v) VALUES (REPEAT('z', 1 << 20))")
	}
	flush(t, db)
	var pictured atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	ddl := make(chan struct{})
	go func() {
		defer close(ddl)
		for i := 0; ctx.Err() == nil; i++ {
			for _, text := range churn(i) {
				if err := alter(context.WithoutCancel(ctx), db, text); err != nil {
					t.Errorf("%s: %v", text, err)
					return
				}
				pictured.Add(1)
			}
		}
	}()
	eventually(t, "DDL", func() bool { return pictured.Load() > 30 })
	e := newClone(t)
	before := pictured.Load()
	const meanwhile = 20
	several := func() bool { return pictured.Load()-before >= meanwhile }
	dir := unpacked(t, e, slowly(e.BackupDirect, several), account, func(Stage) {})
	if !several() {
		t.Errorf("only %d statements ran meanwhile", pictured.Load()-before)
	}
	cancel()
	<-ddl
	prepared(t, e, dir)
	if info := blocks(t, dir+"/shop/holes.ibd"); info[0] > info[1]/2 {
		t.Errorf("the table with compressed pages takes %d of %d bytes", info[0], info[1])
	}
	copied := boot(t, in, dir, append(cloneOptions, "--server-id=2")...)
	follow(t, copied, s, "SOURCE_AUTO_POSITION=1")
	executed := query[string](t, db, "SELECT @@GLOBAL.gtid_executed")
	if query[int](t, copied, "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 600)", executed) != 0 {
		t.Fatalf("the copy does not replicate: %s", query[string](t, copied, "SELECT last_error_message FROM performance_schema.replication_applier_status_by_worker ORDER BY last_error_message DESC LIMIT 1"))
	}
	wantSame(t, db, copied)
}

// alter runs a DDL statement. An undo tablespace can be dropped once the server has emptied it.
func alter(ctx context.Context, db *sql.DB, text string) error {
	for begun := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		_, err := db.ExecContext(ctx, text)
		if err == nil || !strings.HasPrefix(text, "DROP UNDO") || time.Since(begun) > patience {
			return err
		}
	}
}

// flush waits until the server has written all pages: those that it writes meanwhile come
// uncompressed.
func flush(t *testing.T, db *sql.DB) {
	t.Helper()
	execute(t, db, "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0", "SET GLOBAL innodb_max_dirty_pages_pct = 0")
	eventually(t, "flush", func() bool {
		return query[int](t, db, "SELECT CAST(variable_value AS SIGNED) FROM performance_schema.global_status WHERE variable_name = 'Innodb_buffer_pool_pages_dirty'") == 0
	})
}

// churn are the DDL statements of one round.
func churn(i int) []string {
	v := fmt.Sprintf("REPEAT('%d', 30000)", i%10)
	return []string{
		fmt.Sprintf("CREATE TABLE shop.new_%d (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT)", i),
		fmt.Sprintf("INSERT INTO shop.new_%d (v) VALUES (%s), (%s), (%s)", i, v, v, v),
		fmt.Sprintf("CREATE TABLE shop.gone (id INT PRIMARY KEY, n INT) ROW_FORMAT=%s", []string{"DYNAMIC", "COMPRESSED"}[i%2]),
		fmt.Sprintf("INSERT INTO shop.gone VALUES (1, %d)", i),
		fmt.Sprintf("RENAME TABLE shop.gone TO shop.swapped, shop.new_%d TO shop.gone", i),
		fmt.Sprintf("RENAME TABLE shop.gone TO shop.new_%d", i),
		"DROP TABLE shop.swapped",
		fmt.Sprintf("ALTER TABLE shop.new_%d ADD COLUMN w INT, ADD INDEX (w), ALGORITHM=INPLACE", i),
		fmt.Sprintf("ALTER TABLE shop.new_%d ENGINE=InnoDB", i),
		fmt.Sprintf("ALTER TABLE shop.`Ünïcode #1/.` COMMENT 'round %d', FORCE", i),
		"TRUNCATE TABLE shop.parts",
		fmt.Sprintf("INSERT INTO shop.parts VALUES (%d, %s), (%d, %s)", i, v, i+1, v),
		fmt.Sprintf("REPLACE INTO shop.a1 VALUES (%d, %s)", i%7, v),
		"INSERT INTO shop.holes (v) VALUES (REPEAT('y', 100000))",
		fmt.Sprintf("CREATE UNDO TABLESPACE u%d ADD DATAFILE 'u%d.ibu'", i%2, i), fmt.Sprintf("ALTER UNDO TABLESPACE u%d SET INACTIVE", i%2), fmt.Sprintf("DROP UNDO TABLESPACE u%d", i%2),
		fmt.Sprintf("CREATE DATABASE d%d", i), fmt.Sprintf("CREATE TABLE d%d.t (id INT PRIMARY KEY)", i), fmt.Sprintf("INSERT INTO d%d.t VALUES (%d)", i, i),
	}
}

// slowly reads slowly, so that the server has to wait, and far more slowly until something is done.
func slowly(backup backupOf, done func() bool) backupOf {
	return func(ctx context.Context, a Account, dir string, reached func(Stage)) (*Process, error) {
		p, err := backup(ctx, a, dir, reached)
		if err == nil {
			p.Stdout = slowReader{p.Stdout, done}
		}
		return p, err
	}
}

type slowReader struct {
	io.ReadCloser

	done func() bool
}

func (r slowReader) Read(p []byte) (int, error) {
	pause := 2 * time.Millisecond
	if !r.done() {
		pause = 20 * time.Millisecond
	}
	time.Sleep(pause)
	return r.ReadCloser.Read(p[:min(len(p), 64<<10)])
}

// However it ends, nothing is left in the server, and the next one works at once.
func TestMySQLDirectIsEnded(t *testing.T) {
	in := mysql97(t)
	s, account := startInstallation(t, in, cloneOptions...)
	fill(t, s.DB(), 256)
	boom := errors.New("boom")
	begin := func(t *testing.T, ctx context.Context, e *MySQLClone, n int64) *Process {
		t.Helper()
		p, err := e.BackupDirect(ctx, account, "", func(Stage) {})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.CopyN(io.Discard, p.Stdout, n); err != nil {
			t.Errorf("%d bytes came: %v", got, err)
		}
		return p
	}
	cancelled := func(n int64) func(t *testing.T, e *MySQLClone) error {
		return func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			ctx, cancel := context.WithCancelCause(t.Context())
			p := begin(t, ctx, e, n)
			cancel(boom)
			_ = p.Stdout.Close()
			return p.Wait()
		}
	}
	tests := []struct {
		name string
		run  func(t *testing.T, e *MySQLClone) error
		want error
	}{
		{"before the first byte", cancelled(0), context.Canceled},
		{"while files are copied", cancelled(1 << 20), boom},
		{"later", cancelled(200 << 20), boom},
		{"the reader leaves", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			p := begin(t, t.Context(), e, 1<<20)
			_ = p.Stdout.Close()
			return p.Wait()
		}, io.ErrClosedPipe},
		{"another clone runs", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			p := begin(t, t.Context(), newClone(t), 1)
			mine := begin(t, t.Context(), e, 0)
			n, _ := io.Copy(io.Discard, mine.Stdout)
			if n > 0 {
				t.Errorf("%d bytes came", n)
			}
			_, _ = io.Copy(io.Discard, p.Stdout)
			return errors.Join(mine.Wait(), p.Wait())
		}, ErrBusy},
		{"another backup runs", func(t *testing.T, e *MySQLClone) error {
			t.Helper()
			p := begin(t, t.Context(), e, 1)
			_, err := e.BackupDirect(t.Context(), account, "", func(Stage) {})
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
			p := begin(t, t.Context(), e, 0)
			_, err := xbstream.Check(t.Context(), p.Stdout, xbstream.Options{})
			if err = errors.Join(err, p.Stdout.Close(), p.Wait()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("the server is killed", func(t *testing.T) {
		e := newClone(t)
		p := begin(t, t.Context(), e, 1<<20)
		s.Kill()
		_, _ = io.Copy(io.Discard, p.Stdout)
		if err := p.Wait(); err == nil {
			t.Error("it ended well")
		}
	})
}

// blocks are a file's bytes on disk, and its size.
func blocks(t *testing.T, path string) [2]int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return [2]int64{onDisk(info), info.Size()}
}

func onDisk(info os.FileInfo) int64 {
	const block = 512 // see stat(2)
	return info.Sys().(*syscall.Stat_t).Blocks * block
}

func mysqlFile(name string) mysqlwire.File {
	return mysqlwire.File{Stage: mysqlwire.FileCopy, Name: name}
}
