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

	"github.com/go-sql-driver/mysql"
)

// askTimeout bounds the questions to the server.
const askTimeout = 5 * time.Second

// maxNamed is how much of what cannot be carried is named.
const maxNamed = 10

// Inventory is what a donor can say of the copy that it would give.
type Inventory struct {
	Data
	// CannotCarry are sentences about what the copy would lack, by name.
	CannotCarry []string
	// Encryption names the active key management plugin; empty without one.
	Encryption string
	// Unable says why no backup can be made now; nil when one can.
	Unable error
	// BinlogExpiry is how long the server keeps its binary logs; 0: for ever.
	BinlogExpiry time.Duration
}

// TakeInventory looks at the data directory dir and at the server that runs on it.
// Together with an error it returns what it could find out.
//
// Variables, status, engines and plugins can be read by every account. Tables of
// engines that cannot be carried are seen only by an account with a right to them, so
// that one with the backup's minimum (RELOAD, PROCESS, BINLOG MONITOR) misses them. MySQL
// asks for PROCESS to name its data files, and for SELECT on
// performance_schema.keyring_component_status, as XtraBackup does.
func TakeInventory(ctx context.Context, a Account, dir string) (Inventory, error) {
	return takeInventory(ctx, a, dir, copied)
}

func takeInventory(ctx context.Context, a Account, dir string, c carriage) (Inventory, error) {
	var inv Inventory
	var measureErr error
	inv.Data, measureErr = MeasureData(ctx, dir)
	inv.CannotCarry = slices.Clone(inv.Elsewhere)
	err := inv.ask(ctx, a, c)
	if len(inv.CannotCarry) > maxNamed {
		inv.CannotCarry = append(inv.CannotCarry[:maxNamed], "and there is more like this")
	}
	return inv, errors.Join(measureErr, err)
}

// ask asks the server what its files do not tell.
func (inv *Inventory) ask(ctx context.Context, a Account, c carriage) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	connector, err := mysql.NewConnector(config(a))
	if err != nil {
		return fmt.Errorf("ask the server about its data: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	v, err := inv.readVariables(ctx, db)
	if err != nil {
		return fmt.Errorf("ask the server about its data: %w", err)
	}
	engines := func(ctx context.Context, db *sql.DB) error { return inv.readEngines(ctx, db, c) }
	looks := []func(context.Context, *sql.DB) error{inv.readStatus, inv.readPlugins, engines}
	if !strings.Contains(v[variableVersion], "MariaDB") {
		dataFiles := func(ctx context.Context, db *sql.DB) error { return inv.readDataFiles(ctx, db, v[variableDataDir]) }
		looks = append(looks, dataFiles, inv.readKeyring)
	}
	for _, look := range looks {
		if err := look(ctx, db); err != nil {
			return fmt.Errorf("ask the server about its data: %w", err)
		}
	}
	return nil
}

func config(a Account) *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net = a.User, a.Password, "tcp"
	c.Addr = net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
	c.Timeout, c.ReadTimeout = askTimeout, askTimeout
	c.Logger = &mysql.NopLogger{} // what fails is returned
	return c
}

// The names of the variables that say where data lie. Their values are relative to datadir.
const (
	variableDataDir  = "datadir"
	variableDataFile = "innodb_data_file_path"
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

// directories are the variables that a server whose copy can be carried leaves at the
// data directory: the tool puts these files flat into the copy.
var directories = []string{variableDataHome, "innodb_undo_directory", "innodb_log_group_home_dir", "aria_log_dir_path"}

func (inv *Inventory) readVariables(ctx context.Context, db *sql.DB) (map[string]string, error) {
	names := slices.Concat(directories, []string{
		variableDataDir, variableDataFile, variableRocksDB, variableRedo, variableRedos, variableCapacity, variableBinlog, variableExpiry, variableVersion, variableDump,
	})
	v, err := pairs(ctx, db, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "','")+"')")
	if err != nil {
		return nil, err
	}
	inv.CannotCarry = append(inv.CannotCarry, elsewhere(v)...)
	if redo := redoCapacity(v); redo > 0 {
		inv.RedoBytes = redo
	}
	if seconds, err := strconv.ParseInt(v[variableExpiry], 10, 64); err == nil && v[variableBinlog] == "ON" {
		inv.BinlogExpiry = time.Duration(seconds) * time.Second
	}
	return v, nil
}

