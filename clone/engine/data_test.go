package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMeasureData(t *testing.T) {
	tests := []struct {
		name  string
		files []string // of 10 bytes each
		want  Data
	}{
		{"nothing", nil, Data{Files: 1}},
		{"system tablespaces", []string{"ibdata1", "ibdata2", "undo001", "aria_log_control", "aria_log.00000001"}, Data{FileBytes: 50, Files: 6, Tablespaces: 3}},
		{"the redo log", []string{"ib_logfile0", "ib_logfile1"}, Data{RedoBytes: 20, Files: 3}},
		{"those of MySQL", []string{"mysql.ibd", "undo_001", "logs.ibd", "more.ibu", "mysql/general_log.CSV", "mysql/general_log_214.sdi"}, Data{FileBytes: 60, Files: 8, Tablespaces: 4}},
		{"the redo log of MySQL", []string{"#innodb_redo/#ib_redo7", "#innodb_redo/#ib_redo8_tmp"}, Data{RedoBytes: 20, Files: 4}},
		{"what stays", []string{"db-0-bin.000001", "db-0-bin.index", "ibtmp1", "error.log", "auto.cnf", "lost+found/x.ibd", "logs/bin.000001"}, Data{Files: 2}},
		{"schemas", []string{"mysql/user.frm", "shop/orders.ibd", "shop/orders#P#p0.ibd", "sys/db.opt"}, Data{FileBytes: 40, Files: 8, Tablespaces: 2}},
		{"RocksDB", []string{"#rocksdb/000042.sst", "#rocksdb/CURRENT"}, Data{FileBytes: 20, Files: 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tt.files...)
			tt.want.Files += toolFiles
			got, err := MeasureData(t.Context(), dir)
			if d := cmp.Diff(tt.want, got); d != "" || err != nil {
				t.Error(d, err)
			}
		})
	}
	if got, err := MeasureData(t.Context(), filepath.Join(t.TempDir(), "absent")); got.FileBytes != 0 || err != nil {
		t.Errorf("absent: %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MeasureData(ctx, t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// write makes files of 10 bytes.
func write(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDataElsewhere(t *testing.T) {
	tests := []struct {
		name, target string
		want         string // nothing when empty
	}{
		{"shop/orders.MYD", "/fast/orders.MYD", "the table shop.orders (orders.MYD) is a symbolic link to /fast/orders.MYD, outside of the data directory"},
		{"a@002db/it@0027s@0020.MAI", "../../i.MAI", "the table a-b.it's  (it@0027s@0020.MAI) is a symbolic link to ../../i.MAI, outside of the data directory"},
		{"error.log", "/dev/stderr", ""},
		{"shop/notes.txt", "/home/notes.txt", ""},
		{"undo001", "/undo/undo001", "the file undo001 is a symbolic link to /undo/undo001, outside of the data directory"},
		{"far", "/elsewhere", "the file far is a symbolic link to /elsewhere, outside of the data directory"},
		{"shop/orders.ibd", "../other/orders.ibd", ""},
		{"ibdata2", "ibdata1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			link := filepath.Join(dir, tt.name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o750), os.Symlink(tt.target, link)); err != nil {
				t.Fatal(err)
			}
			got, err := MeasureData(t.Context(), dir)
			if err != nil || strings.Join(got.Elsewhere, "|") != tt.want {
				t.Errorf("%q, %v; want %q", got.Elsewhere, err, tt.want)
			}
		})
	}
}

// A system tablespace of another name is part of the copy, too.
func TestSystemTablespaceCounts(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"system1", "ibdata2", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := MeasureData(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	before := got.FileBytes
	got.addSystem(dir, "system1:100;ibdata2:100;absent:12M;sub/x:12M:autoextend")
	if before != 100 || got.FileBytes != 200 {
		t.Errorf("%d and %d bytes", before, got.FileBytes)
	}
}

func TestNeededBytes(t *testing.T) {
	d := Data{FileBytes: 10 << 30, Files: 1000, RedoBytes: 96 << 20, CheckpointAge: 7 << 20}
	if got, want := d.StreamBytes(), int64(10<<30+7<<20); got != want {
		t.Errorf("stream %d, want %d", got, want)
	}
	if got, want := d.NeededBytes(), int64(10<<30+1000*4096+2*96<<20+32<<20); got != want {
		t.Errorf("needed %d, want %d", got, want)
	}
}

func TestVariablesElsewhere(t *testing.T) {
	with := func(name, value string) map[string]string {
		v := map[string]string{
			"datadir": "/var/lib/mysql/", "innodb_data_home_dir": "", "innodb_undo_directory": "./", "innodb_log_group_home_dir": "./",
			"aria_log_dir_path": "/var/lib/mysql/", "innodb_data_file_path": "ibdata1:12M;ibdata2:1G:autoextend",
		}
		v[name] = value
		return v
	}
	tests := []struct {
		name string
		v    map[string]string
		want []string
	}{
		{"normal", with("datadir", "/var/lib/mysql"), nil},
		{"RocksDB", with("rocksdb_datadir", "./#rocksdb"), nil},
		{"dump of the buffer pool", with("innodb_buffer_pool_filename", "warm/pool..1"), nil},
		{"dump of the buffer pool elsewhere", with("innodb_buffer_pool_filename", "./../pool"), []string{"innodb_buffer_pool_filename is ./../pool, which leads out of the data directory: name a file in it"}},
		{"RocksDB elsewhere", with("rocksdb_datadir", "/rocks"), []string{"rocksdb_datadir is /rocks, not #rocksdb in the data directory"}},
		{"undo", with("innodb_undo_directory", "/undo"), []string{"innodb_undo_directory is /undo, not the data directory /var/lib/mysql"}},
		{"redo below", with("innodb_log_group_home_dir", "./redo"), []string{"innodb_log_group_home_dir is ./redo, not the data directory /var/lib/mysql"}},
		{"Aria", with("aria_log_dir_path", "/log"), []string{"aria_log_dir_path is /log, not the data directory /var/lib/mysql"}},
		{"home", with("innodb_data_home_dir", "/sys/"), []string{"innodb_data_home_dir is /sys/, not the data directory /var/lib/mysql"}},
		{"a file", with("innodb_data_file_path", "ibdata1:12M;/raw/disk:1Gnewraw"), []string{"innodb_data_file_path puts /raw/disk elsewhere than into the data directory /var/lib/mysql"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, elsewhere(tt.v)); d != "" {
				t.Error(d)
			}
		})
	}
}
