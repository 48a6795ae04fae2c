package engine

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
)

// XtraBackup copies MySQL and Percona Server with Percona XtraBackup 2.4, 8.0, 8.4 and later.
//
// https://docs.percona.com/percona-xtrabackup/8.4/xtrabackup-option-reference.html
// https://docs.percona.com/percona-xtrabackup/2.4/xtrabackup_bin/xbk_option_reference.html
type XtraBackup struct {
	// Program is the tool. Without a slash it is looked up in PATH.
	Program string
	// Parallel is how many files are copied at the same time: see parallel.
	Parallel int
	Log      *slog.Logger
}

// XtraBackupName is the engine's name on the wire and in the journal.
const XtraBackupName = "xtrabackup"

// Name is the engine's name on the wire and in the journal.
func (XtraBackup) Name() string { return XtraBackupName }

// InfoFiles is the name of the file that says what was copied. Since 8.0 xtrabackup_tablespaces
// comes after it.
func (XtraBackup) InfoFiles() []string { return []string{"xtrabackup_info"} }

// Version is the version of MySQL that the tool was built on: see flavor.ParseXtraBackup.
func (e XtraBackup) Version(ctx context.Context) (flavor.Version, error) {
	out, err := askVersion(ctx, e.Program)
	if err != nil {
		return flavor.Version{}, err
	}
	return flavor.ParseXtraBackup(out)
}

// Inventory is MariaDBBackup.Inventory for this tool.
func (e XtraBackup) Inventory(ctx context.Context, a Account, dir string) (Inventory, error) {
	tool, err := e.Version(ctx)
	if err != nil {
		return Inventory{}, err
	}
	k := kind{needs: xtraNeeds, carried: copied}
	if a.Replica {
		k.check = checkApplier
	}
	if !tool.AtLeast(8, 0, 0) {
		k.needs = xtra24Needs
	}
	inv, err := k.take(ctx, a, dir)
	if limit := fileLimit(); inv.Tablespaces+otherFiles > limit {
		e.Log.Warn("the tool may not open enough files, for it keeps one open for each tablespace: raise the container's hard limit of open files (nofile)",
			"limit", limit, "tablespaces", inv.Tablespaces)
	}
	return inv, err
}

// otherFiles bounds the files that the tool opens besides the tablespaces.
const otherFiles = 100

// Variables about a replica's applier.
const (
	variableGTID       = "gtid_mode"
	variableWorkers    = "replica_parallel_workers"
	variableWorkersOld = "slave_parallel_workers" // before MySQL 8.0.26
)

// checkApplier returns ErrUnable for a replica whose position the tool does not record: with GTIDs
// off and several workers, it refuses --slave-info.
func checkApplier(ctx context.Context, db *sql.DB) error {
	names := strings.Join([]string{variableGTID, variableWorkers, variableWorkersOld}, "','")
	v, err := pairs(ctx, db, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+names+"')")
	if err != nil {
		return err
	}
	name := variableWorkers
	if v[name] == "" {
		name = variableWorkersOld
	}
	if v[variableGTID] == "ON" || v[name] == "" || v[name] == "0" {
		return nil
	}
	return fmt.Errorf("%w: without GTIDs XtraBackup does not know where a replica with several workers is (%s=%s): turn GTIDs on, use --engine=%s, or set it to 0 where the server's version allows that",
		ErrUnable, name, v[name], MySQLCloneName)
}

// wholeRollback is the first version whose prepare finds the tables of transactions to roll back in
// the copy's data dictionary. 8.0.6 left rows in subpartitioned tables and in tables of the system
// tablespace.
//
// https://www.percona.com/blog/20x-faster-backup-preparation-with-percona-xtrabackup-8-0-33-28/
var wholeRollback = flavor.Version{Flavor: flavor.MySQL, Major: 8, Patch: 33}

// Backup is MariaDBBackup.Backup for this tool. It asks the tool for its version first, because the
// options depend on it.
func (e XtraBackup) Backup(ctx context.Context, a Account, dir string, reached func(Stage)) (*Process, error) {
	tool, err := e.Version(ctx)
	if err != nil {
		return nil, err
	}
	if tool.Series() == "8.0" && tool.Less(wholeRollback) {
		e.Log.Warn("this XtraBackup may leave rows of transactions that were open when the backup ended, or crash in its prepare: use 8.0.35, which copies all servers of 8.0", "built_on", tool.String())
	}
	args := func(options, work string) []string { return e.backupArgs(tool, a.Replica, options, work) }
	return backupTool{e.Log, a, xtraOptions(a), args, (&xtraStages{}).read, reached}.start(ctx, dir)
}

// xtraOptions renders the account. Versions that do not know an option with the prefix loose ignore
// it: https://dev.mysql.com/doc/refman/8.4/en/option-modifiers.html
func xtraOptions(a Account) []byte {
	if a.Host == "localhost" { // the client library would use the socket
		a.Host = "127.0.0.1"
	}
	return optionFile("xtrabackup", a,
		"loose-no-version-check",      // it would send the server's version to Percona
		"loose-get-server-public-key", // caching_sha2_password without TLS, on this host only
	)
}