// redoCapacity is 0 when the variables do not tell.
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
	for spec := range strings.SplitSeq(v[variableDataFile], ";") {
		file, _, _ := strings.Cut(spec, ":")
		// One with a home elsewhere has been named already.
		if home := absolute(v[variableDataHome], dataDir); file != "" && home == dataDir && filepath.Dir(absolute(file, dataDir)) != dataDir {
			all = append(all, fmt.Sprintf("%s puts %s elsewhere than into the data directory %s", variableDataFile, file, dataDir))
		}
	}
	if path, there := v[variableRocksDB]; there && absolute(path, dataDir) != filepath.Join(dataDir, rocksDir) {
		all = append(all, fmt.Sprintf("%s is %s, not %s in the data directory", variableRocksDB, path, rocksDir))
	}
	// The tools stream the dump under this name, which no joiner may follow.
	if slices.Contains(strings.Split(v[variableDump], "/"), "..") {
		all = append(all, fmt.Sprintf("%s is %s, which leads out of the data directory: name a file in it", variableDump, v[variableDump]))
	}
	return all
}

// readStatus reads the checkpoint age of MariaDB and Percona Server, or what MySQL 8.0.30
// and later tells instead. Before that MySQL has it in a text for people only.
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

// readPlugins looks for MariaDB's kind of key management, and for that of MySQL up to 8.4.
func (inv *Inventory) readPlugins(ctx context.Context, db *sql.DB) error {
	const query = "SELECT plugin_name FROM information_schema.plugins WHERE plugin_type IN ('ENCRYPTION', 'KEYRING') AND plugin_status = 'ACTIVE'"
	err := db.QueryRowContext(ctx, query).Scan(&inv.Encryption)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// noTable says whether the server is too old for the table that it was asked for:
// ER_NO_SUCH_TABLE, and ER_UNKNOWN_TABLE for one of information_schema.
//
// https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
func noTable(err error) bool {
	return isNumber(err, 1146) || isNumber(err, 1109)
}

// readKeyring looks for MySQL's newer kind of key management, which is there since 8.0.24.
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

// readDataFiles names the tablespaces outside of the data directory. MySQL 8.0 keeps
// their paths in its dictionary; up to 5.7 files beside the tables have them: addPointer.
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

// carriage says which tables a copy has as a restarted server has them.
type carriage struct {
	engines []string
	// except is a condition on information_schema.tables that exempts some; empty without.
	except string
	// why completes "the table t is of the engine e, ".
	why string
}

// copied are the engines whose tables the tools copy, and those that keep nothing on the
// disk. Of all others a tool takes the definition and leaves the data: CONNECT, Mroonga,
// S3, Spider, ColumnStore.
//
// https://mariadb.com/kb/en/files-backed-up-by-mariabackup/
// https://docs.percona.com/percona-xtrabackup/8.0/about-xtrabackup.html
var copied = carriage{
	engines: []string{
		"InnoDB", "Aria", "MyISAM", "MRG_MyISAM", "CSV", "ARCHIVE", "ROCKSDB",
		"MEMORY", "BLACKHOLE", "SEQUENCE", "PERFORMANCE_SCHEMA",
	},
	why: "whose data the tool does not copy",
}

// readEngines asks for tables only where there is an engine that could have them: the
// question makes MariaDB open every table's definition.
func (inv *Inventory) readEngines(ctx context.Context, db *sql.DB, c carriage) error {
	list := "('" + strings.Join(c.engines, "','") + "')"
	engines, err := rows(ctx, db, "SELECT engine, '' FROM information_schema.engines WHERE support IN ('YES', 'DEFAULT') AND engine NOT IN "+list)
	if err != nil || len(engines) == 0 {
		return err
	}
	condition := "engine NOT IN " + list
	if c.except != "" {
		condition += " AND " + c.except
	}
	tables, err := rows(ctx, db, "SELECT CONCAT(table_schema, '.', table_name), engine FROM information_schema.tables "+
		"WHERE "+condition+" ORDER BY 1 LIMIT "+strconv.Itoa(maxNamed))
	for _, t := range tables {
		inv.CannotCarry = append(inv.CannotCarry, fmt.Sprintf("the table %s is of the engine %s, %s", t[0], t[1], c.why))
	}
	return err
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
