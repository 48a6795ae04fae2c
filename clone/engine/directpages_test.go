package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"understudy/e2e/testserver"
)

// withOptions is an installation whose server gets more options, also when it makes its data
// directory.
func withOptions(t *testing.T, in testserver.Installation, options ...string) testserver.Installation {
	t.Helper()
	in, err := in.WithOptions(t.TempDir(), options...)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// copyOfPages hands over a server with one size of pages, names in lower case and a system
// tablespace of two files, of sizes that are no multiples of extents, while DDL runs.
func copyOfPages(t *testing.T, kib int) {
	t.Helper()
	in := withOptions(t, mysql97(t), fmt.Sprintf("--innodb-page-size=%dK", kib), "--lower-case-table-names=1", "'--innodb-data-file-path=ibdata1:13M;ibdata2:5M:autoextend'")
	s, account := startInstallation(t, in, append(cloneOptions, "--server-id=1")...)
	db := s.DB()
	fill(t, db, 64)
	execute(t, db, "CREATE TABLESPACE several ADD DATAFILE 'several.ibd'", "CREATE TABLE shop.A1 (id INT PRIMARY KEY, v TEXT) TABLESPACE several",
		"CREATE TABLE shop.`Ünïcode #1/.` (id INT PRIMARY KEY, v TEXT)", "CREATE TABLE shop.parts (id INT PRIMARY KEY, v TEXT) PARTITION BY HASH (id) PARTITIONS 4")
	// The system tablespace grows while the clone is under way.
	execute(t, db, "CREATE TABLE shop.inside (id INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT) TABLESPACE innodb_system")
	e := newClone(t)
	var changed atomic.Int64
	var begin sync.Once
	done := make(chan struct{})
	dir := unpacked(t, e, slowly(e.BackupDirect, func() bool { return changed.Load() > 0 }), account, func(now Stage) {
		if now != Copying {
			return
		}
		begin.Do(func() {
			go func() {
				defer close(done)
				for i := range 3 {
					execute(t, db, fmt.Sprintf("CREATE TABLE shop.New_%d (id INT PRIMARY KEY, v TEXT)", i), fmt.Sprintf("INSERT INTO shop.New_%d VALUES (1, REPEAT('x', 30000))", i),
						fmt.Sprintf("ALTER TABLE shop.`Ünïcode #1/.` COMMENT 'round %d', FORCE", i), "TRUNCATE TABLE shop.parts",
						fmt.Sprintf("INSERT INTO shop.parts VALUES (%d, REPEAT('p', 9000)), (%d, 'q')", i, i+1), fmt.Sprintf("REPLACE INTO shop.a1 VALUES (%d, REPEAT('a', 5000))", i),
						"INSERT INTO shop.inside (v) VALUES (REPEAT('i', 3 << 20))")
					changed.Add(1)
				}
			}()
		})
	})
	if changed.Load() == 0 {
		t.Error("nothing was changed meanwhile")
	}
	<-done
	prepared(t, e, dir)
	copied := boot(t, in, dir, append(cloneOptions, "--server-id=2")...)
	follow(t, copied, s, "SOURCE_AUTO_POSITION=1")
	executed := query[string](t, db, "SELECT @@GLOBAL.gtid_executed")
	if query[int](t, copied, "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 600)", executed) != 0 {
		t.Fatal("the copy does not replicate")
	}
	wantSame(t, db, copied)
}

// The largest pages, whose extents are the largest, too.
func TestMySQLDirectPages64K(t *testing.T) { copyOfPages(t, 64) }
