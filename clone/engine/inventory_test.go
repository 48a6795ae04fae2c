package engine

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/xbstream"
	"understudy/e2e/testserver"
)

const rootPassword = "secret"

// startServer starts a server of the machine's, and skips the test where there is none.
func startServer(t *testing.T, extra ...string) (*testserver.Server, Account) {
	t.Helper()
	in, err := testserver.MariaDB1011(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return startInstallation(t, in, extra...)
}

func startInstallation(t *testing.T, in testserver.Installation, extra ...string) (*testserver.Server, Account) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mysql")
	if err := in.Initialise(t.Context(), dir, rootPassword); err != nil {
		t.Fatal(err)
	}
	s, err := in.Start(t.Context(), testserver.Config{DataDir: dir, RootPassword: rootPassword, Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	c := s.Config()
	return s, Account{Host: c.Addr, Port: c.Port, User: "root", Password: rootPassword}
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, text := range statements {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

// The numbers against those of a real backup of a plain server under no load.
func TestInventoryOfAPlainServer(t *testing.T) {
	for _, name := range []string{"mariadb-10.11", "mariadb-11.8"} {
		t.Run(name, func(t *testing.T) {
			in, err := testserver.All[name](t.Context())
			if err != nil {
				t.Skip(err)
			}
			s, account := startInstallation(t, in, "--log-bin=bin", "--binlog-expire-logs-seconds=7200")
			execute(t, s.DB(), "CREATE DATABASE shop",
				"CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, filler CHAR(250)) ENGINE=InnoDB",
				"CREATE TABLE shop.notes (text CHAR(250)) ENGINE=MyISAM", "INSERT INTO shop.notes VALUES ('x')",
				"INSERT INTO shop.orders (filler) SELECT REPEAT('x', 250) FROM shop.seq_1_to_40000")
			inv, err := (MariaDBBackup{}).Inventory(t.Context(), account, s.Config().DataDir)
			if err != nil {
				t.Fatal(err)
			}
			if len(inv.CannotCarry) != 0 || inv.Encryption != "" || inv.BinlogExpiry != 2*time.Hour || inv.RedoBytes != 32<<20 {
				t.Errorf("inventory %+v", inv)
			}
			streamed, files := backup(t, MariaDBBackup{Program: in.Backup, Log: slog.New(slog.DiscardHandler)}, account)
			compare(t, inv, streamed, files)
		})
	}
}

// compare holds the estimates against what a backup streamed.
func compare(t *testing.T, inv Inventory, streamed, files int64) {
	t.Helper()
	t.Logf("estimated %d, streamed %d, needed %d bytes; estimated %d, streamed %d files", inv.StreamBytes(), streamed, inv.NeededBytes(), inv.Files, files)
	if inv.Files < files || inv.Files > files+20 { // the stream has no directories
		t.Errorf("estimated %d files, the backup streamed %d", inv.Files, files)
	}
	if got := inv.StreamBytes(); got < streamed*9/10 || got > streamed*11/10 {
		t.Errorf("estimated %d bytes, the backup streamed %d", got, streamed)
	}
	if got := inv.NeededBytes(); got < streamed || got > streamed+128<<20 {
		t.Errorf("needed %d bytes, the backup streamed %d", got, streamed)
	}
}

// backup makes one and returns how many bytes and files it streamed.
func backup(t *testing.T, tool MariaDBBackup, a Account) (streamed, files int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p, err := tool.Backup(ctx, a, t.TempDir(), func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	count := &counter{r: p.Stdout}
	summary, err := xbstream.Check(ctx, count, xbstream.Options{})
	if err = errors.Join(err, p.Stdout.Close(), p.Wait()); err != nil {
		t.Fatal(err)
	}
	return count.n, int64(summary.Files)
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func TestInventoryNamesWhatCannotBeCarried(t *testing.T) {
	far, undo := t.TempDir(), t.TempDir()
	s, account := startServer(t, "--innodb-undo-directory="+undo)
	execute(t, s.DB(), "CREATE DATABASE shop",
		"CREATE TABLE shop.`far-off` (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='"+far+"'",
		"CREATE TABLE shop.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10) DATA DIRECTORY='"+far+"')",
		"CREATE TABLE shop.old (id INT) ENGINE=MyISAM DATA DIRECTORY='"+far+"'",
		"CREATE TABLE shop.near (id INT PRIMARY KEY) ENGINE=InnoDB")
	inv, err := (MariaDBBackup{}).Inventory(t.Context(), account, s.Config().DataDir)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(inv.CannotCarry, "\n")
	for _, want := range []string{"shop.far-off ", "shop.parts ", "shop.old ", far + "/shop/far@002doff.ibd", "innodb_undo_directory is " + undo} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not named in\n%s", want, all)
		}
	}
	if strings.Contains(all, "near") || len(inv.CannotCarry) != 4 {
		t.Errorf("named:\n%s", all)
	}
}

// An account that lacks something is told so before the backup, with all that it lacks:
// without a right to them, tables that a copy would lack are not even seen. Without the
// server, the files still tell.
func TestInventoryWithLess(t *testing.T) {
	s, account := startServer(t, "--log-bin=bin", "--binlog-expire-logs-seconds=60")
	execute(t, s.DB(), "CREATE USER least@'%' IDENTIFIED BY 'p'", "GRANT PROCESS, BINLOG MONITOR ON *.* TO least@'%'",
		"CREATE ROLE helper", "GRANT SLAVE MONITOR ON *.* TO helper", "GRANT helper TO least@'%'", "SET DEFAULT ROLE helper FOR least@'%'",
		"CREATE DATABASE shop", "CREATE TABLE shop.cart (id INT) ENGINE=MEMORY", "GRANT ALL ON shop.* TO least@'%'")
	dir := s.Config().DataDir
	account.User, account.Password = "least", "p"
	inv, err := (MariaDBBackup{}).Inventory(t.Context(), account, dir)
	const lacks = "the account least@% of backups lacks RELOAD, SHOW VIEW: on the primary, GRANT RELOAD, SHOW VIEW ON *.* TO 'least'@'%'"
	if err != nil || !errors.Is(inv.Unable, ErrUnable) || !strings.HasSuffix(inv.Unable.Error(), ": "+lacks) || inv.FileBytes < 1<<20 {
		t.Errorf("with less than it needs: %+v, %v", inv, err)
	}
	execute(t, s.DB(), "GRANT RELOAD, SHOW VIEW ON *.* TO least@'%'")
	if inv, err := (MariaDBBackup{}).Inventory(t.Context(), account, dir); err != nil || inv.Unable != nil || inv.BinlogExpiry != time.Minute || inv.CheckpointAge == 0 ||
		len(inv.CannotCarry) != 0 || len(inv.Loses) != 1 || !strings.HasPrefix(inv.Loses[0], "the table shop.cart is of the engine MEMORY, whose rows every server loses") {
		t.Errorf("with the least privileges: %+v, %v", inv, err)
	}
	s.Kill()
	inv, err = (MariaDBBackup{}).Inventory(t.Context(), account, dir)
	if err == nil || inv.FileBytes < 1<<20 || inv.RedoBytes != 32<<20 {
		t.Errorf("without the server: %+v, %v", inv, err)
	}
}

// MySQL has its own ways to say where its data are, and how large its redo log is.
func TestInventoryOfMySQL(t *testing.T) {
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	far := t.TempDir()
	e := fakeTool(t, "")
	s, account := startInstallation(t, in, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--innodb-directories="+far, "--innodb-redo-log-capacity=16M", "--binlog-expire-logs-seconds=7200")
	execute(t, s.DB(), "CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY, filler CHAR(250))", "CREATE TABLESPACE logs ADD DATAFILE 'logs.ibd'")
	inv, err := e.Inventory(t.Context(), account, s.Config().DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.CannotCarry) != 0 || inv.Encryption != "" || inv.BinlogExpiry != 2*time.Hour || inv.RedoBytes != 16<<20 {
		t.Errorf("inventory %+v", inv)
	}
	before := inv.FileBytes
	if before < 40<<20 || before > 100<<20 { // the dictionary, two undo tablespaces and ibdata1
		t.Errorf("%d bytes of files", before)
	}
	execute(t, s.DB(), "CREATE TABLE shop.`far-off` (id INT PRIMARY KEY) DATA DIRECTORY='"+far+"'",
		"CREATE TABLE shop.near (id INT PRIMARY KEY)", "INSERT INTO shop.orders VALUES (1, 'x')",
		"CREATE USER least@'%' IDENTIFIED BY 'p'", "GRANT PROCESS ON *.* TO least@'%'",
		"GRANT SELECT ON performance_schema.keyring_component_status TO least@'%'", "CREATE TABLE shop.cart (id INT) ENGINE=MEMORY")
	account.User, account.Password = "least", "p"
	const lacks = "the account least@% of backups lacks BACKUP_ADMIN, RELOAD, REPLICATION CLIENT, SELECT ON performance_schema.*, SHOW VIEW: on the primary, " +
		"GRANT BACKUP_ADMIN, RELOAD, REPLICATION CLIENT, SHOW VIEW ON *.* TO 'least'@'%'; GRANT SELECT ON performance_schema.* TO 'least'@'%'"
	if inv, err = e.Inventory(t.Context(), account, s.Config().DataDir); err != nil || !errors.Is(inv.Unable, ErrUnable) || !strings.HasSuffix(inv.Unable.Error(), lacks) {
		t.Errorf("with less than it needs: %+v, %v", inv, err)
	}
	execute(t, s.DB(), "GRANT BACKUP_ADMIN, RELOAD, REPLICATION CLIENT, SHOW VIEW ON *.* TO least@'%'", "GRANT SELECT ON performance_schema.log_status TO least@'%'")
	inv, err = e.Inventory(t.Context(), account, s.Config().DataDir)
	if all := strings.Join(inv.CannotCarry, "\n"); err != nil || len(inv.CannotCarry) != 1 || !strings.Contains(all, filepath.Join(far, "shop", "far@002doff.ibd")) {
		t.Errorf("%v, named:\n%s", err, all)
	}
	if inv.CheckpointAge <= 0 || inv.FileBytes <= before || len(inv.Loses) != 1 || !strings.Contains(inv.Loses[0], "shop.cart") {
		t.Errorf("inventory %+v after %d bytes of files", inv, before)
	}
	// Without GTIDs the tool does not tell where a replica with workers is, and of a primary it
	// need not.
	execute(t, s.DB(), "SET GLOBAL replica_parallel_workers = 4")
	for _, tt := range []struct {
		replica bool
		gtid    string
		unable  bool
	}{
		{false, "OFF", false},
		{true, "OFF", true},
		{true, "ON", false},
	} {
		if tt.gtid == "ON" {
			execute(t, s.DB(), "SET GLOBAL enforce_gtid_consistency = ON", "SET GLOBAL gtid_mode = OFF_PERMISSIVE", "SET GLOBAL gtid_mode = ON_PERMISSIVE", "SET GLOBAL gtid_mode = ON")
		}
		account.Replica = tt.replica
		inv, err := e.Inventory(t.Context(), account, s.Config().DataDir)
		if err != nil || errors.Is(inv.Unable, ErrUnable) != tt.unable || tt.unable && !strings.Contains(inv.Unable.Error(), "(replica_parallel_workers=4): turn GTIDs on, use --engine=clone, or set it to 0") {
			t.Errorf("replica %v, gtid_mode %s: %+v, %v", tt.replica, tt.gtid, inv, err)
		}
	}
}

func TestGrants(t *testing.T) {
	needs := []need{{name: "RELOAD"}, {name: "SELECT", tables: []string{"log_status", "threads"}}, seesTables}
	for _, tt := range []struct {
		name, lacks string
		lines       []string
	}{
		{"root of MariaDB", "", []string{"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` IDENTIFIED BY PASSWORD '*0' WITH GRANT OPTION", "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION"}},
		{"root of MySQL", "", []string{"GRANT SELECT, INSERT, RELOAD, SHOW VIEW ON *.* TO `root`@`localhost` WITH GRANT OPTION", "GRANT APPLICATION_PASSWORD_ADMIN,BACKUP_ADMIN ON *.* TO `root`@`localhost`"}},
		{"a schema, with ANSI_QUOTES", "", []string{`GRANT RELOAD, CREATE ON *.* TO "b"@"%"`, `GRANT SELECT ON "performance_schema".* TO "b"@"%"`}},
		{"table by table", "", []string{"GRANT RELOAD, INDEX ON *.* TO 'b'@'%'", "GRANT SELECT ON `performance_schema`.`log_status` TO `b`@`%`", "GRANT SELECT ON `performance_schema`.`threads` TO `b`@`%`"}},
		{"one table short", "SELECT ON performance_schema.*", []string{"GRANT RELOAD, INDEX ON *.* TO 'b'@'%'", "GRANT SELECT ON `performance_schema`.`log_status` TO `b`@`%`"}},
		{"a role that is not active", "RELOAD, SELECT ON performance_schema.*, SHOW VIEW", []string{"GRANT USAGE ON *.* TO `b`@`%`", "GRANT `helper`@`%` TO `b`@`%`", "GRANT ALL PRIVILEGES ON `shop`.* TO `b`@`%`"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := parseGrants(tt.lines).check("b@%", needs)
			if tt.lacks == "" && err != nil || tt.lacks != "" && (!errors.Is(err, ErrUnable) || !strings.Contains(err.Error(), "lacks "+tt.lacks+":")) {
				t.Error(err)
			}
		})
	}
}

func TestRedoCapacity(t *testing.T) {
	for name, tt := range map[string]struct {
		v    map[string]string
		want int64
	}{
		"MySQL 5.7":    {map[string]string{"innodb_log_file_size": "48", "innodb_log_files_in_group": "3"}, 144},
		"MySQL 8.0.30": {map[string]string{"innodb_log_file_size": "48", "innodb_log_files_in_group": "2", "innodb_redo_log_capacity": "100"}, 100},
		"MariaDB":      {map[string]string{"innodb_log_file_size": "96"}, 96},
		"unknown":      {nil, 0},
	} {
		if got := redoCapacity(tt.v); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
