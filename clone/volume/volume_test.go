package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, root string) *Volume {
	t.Helper()
	v, err := Open(t.Context(), root, time.Second, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// fill makes files with their content; a name that ends in a slash is a directory.
func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o750); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	full     = "backup_type = full-prepared\nfrom_lsn = 0\n"
	applied  = "backup_type = log-applied\nfrom_lsn = 0\n"
	mariadb  = "uuid = x\ntool_name = mariadb-backup\n"
	percona  = "uuid = x\ntool_name = xtrabackup\n"
	backuped = "backup_type = full-backuped\nfrom_lsn = 0\n"
)

// What a redo log begins with: see redoCreator.
var zeros = strings.Repeat("\x00", 512)

const (
	serverRedo = "Phys\x00\x00\x00\x00\x00\x00\x00\x00\x00\x000\x00MariaDB 10.11.19\x00"
	toolRedo   = "Phys\x00\x00\x00\x00\x00\x00\x00\x00\x00\x000\x00Backup 10.11.19\x00\x00"
	mysqlRedo  = "\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00MySQL 9.7.4\x00\x00\x00\x00\x00"
	cloneRedo  = "\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00MySQL Clone\x00\x00\x00\x00\x00"
	oldRedo    = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00    \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

func TestInspect(t *testing.T) {
	type files = map[string]string
	tests := []struct {
		name  string
		files files
		want  Content
	}{
		{"nothing", nil, Empty},
		{"lost+found", files{"lost+found/": ""}, Empty},
		{"a server", files{"ibdata1": "", "mysql/db.frm": "", "aria_log_control": "", "ib_logfile0": serverRedo}, Server},
		{"MySQL 5.7", files{"ibdata1": "", "mysql/db.frm": "", "ib_logfile0": serverRedo, "ib_logfile1": ""}, Server},
		{"MySQL 5.6", files{"ibdata1": "", "mysql/db.frm": "", "ib_logfile0": oldRedo, "ib_logfile1": ""}, Server},
		{"MySQL 8", files{"ibdata1": "", "mysql.ibd": "", "#innodb_redo/#ib_redo7": mysqlRedo, "#innodb_redo/#ib_redo8_tmp": zeros}, Server},
		{"MySQL 8, of whose redo log only a name was copied", files{"ibdata1": "", "mysql.ibd": "", "#innodb_redo/#ib_redo7": ""}, Incomplete},
		{"MySQL 8, of whose redo log only zeros were copied", files{"ibdata1": "", "mysql.ibd": "", "#innodb_redo/#ib_redo7": zeros, "#innodb_redo/#ib_redo8_tmp": mysqlRedo}, Incomplete},
		{"MariaDB, of whose redo log only zeros were copied", files{"ibdata1": "", "mysql/db.frm": "", "ib_logfile0": zeros}, Incomplete},
		{"MySQL's CLONE was interrupted", files{"ibdata1": "", "mysql.ibd": "", "#innodb_redo/#ib_redo0": cloneRedo, "#clone/#status_in_progress": "", "#clone/#view_status": ""}, Incomplete},
		{"MySQL's CLONE was complete", files{"ibdata1": "", "mysql.ibd": "", "#innodb_redo/#ib_redo0": cloneRedo, "#clone/#view_status": ""}, Restored},
		{"MySQL's CLONE was complete, and run", files{"ibdata1": "", "mysql.ibd": "", "#innodb_redo/#ib_redo6": mysqlRedo, "#clone/#view_status": "", "auto.cnf": ""}, Server},
		{"a snapshot of CLONE, cut", files{"ibdata1": "", "mysql.ibd": "", "#innodb_redo/#ib_redo0": cloneRedo}, Incomplete},
		{"the server's image was interrupted", files{"ibdata1": "", "mysql/db.frm": "", "ib_logfile0": serverRedo, ".understudy-begun": ""}, Incomplete},
		{"the server's image is done", files{"ibdata1": "", "mysql/db.frm": "", "ib_logfile0": serverRedo, ".understudy-begun": "", ".understudy-ended": ""}, Server},
		{"a system tablespace of another name", files{"system": "", "mysql/db.frm": "", "ib_logfile0": serverRedo}, Server},
		{"a redo log elsewhere, MySQL", files{"ibdata1": "", "mysql.ibd": "", "auto.cnf": ""}, Server},
		{"a redo log and a system tablespace elsewhere, MariaDB", files{"mysql/db.frm": "", "multi-master.info": ""}, Server},
		{"our own clone", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": mariadb, "xtrabackup_checkpoints": applied}, Copy},
		{"our own clone, whose prepared transactions a server has rolled back", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": mariadb, "xtrabackup_checkpoints": applied, "ib_logfile0": serverRedo}, Copy},
		{"our own clone, new names", files{"ibdata1": "", "mysql/x": "", "mariadb_backup_info": mariadb, "mariadb_backup_checkpoints": applied}, Copy},
		{"a clone with a system tablespace of another name", files{
			"a": "", "b": "", "mysql/x": "", "xtrabackup_info": mariadb, "xtrabackup_checkpoints": applied, "backup-my.cnf": "[mysqld]\ninnodb_data_file_path=/x/a:12M;b:8M:autoextend\n",
		}, Copy},
		{"the same, and it lacks a file", files{
			"a": "", "mysql/x": "", "xtrabackup_info": mariadb, "xtrabackup_checkpoints": applied, "backup-my.cnf": "[mysqld]\ninnodb_data_file_path=a:12M;b:8M:autoextend\n",
		}, Incomplete},
		{"a clone without the system tablespace", files{"mysql/x": "", "xtrabackup_info": mariadb, "xtrabackup_checkpoints": applied}, Incomplete},
		{"a clone whose server keeps it elsewhere by now", files{"mysql/x": "", "xtrabackup_info": mariadb, "xtrabackup_checkpoints": applied, "multi-master.info": ""}, Server},
		{"restored with --copy-back", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": mariadb, "ib_logfile0": toolRedo}, Restored},
		{"restored with --copy-back, by a tool that empties the redo log", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": mariadb, "ib_logfile0": ""}, Restored},
		{"restored with --copy-back, MySQL", files{"ibdata1": "", "mysql.ibd": "", "xtrabackup_info": percona, "xtrabackup_tablespaces": "", "#innodb_redo/": ""}, Restored},
		{"restored with --copy-back, and run", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": mariadb, "ib_logfile0": serverRedo, "multi-master.info": ""}, Server},
		{"restored with --copy-back, MySQL, and run", files{"ibdata1": "", "mysql.ibd": "", "xtrabackup_info": percona, "#innodb_redo/#ib_redo6": mysqlRedo, "auto.cnf": ""}, Server},
		{"the same, and it got a new identity", files{"ibdata1": "", "mysql.ibd": "", "xtrabackup_info": percona, "#innodb_redo/#ib_redo6": mysqlRedo, "private_key.pem": ""}, Server},
		{"a server's directory with one file of a tool", files{"ibdata1": "", "mysql/x": "", "xtrabackup_binlog_pos_innodb": "", "xtrabackup_slave_info": "", "multi-master.info": ""}, Server},
		{"unpacked over what a server left, and not prepared", files{
			"ibdata1": "", "mysql.ibd": "", "xtrabackup_info": percona, "xtrabackup_checkpoints": "backup_type = full-backuped\n", "auto.cnf": "",
		}, Incomplete},
		{"the same of MySQL", files{"ibdata1": "", "mysql.ibd": "", "xtrabackup_logfile": "", "auto.cnf": ""}, Server},
		{"XtraBackup's prepare makes a redo log in the name of MySQL", files{"ibdata1": "", "mysql.ibd": "", "xtrabackup_logfile": "", "ib_logfile0": mysqlRedo}, Incomplete},
		{"an info file, and no checkpoints file, of a stream", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": mariadb, "ib_logfile0": toolRedo, "backup-my.cnf": ""}, Incomplete},
		{"the same of XtraBackup", files{"ibdata1": "", "mysql.ibd": "", "xtrabackup_info": percona, "xtrabackup_logfile": ""}, Incomplete},
		{"XtraBackup's, not rolled back", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": percona, "xtrabackup_checkpoints": applied}, Incomplete},
		{"MariaDB's, never prepared", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": mariadb, "xtrabackup_checkpoints": backuped}, Incomplete},
		{"a tutorial clone", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": percona, "xtrabackup_checkpoints": full, "change_master_to.sql.orig": "x"}, Copy},
		{"a tutorial clone, cut before the info files", files{"ibdata1": "", "mysql/x": "", "xtrabackup_logfile": ""}, Incomplete},
		{"MariaDB's, cut before the info files", files{"ibdata1": "", "mysql/x": "", "aria_log_control": "", "ib_logfile0": toolRedo}, Incomplete},
		{"MariaDB's, cut before it filled the redo log", files{"ibdata1": "", "mysql/x": "", "ib_logfile0": ""}, Incomplete},
		{"a tutorial clone, cut before the redo log", files{"ibdata1": "", "mysql/x": "", "mysql.ibd": ""}, Incomplete},
		{"a tutorial clone, cut early", files{"ibdata1": "", "shop/orders.ibd": ""}, Incomplete},
		{"a tutorial clone, cut at once", files{"aria_log_control": ""}, Incomplete},
		{"a tutorial clone, compressed, cut at once", files{"ibdata1.qp": ""}, Incomplete},
		{"a tutorial clone, only a schema came", files{"shop/db.opt.zst": ""}, Incomplete},
		{"a tutorial clone, never prepared", files{"ibdata1": "", "mysql/x": "", "xtrabackup_info": "", "xtrabackup_checkpoints": backuped}, Incomplete},
		{"a schema and nothing else", files{"mysql/db.frm": ""}, Incomplete},
		{"a schema without a file", files{"mysql/": ""}, Incomplete},
		{"only traces", files{"xtrabackup_info": ""}, Incomplete},
		{"somebody's files", files{"PG_VERSION": "15", "base/1": ""}, Foreign},
		{"somebody's files, of names like ours", files{
			"undo.log": "", "undo/steps": "", "report.CSV": "", "exports/march.CSV": "", "ibdata.txt": "", "xtrabackup_2026.tar": "",
			"mysql/dump.sql": "", "sys/class": "", "aria_logo.png": "",
		}, Foreign},
		{"a table of CSV", files{"shop/log.CSM": "", "shop/log.CSV": ""}, Incomplete},
		{"an undo tablespace, MySQL", files{"undo_001": ""}, Incomplete},
		{"an undo tablespace, MariaDB", files{"undo001": ""}, Incomplete},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, tt.files)
			got, err := Inspect(dir)
			if err != nil || got.Content != tt.want {
				t.Errorf("%s (%s), %v; want %s", got.Content, got.Why, err, tt.want)
			}
		})
	}
	if got, err := Inspect(filepath.Join(t.TempDir(), "absent")); err != nil || got.Content != Empty {
		t.Errorf("absent: %v, %v", got, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	fill(t, filepath.Dir(file), map[string]string{"file": ""})
	if got, err := Inspect(file); err != nil || got.Content != Foreign {
		t.Errorf("a file: %v, %v", got, err)
	}
}

func TestOrigin(t *testing.T) {
	position := &origin.Origin{Mode: origin.Position, Of: origin.Source, File: "b.000002", Position: 671}
	const change = "CHANGE MASTER TO MASTER_LOG_FILE='b.000002', MASTER_LOG_POS=671"
	tests := []struct {
		name  string
		files map[string]string
		want  *origin.Origin
	}{
		{"nothing", nil, nil},
		{"a primary's copy", map[string]string{"xtrabackup_binlog_info": "b.000001\t330\t0-1-2\n"}, &origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-1-2", File: "b.000001", Position: 330}},
		{"a replica's copy", map[string]string{"xtrabackup_binlog_info": "b.000001\t330\t0-1-2\n", "xtrabackup_slave_info": change + ";\n"}, position},
		{"an empty slave info", map[string]string{"xtrabackup_binlog_info": "b.000001\t330\t\n", "xtrabackup_slave_info": ""}, &origin.Origin{Mode: origin.GTID, Of: origin.Donor, File: "b.000001", Position: 330}},
		{"a restored copy", map[string]string{"xtrabackup_info": "tool_name = mariadb-backup\nbinlog_pos = filename 'b.000001', position '330', GTID of the last change '0-1-2'\n"}, &origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-1-2", File: "b.000001", Position: 330}},
		{"a restored copy of a replica", map[string]string{"xtrabackup_info": "binlog_pos = filename 'b.000001', position '330', GTID of the last change ''\n", "xtrabackup_slave_info": change}, position},
		{"a restored copy of a server without binary logs", map[string]string{"xtrabackup_info": "tool_name = mariadb-backup\nbinlog_pos = \n"}, nil},
		{"the tutorial, not configured", map[string]string{"change_master_to.sql.in": change}, position},
		{"the tutorial, configured", map[string]string{"change_master_to.sql.orig": change, "xtrabackup_binlog_info": "b.000001\t330\t0-1-2\n"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, tt.files)
			got, err := Origin(dir, flavor.MariaDB)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPublish(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, map[string]string{"mysql/": ""}) // as the kubelet makes it
	entry := Journal{ID: NewID(), Phase: Preparing, Donor: "db-0", Bytes: 7}
	staging, err := v.NewStaging(entry.ID)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, staging, map[string]string{"ibdata1": "x", "mysql/x": "", "xtrabackup_info": percona, "xtrabackup_checkpoints": full})
	if err := v.Secure(entry); err != nil {
		t.Fatal(err)
	}
	f, err := v.Facts(false, false)
	if verdict, _ := Decide(f); err != nil || verdict != Publish {
		t.Fatalf("verdict %s, %v", verdict, err)
	}
	if _, err := v.Publish(*f.Journal); err != nil {
		t.Fatal(err)
	}
	f, err = v.Facts(false, false)
	if verdict, _ := Decide(f); err != nil || verdict != Keep || f.Journal.Phase != Published || f.Journal.Donor != "db-0" {
		t.Fatalf("verdict %s, %+v, %v", verdict, f.Journal, err)
	}
}

func TestPublishNeverOverwrites(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, map[string]string{"mysql/precious": "data"})
	entry := Journal{ID: NewID()}
	if _, err := v.NewStaging(entry.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Publish(entry); !errors.Is(err, ErrOccupied) {
		t.Fatalf("err = %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(root, "mysql/precious")); err != nil || string(text) != "data" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestJournal(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	if j, err := v.ReadJournal(); j != nil || err != nil {
		t.Fatalf("no journal: %v, %v", j, err)
	}
	want := Journal{
		Format: journalFormat, Phase: Attached, ID: "a", Donor: "db-0", Engine: "e", ServerVersion: "1", Bytes: 1, Digest: "sha256:0",
		Origin: &origin.Origin{Mode: origin.GTID, Of: origin.Source, GTID: "0-1-2"},
	}
	if err := v.WriteJournal(want); err != nil {
		t.Fatal(err)
	}
	got, err := v.ReadJournal()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&want, got); d != "" {
		t.Error(d)
	}
	for _, text := range []string{"", "{", `{"format":2,"phase":"attached"}`, `{"format":1,"phase":"swapped"}`, `{"format":1}`} {
		fill(t, root, map[string]string{".understudy/journal": text})
		if j, err := v.ReadJournal(); !errors.Is(err, ErrJournal) {
			t.Errorf("%q: %v, %v", text, j, err)
		}
	}
}

func TestSweep(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, map[string]string{
		".understudy/staging-a/x": "", ".understudy/staging-b/x": "", ".understudy/backup-c/x": "",
		".understudy/replaced-d/x": "", ".understudy/journal": "", "mysql/x": "", ".understudy/snapshot/backup-e/x": "",
	})
	if err := errors.Join(v.Sweep("a"), v.SweepSnapshots()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		".understudy/staging-a/x": true, ".understudy/staging-b": false, ".understudy/backup-c": false,
		".understudy/replaced-d/x": true, ".understudy/journal": true, "mysql/x": true,
		".understudy/snapshot": true, ".understudy/snapshot/backup-e": false, // the directory may be a mount point
	} {
		if _, err := os.Stat(filepath.Join(root, path)); want != (err == nil) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSetAside(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, map[string]string{"mysql/half": "data"})
	aside, err := v.SetAside("a")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(aside, "half")); err != nil || string(text) != "data" {
		t.Errorf("%q, %v", text, err)
	}
	if live, err := v.InspectLive(); err != nil || live.Content != Empty {
		t.Errorf("%v, %v", live, err)
	}
}

func TestLock(t *testing.T) {
	root := t.TempDir()
	first := open(t, root)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	holder := ""
	_, err := Open(ctx, root, time.Millisecond, func(h string) { holder = h })
	if !errors.Is(err, ErrLocked) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(holder, "pid") {
		t.Errorf("err %v, holder %q", err, holder)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, root)
}

func TestBinlogBasename(t *testing.T) {
	dir := t.TempDir()
	if got, err := BinlogBasename(dir); got != "" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	fill(t, dir, map[string]string{"mysql-bin.index": "", "db-0-relay-bin.index": "", "old-bin.index": ""})
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "old-bin.index"), past, past); err != nil {
		t.Fatal(err)
	}
	if got, err := BinlogBasename(dir); got != "mysql-bin" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFree(t *testing.T) {
	v := open(t, t.TempDir())
	free, err := v.Free()
	if err != nil || free.Bytes <= 0 || free.Inodes <= 0 {
		t.Errorf("%+v, %v", free, err)
	}
}

func TestWritable(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	if err := v.Writable(); err != nil {
		t.Error(err)
	}
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if d := cmp.Diff([]string{".", ".understudy", ".understudy/lock"}, names); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestTakesWrites(t *testing.T) {
	v := open(t, t.TempDir())
	if err := v.TakesWrites(1 << 20); err != nil {
		t.Error(err)
	}
	if err := v.TakesWrites(1 << 50); err == nil {
		t.Error("a volume has room for 1 PiB")
	}
	entries, err := os.ReadDir(v.meta(""))
	if err != nil || len(entries) != 1 {
		t.Errorf("something was left behind: %v %v", entries, err)
	}
}

func TestNotWritable(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	t.Cleanup(func() { // so that it can be removed
		for _, dir := range []string{filepath.Dir(root), root, v.meta("")} {
			_ = os.Chmod(dir, DirMode)
		}
	})
	for _, dir := range []string{v.meta(""), root, filepath.Dir(root)} {
		if err := os.Chmod(dir, 0o555); err != nil { //nolint:gosec // others have to see it
			t.Fatal(err)
		}
	}
	uid := os.Getuid()
	err := asNobody(t, v.Writable)
	want := fmt.Sprintf("(%s belongs to uid %d, gid %d, mode 0555)", root, uid, os.Getgid())
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "uid ") || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("err = %v, want its end to be %s", err, want)
	}
}

// asNobody runs f without root's permission to do everything.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return f()
	}
	runtime.LockOSThread() // the account that files are used with is a thread's
	defer runtime.UnlockOSThread()
	if err := syscall.Setfsuid(65534); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setfsuid(0) }()
	return f()
}
