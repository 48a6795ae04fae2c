package engine

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"

	"understudy/replicate/flavor"
)

// MariaDBBackup copies MariaDB 10.6 and later with the server's own mariadb-backup.
//
// https://mariadb.com/kb/en/mariabackup-options/
type MariaDBBackup struct {
	// Program is the tool. Without a slash it is looked up in PATH.
	Program string
	// Parallel is how many files are copied at the same time: see parallel.
	Parallel int
	Log      *slog.Logger
}

// MariaDBBackupName is the engine's name on the wire and in the journal.
const MariaDBBackupName = "mariadb-backup"

// Name is the engine's name on the wire and in the journal.
func (MariaDBBackup) Name() string { return MariaDBBackupName }

// InfoFiles are the names of the file that the tool streams last; the second one is that of MariaDB
// 11.1 and later.
func (MariaDBBackup) InfoFiles() []string { return []string{"xtrabackup_info", "mariadb_backup_info"} }

// Version is the version of the server that the tool was built with.
func (e MariaDBBackup) Version(ctx context.Context) (flavor.Version, error) {
	out, err := askVersion(ctx, e.Program)
	if err != nil {
		return flavor.Version{}, err
	}
	return flavor.ParseMariaDBBackup(out)
}

// Inventory examines the server and its data directory dir. With an error it is incomplete, and it
// is unknown what a copy would lack.
func (MariaDBBackup) Inventory(ctx context.Context, a Account, dir string) (Inventory, error) {
	return kind{needs: mariaDBNeeds, carried: copied}.take(ctx, a, dir)
}

// Backup starts a backup whose xbstream is read from the process's Stdout. It calls reached, one
// call at a time, at each stage. The tool keeps working files in dir, which must be empty and which
// the caller removes. While the tool runs, dir also has the password, in a file that only this
// account can read.
func (e MariaDBBackup) Backup(ctx context.Context, a Account, dir string, reached func(Stage)) (*Process, error) {
	return backupTool{e.Log, a, mariaDBOptions(a), e.backupArgs, (&stageReader{}).read, reached}.start(ctx, dir)
}

// mariaDBOptions renders the account. The server's certificate has the member's name, not the
// address of this host, so the tool must not compare them, as it does by default since 11.4.
//
// https://mariadb.com/kb/en/securing-connections-for-client-and-server/
func mariaDBOptions(a Account) []byte {
	more := []string{"protocol=tcp"}
	if a.TLS != nil {
		more = append(more, "ssl", "skip-ssl-verify-server-cert")
	}
	return optionFile("mariadb-backup", a, more...)
}

func (e MariaDBBackup) backupArgs(options, work string) []string {
	return []string{
		e.Program,
		"--defaults-file=" + options, // must come first
		"--backup",
		"--stream=xbstream",
		"--slave-info", // writes nothing on a primary
		"--parallel=" + strconv.Itoa(parallel(e.Parallel)),
		"--target-dir=" + work,
	}
}

// Prepare makes the copy in dir consistent, so that a server can start on it. memory is what
// InnoDB's recovery may use, in bytes. A copy is useless after an interrupted prepare.
func (e MariaDBBackup) Prepare(ctx context.Context, dir string, memory int64) error {
	if err := runPrepare(ctx, e.Log, dir, e.prepareArgs(dir, memory), memory); err != nil {
		return err
	}
	return e.rollBackPrepared(ctx, dir, memory)
}

func (e MariaDBBackup) prepareArgs(dir string, memory int64) []string {
	return []string{
		e.Program,
		"--defaults-file=" + filepath.Join(dir, backupConfig), // how the copy's files are laid out; must come first
		"--prepare",
		"--use-memory=" + strconv.FormatInt(memory, 10),
		"--target-dir=" + dir,
	}
}

// CheckPairing refuses a server that the tool may misread. MariaDB asks for the same version on
// both sides; the data format depends only on the series.
//
// https://mariadb.com/kb/en/mariabackup-overview/
func (e MariaDBBackup) CheckPairing(tool, server flavor.Version) error {
	if server.Flavor != flavor.MariaDB || tool.Series() != server.Series() {
		return fmt.Errorf("%w: %s is of series %s, the server is %s; put the tool of the server's own image beside it",
			ErrPairing, e.Program, tool.Series(), server)
	}
	return nil
}
