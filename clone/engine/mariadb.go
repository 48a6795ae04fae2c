// Package engine drives the tools that make physical copies of a server's data.
package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/flavor"
)

// Account is how a tool logs in to the server that it copies.
type Account struct {
	// Host and Port are where the server listens; a tool runs beside it.
	Host     string
	Port     int
	User     string
	Password string
}

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

// versionTimeout bounds a call that only prints a version.
const versionTimeout = 10 * time.Second

// Name is the engine's name on the wire and in the journal.
func (MariaDBBackup) Name() string { return MariaDBBackupName }

// InfoFiles are the names of the file that the tool streams last: the second is in
// use since MariaDB 11.1.
func (MariaDBBackup) InfoFiles() []string { return []string{"xtrabackup_info", "mariadb_backup_info"} }

// Version asks the tool which server it was built with.
func (e MariaDBBackup) Version(ctx context.Context) (flavor.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, e.Program, "--version").CombinedOutput()
	if err != nil {
		return flavor.Version{}, fmt.Errorf("%w: ask %s for its version: %w", ErrTool, e.Program, err)
	}
	return flavor.ParseMariaDBBackup(string(out))
}

// Backup starts a backup whose xbstream is read from the process's Stdout. reached is
// called, one call at a time, whenever the backup comes to another stage. The tool keeps
// its working files, and for as long as it runs the password in a file that only this
// account can read, in dir, which must be empty and is the caller's to remove.
func (e MariaDBBackup) Backup(ctx context.Context, a Account, dir string, reached func(Stage)) (*Process, error) {
	options := filepath.Join(dir, "client.cnf")
	if err := os.WriteFile(options, optionFile(a), 0o600); err != nil {
		return nil, fmt.Errorf("write the tool's option file: %w", err)
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return nil, fmt.Errorf("make the tool's working directory: %w", err)
	}
	stages := &stageReader{}
	return start(ctx, e.Log, true, e.backupArgs(options, work), func(line string) {
		if stage := stages.read(line); stage != "" {
			reached(stage)
		}
	})
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

// optionFile renders the account. Values are quoted as option files want it:
// https://mariadb.com/kb/en/configuring-mariadb-with-option-files/
func optionFile(a Account) []byte {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)
	return fmt.Appendf(nil, "[mariadb-backup]\nprotocol=tcp\nhost=\"%s\"\nport=%d\nuser=\"%s\"\npassword=\"%s\"\n",
		quote.Replace(a.Host), a.Port, quote.Replace(a.User), quote.Replace(a.Password))
}

// Prepare makes the copy in dir consistent, so that a server can start on it. memory
// is what InnoDB's recovery may use, in bytes. A copy whose preparation was
// interrupted is useless.
func (e MariaDBBackup) Prepare(ctx context.Context, dir string, memory int64) error {
	p, err := start(ctx, e.Log, false, e.prepareArgs(dir, memory), func(string) {})
	if err != nil {
		return err
	}
	if err := p.Wait(); err != nil {
		return fmt.Errorf("prepare the copy with %d MiB of memory: %w", memory>>20, err)
	}
	return nil
}

func (e MariaDBBackup) prepareArgs(dir string, memory int64) []string {
	return []string{
		e.Program,
		"--no-defaults", // the copy brings its own settings in backup-my.cnf
		"--prepare",
		"--use-memory=" + strconv.FormatInt(memory, 10),
		"--target-dir=" + dir,
	}
}

// ErrPairing is returned when tool and server do not belong together.
var ErrPairing = errors.New("the backup tool does not match the server")

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
