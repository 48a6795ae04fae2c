//go:build full

package engine

import (
	"flag"
	"fmt"
	"testing"
	"time"
)

var tables = flag.Int("tables", 4*partitions, "how many files of tables TestMySQLDirectManyTables makes")

// partitions is how many one table may have.
const partitions = 8192

// A server of very many tables is copied in a time that grows with their number, and no faster.
func TestMySQLDirectManyTables(t *testing.T) {
	in := withOptions(t, mysql97(t), "--innodb-page-size=4K")
	options := append([]string{"--innodb-flush-method=nosync", "--skip-innodb-doublewrite", "--skip-log-bin", "--innodb-redo-log-capacity=1G", "--plugin-load-add=mysql_clone.so"}, "--gtid-mode=OFF")
	s, account := startInstallation(t, in, options...)
	execute(t, s.DB(), "CREATE DATABASE shop")
	begun := time.Now()
	for i := range *tables / partitions {
		execute(t, s.DB(), fmt.Sprintf("CREATE TABLE shop.t%d (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS %d", i, partitions), fmt.Sprintf("INSERT INTO shop.t%d VALUES (%d)", i, i))
	}
	t.Logf("%d tables made in %v", *tables, time.Since(begun))
	e := newClone(t)
	begun = time.Now()
	dir := handedOver(t, e, account, func(Stage) {})
	t.Logf("handed over and unpacked in %v", time.Since(begun))
	begun = time.Now()
	prepared(t, e, dir)
	t.Logf("prepared in %v", time.Since(begun))
	begun = time.Now()
	copied := boot(t, in, dir, options...)
	t.Logf("started in %v", time.Since(begun))
	for i := range *tables / partitions {
		if got := query[int](t, copied, fmt.Sprintf("SELECT SUM(id) FROM shop.t%d", i)); got != i {
			t.Errorf("table %d: %d", i, got)
		}
	}
}