// backupArgs omits some options on purpose:
//
//   - --lock-ddl=REDUCED, from 8.4.0-5 and 9.1.0-2 on, lets DDL go on while the data are
//     copied. Percona's own cluster went back to ON in June 2026, for PXB-3818.
//   - --lock-ddl for 2.4, where it ends the backup of any server but Percona's. Without it
//     2.4 gives up when an index is built meanwhile, and another try may be luckier.
//   - --safe-slave-backup, which stops the donor's applier.
//   - --slave-info on a primary, of which it says nothing: without GTIDs the tool refuses it
//     of every server that has workers to apply with, which is the default from 8.0.27 on.
//   - --no-server-version-check: see CheckPairing.
func (e XtraBackup) backupArgs(tool flavor.Version, replica bool, options, work string) []string {
	args := []string{
		e.Program,
		"--defaults-file=" + options, // must come first
		"--backup",
		"--stream=xbstream",
		"--parallel=" + strconv.Itoa(parallel(e.Parallel)),
		"--target-dir=" + work,
	}
	if replica {
		args = append(args, "--slave-info")
	}
	if tool.AtLeast(8, 0, 0) {
		return append(args, "--lock-ddl=ON") // the default since 8.0.23
	}
	return append(args, "--binlog-info=ON") // on Percona Server only the prepare would find it
}

// Prepare makes the copy in dir consistent, so that a server can start on it. memory is what
// InnoDB's recovery may use, in bytes. A copy is useless after an interrupted prepare.
//
// Since 8.0 the copy has the donor's newest binary log, with an index that names only it. The
// server's first start on the copy looks there which prepared transactions were committed, and
// continues with the next file. So both stay.
func (e XtraBackup) Prepare(ctx context.Context, dir string, memory int64) error {
	if err := runPrepare(ctx, e.Log, dir, e.prepareArgs(dir, memory), memory); err != nil {
		return err
	}
	if err := moveIndexes(dir); err != nil {
		return fmt.Errorf("find the copy's binary log: %w", err)
	}
	return nil
}

// prepareArgs are the same for all versions. The copy's own settings have the layout of its files,
// so --no-defaults would be wrong:
func (e XtraBackup) prepareArgs(dir string, memory int64) []string {
	return []string{
		e.Program,
		"--defaults-file=" + filepath.Join(dir, backupConfig), // must come first
		"--prepare",
		"--use-memory=" + strconv.FormatInt(memory, 10),
		"--target-dir=" + dir,
	}
}

// xtraPairs is the table of CheckPairing in one line.
const xtraPairs = "XtraBackup 2.4 copies MySQL and Percona Server 5.6 and 5.7; 8.0 before 8.0.34 copies 8.0 up to the version that it is built on; " +
	"8.0.34 and later copies all of 8.0; 8.4 copies 8.4; each of 8.1 to 8.3 and 9.x copies its own series only; none copies MariaDB"

// CheckPairing refuses a server that the tool may misread:
//
//	XtraBackup           built on          copies
//	2.4                  5.7               5.6, 5.7
//	8.0 before 8.0.34    8.0.N             8.0.0 to 8.0.N: later servers write redo that it does not know
//	8.0.34 and later     8.0.34, 8.0.35    8.0
//	8.4                  8.4               8.4
//	8.1 to 8.3, 9.x      the same          the same series
//
// https://docs.percona.com/percona-xtrabackup/8.0/server-backup-version-comparison.html
// https://docs.percona.com/percona-xtrabackup/8.4/server-backup-version-comparison.html
// https://docs.percona.com/percona-xtrabackup/8.0/about-xtrabackup.html
func (e XtraBackup) CheckPairing(tool, server flavor.Version) error {
	if copies(tool, server) {
		return nil
	}
	return fmt.Errorf("%w: %s is built on %s, the server is %s; put the tool of the server's series beside it (%s)",
		ErrPairing, e.Program, tool, server, xtraPairs)
}

func copies(tool, server flavor.Version) bool {
	const (
		mysql56, mysql57 = "5.6", "5.7"
		mysql80          = "8.0"
	)
	switch {
	case server.Flavor != flavor.MySQL:
		return false
	case tool.Series() == mysql57:
		return server.Series() == mysql57 || server.Series() == mysql56
	case tool.Series() == mysql80 && !tool.AtLeast(8, 0, 34):
		return server.Series() == mysql80 && !tool.Less(server)
	}
	return tool.AtLeast(8, 0, 0) && tool.Series() == server.Series()
}

// moveIndexes makes the copy's index of binary logs name the file beside it. The tool streams the
// log without its directory but the donor's index unchanged. A server whose log_bin has a directory
// wrote that into the index, and a server on the copy would exit because the file is missing. The
// tool's own --copy-back also writes a new index.
func moveIndexes(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	names, err := fs.Glob(root.FS(), "*.index")
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := moveIndex(root, name); err != nil {
			return err
		}
	}
	return nil
}

func moveIndex(root *os.Root, name string) error {
	text, err := root.ReadFile(name)
	if err != nil {
		return err
	}
	var moved strings.Builder
	for line := range strings.Lines(string(text)) {
		file := path.Base(strings.TrimSpace(line))
		if _, err := root.Lstat(file); err == nil && file != "." {
			line = "./" + file + "\n"
		}
		moved.WriteString(line)
	}
	if moved.String() == string(text) {
		return nil
	}
	return root.WriteFile(name, []byte(moved.String()), 0) // it exists, and keeps its mode
}
