package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/clone/volume"

	"github.com/go-sql-driver/mysql"
)

const (
	// askTimeout bounds questions to the server.
	askTimeout = 5 * time.Second
	// tablesTimeout bounds questions whose cost grows with the number of tables: a server with
	// hundreds of thousands reads a file for each one that it has not opened.
	tablesTimeout = 10 * time.Minute
	// maxNamed is how many tables that cannot be carried are named.
	maxNamed = 10
)

// ErrUnable is returned when no backup of the server is possible and waiting does not help: an
// operator has to change something, which the text names.
var ErrUnable = errors.New("no backup of this server can be made")

// Inventory describes the copy that a donor would give.
type Inventory struct {
	Data
	// CannotCarry are sentences about what the copy would lack.
	CannotCarry []string
	// Loses are sentences about data that every server loses when it starts, so the copy starts
	// without them.
	Loses []string
	// Encryption names the active key management plugin without which the copy cannot be read, and of
	// MySQLClone what needs it; empty without one.
	Encryption string
	// Unable says why no backup is possible now, or is nil. With ErrUnable waiting does not help.
	Unable error
	// BinlogExpiry is how long the server keeps binary logs; 0: for ever.
	BinlogExpiry time.Duration

	dir string // the data directory
}

// take examines the data directory dir and the server that runs on it. With an error the inventory
// is incomplete, and it is unknown what a copy would lack. It takes as long as the server needs to
// look through its tables.
//
// Without the privileges for a backup or for this look, the Inventory is Unable and has only the
// size of the data.
func (k kind) take(ctx context.Context, a Account, dir string) (Inventory, error) {
	inv := Inventory{dir: dir}
	var measureErr error
	inv.Data, measureErr = MeasureData(ctx, dir)
	inv.CannotCarry = slices.Clone(inv.Elsewhere)
	err := inv.ask(ctx, a, k)
	if err != nil {
		err = fmt.Errorf("ask the server about its data: %w", err)
	}
	if errors.Is(err, ErrUnable) {
		inv.Unable, err = errors.Unwrap(err), nil
	}
	for _, all := range []*[]string{&inv.CannotCarry, &inv.Loses} {
		if len(*all) > maxNamed {
			*all = append((*all)[:maxNamed], "and there is more like this")
		}
	}
	return inv, errors.Join(measureErr, err)
}

// kind is what an inventory has to know about the engine.
type kind struct {
	// needs are the privileges that the engine requires.
	needs []need
	// carried are the tables that a copy has.
	carried carriage
	// check, when set, returns ErrUnable for other obstacles to a backup.
	check func(ctx context.Context, db *sql.DB) error
	// encrypted, when set, names what needs the keys of a server that has some; otherwise all of its
	// data may.
	encrypted func(ctx context.Context, db *sql.DB, keyring string) (string, error)
}

// ask asks the server for what its files do not show.
func (inv *Inventory) ask(ctx context.Context, a Account, k kind) error {
	c := config(a)
	c.ReadTimeout = 0 // each question has its own timeout
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if err := checkPrivileges(ctx, db, k.needs); err != nil {
		return err
	}
	v, err := inv.readVariables(ctx, db)
	if err != nil {
		return err
	}
	looks := []func(context.Context, *sql.DB) error{inv.readStatus, inv.readPlugins}
	if k.check != nil {
		looks = append(looks, k.check)
	}
	slow := []func(context.Context, *sql.DB) error{func(ctx context.Context, db *sql.DB) error { return inv.readTables(ctx, db, k.carried) }}
	if !strings.Contains(v[variableVersion], "MariaDB") {
		looks = append(looks, inv.readKeyring)
		slow = append(slow, func(ctx context.Context, db *sql.DB) error { return inv.readDataFiles(ctx, db, v[variableDataDir]) })
	}
	if k.encrypted != nil {
		slow = append(slow, func(ctx context.Context, db *sql.DB) error {
			var err error
			inv.Encryption, err = k.encrypted(ctx, db, inv.Encryption)
			return err
		})
	}
	if err := within(ctx, askTimeout, db, looks); err != nil {
		return err
	}
	return within(ctx, tablesTimeout, db, slow)
}

