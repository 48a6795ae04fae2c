package replicate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A replica of MariaDB keeps in files where its source is and how far it has received. After a power
// cut they may be empty, or cut, and the server does not start replication any more. By GTID they
// are not needed. MySQL has them in tables.
func TestDamagedFiles(t *testing.T) {
	for _, name := range []string{"mariadb-10.11", "mariadb-11.8"} {
		t.Run(name, func(t *testing.T) {
			p, r := openPair(t, name)
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (0)")
			r.boot(t)
			r.follow(t, p)
			r.settle(t, Rest)
			r.arrives(t, rows, "0")
			anew := 0
			for i, pattern := range []string{"master.info", "relay-log.info", "*relay*.index", "*relay*.0*"} {
				for j, keeps := range []int64{0, 20} {
					if err := r.server.Stop(t.Context()); err != nil {
						t.Fatal(err)
					}
					r.truncate(t, pattern, keeps)
					r.boot(t)
					taken := r.settle(t, Rest)
					t.Logf("%s of %d bytes: %q", pattern, keeps, taken)
					if slices.Contains(taken, Repoint) {
						anew++
					}
					p.run(t, fmt.Sprintf("INSERT INTO d.t VALUES (%d)", 1+2*i+j))
				}
			}
			if anew == 0 {
				t.Error("no file was damaged")
			}
			r.arrives(t, rows, "0,1,2,3,4,5,6,7,8")
		})
	}
}

// truncate cuts files of the data directory.
func (m *member) truncate(t *testing.T, pattern string, size int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.data, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	for _, f := range files {
		if err := os.Truncate(f, size); err != nil {
			t.Fatal(err)
		}
	}
}
