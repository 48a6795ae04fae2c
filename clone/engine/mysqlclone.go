package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"understudy/clone/volume"
	"understudy/replicate/flavor"
)

// MySQLClone copies MySQL 8.0.17 and later without a tool. The server itself hands over its data,
// see BackupDirect. For joiners that do not know that way, CLONE LOCAL DATA DIRECTORY makes a
// snapshot beside the data, which needs room for a second copy and is streamed and removed. Both
// need the server's clone plugin, and an account with BACKUP_ADMIN, PROCESS, and SELECT on the
// tables clone_progress, clone_status, threads, metadata_locks,
// replication_connection_configuration and keyring_component_status of performance_schema; for a
// replica without GTIDs also REPLICATION_SLAVE_ADMIN, and SELECT on mysql.slave_relay_log_info.
// Only InnoDB's tables have data in the copy.
//
// It makes one backup at a time, because the server allows only one CLONE. Do not copy a
// MySQLClone.
//
// https://dev.mysql.com/doc/refman/8.4/en/clone-plugin.html
type MySQLClone struct {
	// Dir is the directory for snapshots. The server can write to it and has the same path for it.
	// It has no other files. A joiner needs none.
	Dir string
	// Parallel is how many connections the server's clone comes over at most, without a snapshot:
	// see parallel.
	Parallel int
	// MinFree is how many bytes a snapshot leaves free in Dir's file system.
	MinFree int64
	Log     *slog.Logger

	working sync.Mutex
	holding atomic.Bool
	takes   atomic.Int64 // size of a snapshot in bytes
}

// MySQLCloneName is the engine's name on the wire and in the journal.
const MySQLCloneName = "clone"

// MySQLCloneInfo is the file that is opened first and closed last in the stream. It has the keys of
// the tools' info and checkpoints files, as volume.InfoValue reads them, and the origin.
const MySQLCloneInfo = volume.SnapshotInfo

var (
	// ErrBusy is returned while the server makes another copy.
	ErrBusy = errors.New("the server is being copied already")
	// ErrSnapshot is returned when the server cannot make its snapshot.
	ErrSnapshot = errors.New("snapshot")
	// ErrNoRoom is returned when a snapshot would leave too little space free.
	ErrNoRoom = errors.New("no room for a snapshot")
)

// Name is the engine's name on the wire and in the journal.
func (*MySQLClone) Name() string { return MySQLCloneName }

// InfoFiles is MySQLCloneInfo.
func (*MySQLClone) InfoFiles() []string { return []string{MySQLCloneInfo} }

// Version is the first version of MySQL with CLONE: there is no tool.
func (*MySQLClone) Version(context.Context) (flavor.Version, error) {
	return flavor.Version{Flavor: flavor.MySQL, Major: 8, Patch: 17}, nil
}

// CheckPairing refuses servers without CLONE.
func (*MySQLClone) CheckPairing(first, server flavor.Version) error {
	if server.Flavor != flavor.MySQL || server.Less(first) {
		return fmt.Errorf("%w: the engine %s copies MySQL %d.%d.%d and later, the server is %s",
			ErrPairing, MySQLCloneName, first.Major, first.Minor, first.Patch, server)
	}
	return nil
}

// Holding says whether the applier is stopped for a snapshot, so that the sidecar's loop must not
// start it.
func (e *MySQLClone) Holding() bool { return e.holding.Load() }

// cloned are the engines whose tables a snapshot has, and those without rows.
var cloned = carriage{
	engines: []string{"InnoDB", "BLACKHOLE", "PERFORMANCE_SCHEMA"},
	// The server creates new logs.
	except: "NOT (table_schema = 'mysql' AND table_name IN ('general_log', 'slow_log'))",
	why:    "whose tables are empty in a copy that the server's CLONE makes",
}

// Inventory examines the server and its data directory.
func (e *MySQLClone) Inventory(ctx context.Context, a Account, dir string) (Inventory, error) {
	inv, err := kind{needs: cloneNeeds, carried: cloned, check: checkSchemas, encrypted: needsKeys}.take(ctx, a, dir)
	e.takes.Store(inv.StreamBytes())
	return inv, err
}

