package engine

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
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
)

// copyOfWaitingReplica is a backup of a replica with parallel threads, one of which has
// prepared its transaction and waits for the one before, which a lock holds up.
func copyOfWaitingReplica(t *testing.T, in testserver.Installation, tool MariaDBBackup) (dir string, source *testserver.Server) {
	t.Helper()
	source, _ = startInstallation(t, in, "--log-bin=bin", "--server-id=100")
	execute(t, source.DB(), "CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, v INT)", "INSERT INTO shop.t VALUES (1,0),(2,0),(3,0)")
	replica, account := startInstallation(t, in, "--log-bin=bin", "--server-id=101", "--log-slave-updates", "--slave-parallel-threads=4", "--slave-parallel-mode=optimistic")
	c := source.Config()
	execute(t, replica.DB(), "RESET MASTER", changeMaster(c), "START SLAVE")
	waitFor(t, replica.DB(), "SELECT COUNT(*) = 1 FROM information_schema.tables WHERE table_schema = 'shop'")
	waitFor(t, replica.DB(), "SELECT COUNT(*) = 3 FROM shop.t")
	waitsForTemporary(t, source, replica, account)
	lock, err := replica.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.ExecContext(t.Context(), "SELECT * FROM shop.t WHERE id = 1 FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	execute(t, source.DB(), "UPDATE shop.t SET v = 1 WHERE id = 1", "UPDATE shop.t SET v = 1 WHERE id = 2", "UPDATE shop.t SET v = 1 WHERE id = 3")
	waitFor(t, replica.DB(), "SELECT COUNT(*) = 2 FROM information_schema.processlist WHERE state LIKE 'Waiting for prior transaction to commit%'")
	account.Replica = true
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := tool.Backup(ctx, account, t.TempDir(), func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "copy")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if _, err := xbstream.Extract(ctx, p.Stdout, root, xbstream.Options{}); err != nil {
		t.Fatal(err)
	}
	_ = p.Stdout.Close()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return dir, source
}

// waitsForTemporary has a backup wait for an applier that holds a temporary table.
func waitsForTemporary(t *testing.T, source, replica *testserver.Server, account Account) {
	t.Helper()
	account.Replica = true
	client, err := source.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	for _, text := range []string{"SET SESSION binlog_format = STATEMENT", "CREATE TEMPORARY TABLE shop.scratch (id INT)"} {
		if _, err := client.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	const open = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Slave_open_temp_tables'"
	waitFor(t, replica.DB(), "SELECT ("+open+") = 1")
	ended := make(chan time.Duration, 1)
	go func() {
		begun := time.Now()
		awaitNoTemporary(t.Context(), slog.New(slog.DiscardHandler), account)
		ended <- time.Since(begun)
	}()
	select {
	case <-ended:
		t.Fatal("it did not wait")
	case <-time.After(500 * time.Millisecond):
	}
	if _, err := client.ExecContext(t.Context(), "DROP TEMPORARY TABLE shop.scratch"); err != nil {
		t.Fatal(err)
	}
	if took := <-ended; took >= temporaryWait {
		t.Errorf("it waited %v", took)
	}
}

func changeMaster(c testserver.Config) string {
	return fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='root', MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos", c.Addr, c.Port, rootPassword)
}

func waitFor(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		var ok bool
		if err := db.QueryRowContext(t.Context(), query).Scan(&ok); err != nil {
			t.Fatal(err)
		}
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatal("never:", query)
		}
	}
}

// No server starts on what a parallel replica has prepared and not committed: it is rolled
// back with the prepare, and comes again from the source.
func TestPrepareRollsBackWhatAReplicaHadPrepared(t *testing.T) {
	in, err := testserver.MariaDB1011(t.Context())
	if err != nil {
		t.Skip(err)
	}
	var said bytes.Buffer
	tool := MariaDBBackup{Program: in.Backup, Log: slog.New(slog.NewTextHandler(&said, nil))}
	dir, source := copyOfWaitingReplica(t, in, tool)
	if err := tool.Prepare(t.Context(), dir, minPrepareMemory); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "rolled back: they come again from its source\" found=\"2 prepared transaction(s) in InnoDB") {
		t.Errorf("the log\n%s", &said)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) != 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
	if live, err := volume.Inspect(dir); err != nil || live.Content != volume.Copy {
		t.Errorf("it is %+v, %v", live, err)
	}
	o, err := volume.Origin(dir, flavor.MariaDB)
	if err != nil || o.Of != origin.Source {
		t.Fatal(o, err)
	}
	s, err := in.Start(t.Context(), testserver.Config{DataDir: dir, RootPassword: rootPassword, Extra: []string{"--log-bin=bin", "--server-id=102", "--skip-slave-start"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	var table string
	if err := s.DB().QueryRowContext(t.Context(), "SELECT CONCAT('0-100-', MAX(seq_no)) FROM mysql.gtid_slave_pos").Scan(&table); err != nil || table != o.GTID {
		t.Errorf("the copy has executed %s, its origin is %s: %v", table, o.GTID, err)
	}
	execute(t, s.DB(), "SET GLOBAL gtid_slave_pos = '"+o.GTID+"'", changeMaster(source.Config()), "START SLAVE")
	waitFor(t, s.DB(), "SELECT COUNT(*) = 3 FROM shop.t WHERE v = 1")
}
