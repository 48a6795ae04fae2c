package flavor

import (
	"errors"
	"testing"
)

func TestParseServer(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"mariadb debian", "10.11.18-MariaDB-0+deb12u1", "mariadb 10.11.18"},
		{"mariadb with log suffix", "11.8.6-MariaDB-ubu2404-log", "mariadb 11.8.6"},
		{"mariadb behind the replication prefix", "5.5.5-10.6.21-MariaDB", "mariadb 10.6.21"},
		{"mysql", "9.7.4", "mysql 9.7.4"},
		{"percona", "8.0.36-28", "mysql 8.0.36"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseServer(tt.in)
			if err != nil || got.String() != tt.want {
				t.Errorf("ParseServer(%q) = %v, %v; want %s", tt.in, got, err, tt.want)
			}
		})
	}
	for _, in := range []string{"", "MariaDB", "10.x", "99999999999999999999.1.1"} {
		if v, err := ParseServer(in); !errors.Is(err, ErrUnknown) {
			t.Errorf("ParseServer(%q) = %v, %v; want ErrUnknown", in, v, err)
		}
	}
}

func TestParseMariaDBBackup(t *testing.T) {
	v, err := ParseMariaDBBackup("mariadb-backup based on MariaDB server 10.11.18-MariaDB debian-linux-gnu (x86_64)")
	if err != nil || v.String() != "mariadb 10.11.18" || v.Series() != "10.11" {
		t.Errorf("got %v (series %s), %v", v, v.Series(), err)
	}
	if _, err := ParseMariaDBBackup("xtrabackup version 8.0.35"); !errors.Is(err, ErrUnknown) {
		t.Errorf("another tool: %v, want ErrUnknown", err)
	}
}

// The texts are those that the releases print.
func TestParseXtraBackup(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"2.4", "xtrabackup: recognized server arguments: \n./xtrabackup version 2.4.20 based on MySQL server 5.7.26 Linux (x86_64) (revision id: 04f49bd0957)\n", "mysql 5.7.26"},
		{"8.0, numbered on its own", "xtrabackup version 8.0.6 based on MySQL server 8.0.14 Linux (x86_64) (revision id: c0a2d91)\n", "mysql 8.0.14"},
		{"8.0", "xtrabackup version 8.0.35-30 based on MySQL server 8.0.35 Linux (x86_64) (revision id: 6beb4b49)\n", "mysql 8.0.35"},
		{"with what it read elsewhere", "2025-07-28T01:01:32.9+03:00 0 [Note] [MY-011825] [Xtrabackup] recognized server arguments: --datadir=/var/lib/mysql\n/usr/bin/xtrabackup version 8.4.0-5 based on MySQL server 8.4.0 Linux (aarch64) (revision id: )\n", "mysql 8.4.0"},
		{"an innovation release", "./bin/xtrabackup version 9.1.0-1 based on MySQL server 9.1.0 Linux (x86_64) (revision id: b2e5d1d2)\n", "mysql 9.1.0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseXtraBackup(tt.in)
			if err != nil || got.String() != tt.want {
				t.Errorf("got %v, %v; want %s", got, err, tt.want)
			}
		})
	}
	for _, in := range []string{
		"", "xtrabackup version 8.0.35-30", "innobackupex version 2.4.20 Linux (x86_64) (revision id: 04f49bd0957)",
		"mariadb-backup based on MariaDB server 10.11.18-MariaDB debian-linux-gnu (x86_64)",
		"xtrabackup version 8.3.0-1 based on MySQL server 8.3 Linux", // abridged in a manual; no tool says so
	} {
		if v, err := ParseXtraBackup(in); !errors.Is(err, ErrUnknown) {
			t.Errorf("ParseXtraBackup(%q) = %v, %v; want ErrUnknown", in, v, err)
		}
	}
}

func TestOrder(t *testing.T) {
	v := Version{MariaDB, 10, 11, 18}
	for _, tt := range []struct {
		major, minor, patch int
		want                bool
	}{{10, 11, 18, true}, {10, 11, 19, false}, {10, 6, 99, true}, {11, 0, 0, false}, {9, 99, 99, true}} {
		if got := v.AtLeast(tt.major, tt.minor, tt.patch); got != tt.want {
			t.Errorf("%v.AtLeast(%d,%d,%d) = %v", v, tt.major, tt.minor, tt.patch, got)
		}
	}
}

func TestParse(t *testing.T) {
	if f, err := Parse("MariaDB"); f != MariaDB || err != nil {
		t.Errorf("Parse(MariaDB) = %q, %v", f, err)
	}
	if _, err := Parse("postgres"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Parse(postgres): %v", err)
	}
}