// within asks several questions with one timeout each, up to the first error.
func within(ctx context.Context, limit time.Duration, db *sql.DB, looks []func(context.Context, *sql.DB) error) error {
	for _, look := range looks {
		ctx, cancel := context.WithTimeout(ctx, limit)
		err := look(ctx, db)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func config(a Account) *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net = a.User, a.Password, "tcp"
	c.Addr, c.TLS = net.JoinHostPort(a.Host, strconv.Itoa(a.Port)), a.TLS
	if filepath.IsAbs(a.Host) {
		c.Net, c.Addr = "unix", a.Host
	}
	c.Timeout, c.ReadTimeout = askTimeout, askTimeout
	c.Logger = &mysql.NopLogger{} // errors are returned, not logged
	return c
}

// Variables with the places of data, relative to datadir.
const (
	variableDataDir  = "datadir"
	variableDataFile = volume.LayoutKey
	variableDataHome = "innodb_data_home_dir"
	variableRocksDB  = "rocksdb_datadir"
	variableRedo     = "innodb_log_file_size"
	variableRedos    = "innodb_log_files_in_group" // MySQL before 8.0.30
	variableCapacity = "innodb_redo_log_capacity"  // MySQL since then
	variableVersion  = "version"
	variableBinlog   = "log_bin"
	variableExpiry   = "binlog_expire_logs_seconds"
	variableDump     = "innodb_buffer_pool_filename"
)

// directories are the variables that must name the data directory: the tool puts these files into
// the copy's top directory.
var directories = []string{variableDataHome, "innodb_undo_directory", "innodb_log_group_home_dir", "aria_log_dir_path"}

func (inv *Inventory) readVariables(ctx context.Context, db *sql.DB) (map[string]string, error) {
	names := slices.Concat(directories, []string{
		variableDataDir, variableDataFile, variableRocksDB, variableRedo, variableRedos, variableCapacity, variableBinlog, variableExpiry, variableVersion, variableDump,
	})
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	v, err := pairs(ctx, db, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "','")+"')")
	if err != nil {
		return nil, err
	}
	inv.CannotCarry = append(inv.CannotCarry, elsewhere(v)...)
	inv.addSystem(inv.dir, v[variableDataFile])
	if redo := redoCapacity(v); redo > 0 {
		inv.RedoBytes = redo
	}
	if seconds, err := strconv.ParseInt(v[variableExpiry], 10, 64); err == nil && v[variableBinlog] == "ON" {
		inv.BinlogExpiry = time.Duration(seconds) * time.Second
	}
	return v, nil
}

// redoCapacity is the size of the redo log; 0: unknown.
//
// https://dev.mysql.com/doc/refman/8.4/en/innodb-redo-log.html
func redoCapacity(v map[string]string) int64 {
	if n, err := strconv.ParseInt(v[variableCapacity], 10, 64); err == nil {
		return n
	}
	n, err := strconv.ParseInt(v[variableRedo], 10, 64)
	if err != nil {
		return 0
	}
	if files, err := strconv.ParseInt(v[variableRedos], 10, 64); err == nil {
		n *= files
	}
	return n
}

// elsewhere names the variables that put data where a copy does not have them.
func elsewhere(v map[string]string) []string {
	var all []string
	dataDir := filepath.Clean(v[variableDataDir])
	for _, name := range directories {
		if path := absolute(v[name], dataDir); path != dataDir {
			all = append(all, fmt.Sprintf("%s is %s, not the data directory %s", name, v[name], dataDir))
		}
	}
	for _, file := range volume.DataFiles(v[variableDataFile]) {
		// One with another home directory has been named already.
		if home := absolute(v[variableDataHome], dataDir); home == dataDir && filepath.Dir(absolute(file, dataDir)) != dataDir {
			all = append(all, fmt.Sprintf("%s puts %s elsewhere than into the data directory %s", variableDataFile, file, dataDir))
		}
	}
	if path, there := v[variableRocksDB]; there && absolute(path, dataDir) != filepath.Join(dataDir, rocksDir) {
		all = append(all, fmt.Sprintf("%s is %s, not %s in the data directory", variableRocksDB, path, rocksDir))
	}
	// The tools stream the dump under this name, which no joiner accepts.
	if slices.Contains(strings.Split(v[variableDump], "/"), "..") {
		all = append(all, fmt.Sprintf("%s is %s, which leads out of the data directory: name a file in it", variableDump, v[variableDump]))
	}
	return all
}

// readStatus reads the checkpoint age of MariaDB and Percona Server, or its equivalent of MySQL
// from 8.0.30 on. Earlier versions of MySQL show it only in a text.
func (inv *Inventory) readStatus(ctx context.Context, db *sql.DB) error {
	const (
		age        = "innodb_checkpoint_age"
		current    = "innodb_redo_log_current_lsn"
		checkpoint = "innodb_redo_log_checkpoint_lsn"
	)
	v, err := pairs(ctx, db, "SHOW GLOBAL STATUS WHERE Variable_name IN ('"+age+"', '"+current+"', '"+checkpoint+"')")
	if err != nil {
		return err
	}
	var n [3]int64
	for i, name := range []string{age, current, checkpoint} {
		if text, there := v[name]; there {
			if n[i], err = strconv.ParseInt(text, 10, 64); err != nil {
				return err
			}
		}
	}
	inv.CheckpointAge = max(n[0], n[1]-n[2])
	return nil
}