// checkSchemas returns ErrUnable for a schema whose directory has the name of a file of the stream.
func checkSchemas(ctx context.Context, db *sql.DB) error {
	var name string
	err := db.QueryRowContext(ctx, "SELECT schema_name FROM information_schema.schemata WHERE LOWER(schema_name) = ?", MySQLCloneInfo).Scan(&name)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("look through the schemas: %w", err)
	}
	return fmt.Errorf("%w: the schema %s has the name of a file that every copy has: move its tables to another one", ErrUnable, name)
}

// checkRoom returns ErrNoRoom when a snapshot, by the size of the last Inventory, would leave too
// little space free.
func (e *MySQLClone) checkRoom() error {
	free, err := volume.FreeSpace(e.Dir)
	if takes := e.takes.Load(); err == nil && free.Bytes < takes+e.MinFree {
		err = fmt.Errorf("%w: it takes about %d MiB and has to leave %d MiB (--min-free), the volume has %d MiB free; a joiner that runs this version of understudy needs no snapshot", ErrNoRoom, takes>>20, e.MinFree>>20, free.Bytes>>20)
	}
	return err
}

// Backup makes a snapshot and streams it. The snapshot is removed before the process ends. ErrBusy
// and ErrNoRoom come at once, or from the process before its first byte.
func (e *MySQLClone) Backup(ctx context.Context, a Account, dir string, reached func(Stage)) (*Process, error) {
	if !e.working.TryLock() {
		return nil, fmt.Errorf("%w, for another member", ErrBusy)
	}
	if err := e.checkRoom(); err != nil {
		e.working.Unlock()
		return nil, err
	}
	awaitNoTemporary(ctx, e.Log, a)
	s := &snapshot{dir: e.Dir, path: filepath.Join(e.Dir, filepath.Base(dir)), minFree: e.MinFree, holding: &e.holding, reached: reached, log: e.Log}
	if err := s.ready(ctx, a, s.ask, s.mayHold); err != nil {
		e.working.Unlock()
		return nil, err
	}
	return newProcess(func(w io.Writer) error {
		defer e.working.Unlock()
		err := s.stream(ctx, w)
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return errors.Join(err, s.close())
	}), nil
}

// Recover stops CLONE statements that a killed process left in the server, which does not notice,
// and empties Dir.
func (e *MySQLClone) Recover(ctx context.Context, a Account) error {
	e.working.Lock()
	defer e.working.Unlock()
	s := &snapshot{dir: e.Dir, log: e.Log}
	err := s.open(ctx, a)
	return errors.Join(err, s.close())
}

// Prepare applies the changes that came with a direct clone, and makes the directory of the mysql
// schema. Empty directories do not travel; the server makes the others, but does not start without
// this one. The server itself recovers the copy when it starts. At the end the info file says that
// the copy is prepared, as a tool's checkpoints file does.
func (*MySQLClone) Prepare(_ context.Context, dir string, _ int64) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("prepare the copy: %w", err)
	}
	defer func() { _ = root.Close() }()
	info, err := root.ReadFile(MySQLCloneInfo)
	if err == nil && volume.InfoValue(string(info), changesKey) != "" && strings.Contains(string(info), typeRaw) {
		err = applyChanges(root)
	}
	if err != nil {
		return fmt.Errorf("prepare the copy: %w", err)
	}
	if name := volume.MissingTablespace(dir); name != "" {
		return fmt.Errorf("prepare the copy: %w: it lacks %s", ErrSnapshot, name)
	}
	if err := checkSnapshot(root.FS()); err != nil {
		return fmt.Errorf("prepare the copy: %w", err)
	}
	if err := root.Mkdir("mysql", 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("prepare the copy: %w", err)
	}
	text := strings.Replace(string(info), typeRaw, typePrepared, 1)
	if err := root.WriteFile(MySQLCloneInfo, []byte(text), 0); err != nil { // it exists, and keeps its mode
		return fmt.Errorf("prepare the copy: %w", err)
	}
	return nil
}

// checkSnapshot checks the files without which no server starts on a snapshot, except the system
// tablespace, whose name is a setting.
func checkSnapshot(dir fs.FS) error {
	for _, patterns := range [][]string{{"mysql.ibd"}, {"undo_*", "*.ibu"}, {redoDir + "/#ib_redo*", "ib_logfile*"}} {
		found := func(pattern string) bool {
			names, _ := fs.Glob(dir, pattern) // the patterns are valid
			return len(names) > 0
		}
		if !slices.ContainsFunc(patterns, found) {
			return fmt.Errorf("%w: it lacks %s", ErrSnapshot, strings.Join(patterns, " and "))
		}
	}
	return nil
}
