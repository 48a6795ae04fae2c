package engine

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

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
	inv, err = e.Inventory(t.Context(), account, s.Config().DataDir)
	if err != nil {
		t.Error(err)
	}
	all := strings.Join(inv.CannotCarry, "\n")
	if len(inv.CannotCarry) != 2 || !strings.Contains(all, "shop.old is of the engine MyISAM") || !strings.Contains(all, "shop.lines is of the engine CSV") {
		t.Errorf("named:\n%s", all)
	}
	if inv.Unable != nil {
		t.Errorf("unable: %v", inv.Unable)
	}
	execute(t, s.DB(), "DROP TABLE shop.old, shop.lines", "CREATE DATABASE "+MySQLCloneInfo)
	if inv, err = e.Inventory(t.Context(), account, s.Config().DataDir); err != nil || inv.Unable == nil || !strings.Contains(inv.Unable.Error(), "the schema "+MySQLCloneInfo) {
		t.Errorf("unable %v, %v", inv.Unable, err)
	}
	e.MinFree = math.MaxInt64 / 2
	if _, err := e.Backup(t.Context(), account, "backup-2", func(Stage) {}); !errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), "--min-free") {
		t.Errorf("error %v", err)
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

// What was changed meanwhile has to be there, where the copy was made in the way that needs it.
func TestMySQLClonePrepareWantsChanges(t *testing.T) {
	for _, missing := range []bool{false, true} {
		dir := t.TempDir()
		files := map[string]string{"mysql.ibd": "", "ibdata1": "", "undo_001": "", "#innodb_redo/#ib_redo0": "", MySQLCloneInfo: typeRaw + changesKey + " = " + changesName + "\n"}
		if !missing {
			var b bytes.Buffer
			if err := (&changes{w: nopCloser{&b}}).end(); err != nil {
				t.Fatal(err)
			}
			files[changesName] = b.String()
		}
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := newClone(t).Prepare(t.Context(), dir, 0); errors.Is(err, errChanges) != missing || (err != nil) != missing {
			t.Errorf("missing %v: %v", missing, err)
		}
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