// readPlugins looks for key management plugins of MariaDB, and of MySQL up to 8.4.
func (inv *Inventory) readPlugins(ctx context.Context, db *sql.DB) error {
	const query = "SELECT plugin_name FROM information_schema.plugins WHERE plugin_type IN ('ENCRYPTION', 'KEYRING') AND plugin_status = 'ACTIVE'"
	err := db.QueryRowContext(ctx, query).Scan(&inv.Encryption)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// noTable says whether the server is too old for a table: ER_NO_SUCH_TABLE, or ER_UNKNOWN_TABLE in
// information_schema.
//
// https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
func noTable(err error) bool {
	return isNumber(err, 1146) || isNumber(err, 1109)
}

// readKeyring looks for keyring components, which MySQL has from 8.0.24 on.
//
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-keyring-component-status-table.html
func (inv *Inventory) readKeyring(ctx context.Context, db *sql.DB) error {
	const query = "SELECT status_value FROM performance_schema.keyring_component_status WHERE status_key = 'Component_name'"
	var name string
	err := db.QueryRowContext(ctx, query).Scan(&name)
	switch {
	case errors.Is(err, sql.ErrNoRows), noTable(err):
		return nil
	case err == nil:
		inv.Encryption = name
	}
	return err
}

// readDataFiles names tablespaces outside of the data directory. MySQL 8.0 has their paths in its
// dictionary; up to 5.7 they are in files beside the tables, see addPointer.
//
// https://dev.mysql.com/doc/refman/8.4/en/information-schema-innodb-datafiles-table.html
func (inv *Inventory) readDataFiles(ctx context.Context, db *sql.DB, dataDir string) error {
	files, err := rows(ctx, db, "SELECT path, '' FROM information_schema.innodb_datafiles")
	if noTable(err) {
		return nil
	}
	for _, f := range files {
		inside, err := filepath.Rel(dataDir, absolute(f[0], dataDir))
		if err != nil || !filepath.IsLocal(inside) {
			inv.CannotCarry = append(inv.CannotCarry, fmt.Sprintf("the tablespace %s lies outside of the data directory %s", f[0], dataDir))
		}
	}
	return err
}

// carriage says which tables a copy has.
type carriage struct {
	engines []string
	// except is a condition on information_schema.tables for exceptions; empty: none.
	except string
	// why completes "the table t is of the engine e, ".
	why string
}

// engineMemory is the engine of tables whose rows are only in the server's memory.
const engineMemory = "MEMORY"

// copied are the engines whose tables the tools copy, and those without rows. Of other engines,
// such as CONNECT, Mroonga, S3, Spider and ColumnStore, a tool copies the definition without the
// data.
//
// https://mariadb.com/kb/en/files-backed-up-by-mariabackup/
// https://docs.percona.com/percona-xtrabackup/8.0/about-xtrabackup.html
var copied = carriage{
	engines: []string{
		"InnoDB", "Aria", "MyISAM", "MRG_MyISAM", "CSV", "ARCHIVE", "ROCKSDB",
		"BLACKHOLE", "SEQUENCE", "PERFORMANCE_SCHEMA",
	},
	why: "whose data the tool does not copy",
}

// losesMemory completes "the table t is of the engine MEMORY, ". A server that finds such a table
// empty after its start also empties it on its replicas, with a transaction of its own.
//
// https://dev.mysql.com/doc/refman/8.4/en/replication-features-memory.html
const losesMemory = "whose rows every server loses when it starts: on the copy it is empty, and its first use there " +
	"writes a TRUNCATE of the replica's own into its binary log; make it an InnoDB table"

// readTables names the tables that a copy would lack, and those that it would have without rows.
// MariaDB opens every table's definition for it.
func (inv *Inventory) readTables(ctx context.Context, db *sql.DB, c carriage) error {
	condition := "engine NOT IN ('" + strings.Join(c.engines, "','") + "') AND table_schema NOT IN ('information_schema', 'performance_schema')"
	if c.except != "" {
		condition += " AND " + c.except
	}
	tables, err := rows(ctx, db, "SELECT CONCAT(table_schema, '.', table_name), engine FROM information_schema.tables WHERE "+condition+
		" ORDER BY engine = '"+engineMemory+"', 1 LIMIT "+strconv.Itoa(2*(maxNamed+1)))
	if err != nil {
		return fmt.Errorf("look through the tables: %w", err)
	}
	for _, t := range tables {
		if t[1] == engineMemory {
			inv.Loses = append(inv.Loses, fmt.Sprintf("the table %s is of the engine %s, %s", t[0], t[1], losesMemory))
			continue
		}
		inv.CannotCarry = append(inv.CannotCarry, fmt.Sprintf("the table %s is of the engine %s, %s", t[0], t[1], c.why))
	}
	return nil
}

// pairs reads the rows of SHOW VARIABLES or SHOW STATUS.
func pairs(ctx context.Context, db *sql.DB, query string) (map[string]string, error) {
	all, err := rows(ctx, db, query)
	v := map[string]string{}
	for _, row := range all {
		v[strings.ToLower(row[0])] = row[1]
	}
	return v, err
}

// rows reads rows of two columns.
func rows(ctx context.Context, db *sql.DB, query string) ([][2]string, error) {
	r, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var all [][2]string
	for r.Next() {
		var row [2]string
		if err := r.Scan(&row[0], &row[1]); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, r.Err()
}

// column reads rows of one column.
func column(ctx context.Context, db *sql.DB, query string) ([]string, error) {
	r, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	var all []string
	for r.Next() {
		var text string
		if err := r.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, r.Err()
}
