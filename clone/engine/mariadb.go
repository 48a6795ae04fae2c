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
	// Program is the tool, looked up in PATH when it has no slash.
	Program string
	Log     *slog.Logger
}

// MariaDBBackupName is the engine's name on the wire and in the journal.
const MariaDBBackupName = "mariadb-backup"

// Name is the engine's name on the wire and in the journal.
func (MariaDBBackup) Name() string { return MariaDBBackupName }

// InfoFiles are the names of the file that the tool streams last: the second is in
// use since MariaDB 11.1.
func (MariaDBBackup) InfoFiles() []string { return []string{"xtrabackup_info", "mariadb_backup_info"} }

// Version asks the tool which server it was built with.
func (e MariaDBBackup) Version(ctx context.Context) (flavor.Version, error) {
	out, err := askVersion(ctx, e.Program)
	if err != nil {
		return flavor.Version{}, err
	}
	return flavor.ParseMariaDBBackup(out)
}

// Inventory looks at the server and at its data directory dir. With an error it is not
// complete, and what a copy would lack is not known.
func (MariaDBBackup) Inventory(ctx context.Context, a Account, dir string) (Inventory, error) {
	return kind{needs: mariaDBNeeds, carried: copied}.take(ctx, a, dir)
}

// Backup starts a backup whose xbstream is read from the process's Stdout. reached is
// called, one call at a time, whenever the backup comes to another stage. The tool keeps
// its working files, and for as long as it runs the password in a file that only this
// account can read, in dir, which must be empty and is the caller's to remove.
func (e MariaDBBackup) Backup(ctx context.Context, a Account, dir string, reached func(Stage)) (*Process, error) {
	options := mariaDBOptions(a)
	return startBackup(ctx, e.Log, dir, options, e.backupArgs, a, (&stageReader{}).read, reached)
}

// mariaDBOptions renders the account. On this host the tool is not to compare the name in the
// server's certificate, which is the member's, with the address: since 11.4 it does by itself.
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
		"--target-dir=" + work,
	}
}

// Prepare makes the copy in dir consistent, so that a server can start on it. memory
// is what InnoDB's recovery may use, in bytes. A copy whose preparation was
// interrupted is useless.
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

// CheckPairing refuses a server that the tool may misread. MariaDB asks for the same
// version on both sides; the series is what the data format depends on.
//
// https://mariadb.com/kb/en/mariabackup-overview/
func (e MariaDBBackup) CheckPairing(tool, server flavor.Version) error {
	if server.Flavor != flavor.MariaDB || tool.Series() != server.Series() {
		return fmt.Errorf("%w: %s is of series %s, the server is %s; put the tool of the server's own image beside it",
			ErrPairing, e.Program, tool.Series(), server)
	}
	return nil
}
