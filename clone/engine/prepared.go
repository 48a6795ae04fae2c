package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

const (
	// mariaDBServer is the program of MariaDB's server from 10.5 on.
	mariaDBServer = "mariadbd"
	// heuristicTimeout bounds a start of the server that ends by itself.
	heuristicTimeout = 15 * time.Minute
)

// rollBackPrepared rolls back the prepared transactions in the copy of a replica, with which no
// server would start: "Found 1 prepared transactions!". The transactions of a parallel replica wait
// for their predecessors in the prepared state, without their commit lock, so the end of a backup
// may catch them. They are neither in the binary log nor in the position, because both are written
// under the lock, which is held until the commit. So the source sends them again, and they have to
// go. XA transactions of clients stay.
//
// The server does it with --tc-heuristic-recover, and exits. It only does it with a binary log,
// which is removed afterwards. Without the server's program beside the tool, nothing is done.
//
// https://mariadb.com/kb/en/heuristic-recovery-with-the-transaction-coordinator-log/
func (e MariaDBBackup) rollBackPrepared(ctx context.Context, dir string, memory int64) error {
	if !ofReplica(dir) {
		return nil
	}
	server, err := e.server(ctx)
	if err != nil {
		e.Log.Warn("whether the copy holds prepared transactions, on which its server would not start, is not looked at", "reason", err)
		return nil
	}
	work, err := os.MkdirTemp(dir, ".recover-")
	if err != nil {
		return fmt.Errorf("make a directory for the server's files: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, heuristicTimeout, errors.New("it does not end"))
	defer cancel()
	var said heuristic
	p, err := child{argv: heuristicArgs(server, dir, work, memory), heard: said.hear}.start(ctx, e.Log)
	if err == nil {
		err = p.Wait() // always an error, because the server exits
	}
	return errors.Join(said.judge(ctx, err, e.Log), os.RemoveAll(work))
}

// ofReplica says whether the source's coordinate came with the copy.
func ofReplica(dir string) bool {
	return slices.ContainsFunc(origin.SlaveInfoNames, func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err == nil && info.Size() > 0
	})
}

// server finds the server's program of the tool's series.
func (e MariaDBBackup) server(ctx context.Context) (string, error) {
	program, err := exec.LookPath(mariaDBServer)
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/" + mariaDBServer); err != nil {
			return "", err
		}
	}
	tool, err := e.Version(ctx)
	if err != nil {
		return "", err
	}
	text, err := askVersion(ctx, program)
	if err != nil {
		return "", err
	}
	_, number, _ := strings.Cut(text, " Ver ")
	v, err := flavor.ParseServer(number)
	if err != nil {
		return "", err
	}
	if v.Flavor != tool.Flavor || v.Series() != tool.Series() {
		return "", fmt.Errorf("%s is %s, the tool is of series %s", program, v, tool.Series())
	}
	return program, nil
}

func heuristicArgs(server, dir, work string, memory int64) []string {
	args := []string{
		server,
		"--defaults-file=" + filepath.Join(dir, "backup-my.cnf"), // how the copy's files are laid out; must come first
		"--datadir=" + dir,
		"--tc-heuristic-recover=ROLLBACK",
		"--log-bin=" + filepath.Join(work, "binlog"),
		"--tmpdir=" + work,
		"--socket=" + filepath.Join(work, "s"),
		"--pid-file=" + filepath.Join(work, "pid"),
		"--skip-networking",
		"--skip-slave-start",
		"--innodb-buffer-pool-size=" + strconv.FormatInt(memory, 10),
		"--innodb-buffer-pool-load-at-startup=OFF",
		"--innodb-buffer-pool-dump-at-shutdown=OFF",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root") // its files belong to us, as the copy does
	}
	return args
}

// heuristic reads the server's words during the recovery, which always ends with an error.
type heuristic struct {
	mu    sync.Mutex
	ended bool   // the recovery has finished
	found string // how many were found, in the server's words; empty: none
}

func (h *heuristic) hear(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case strings.Contains(line, "without --tc-heuristic-recover"):
		h.ended = true
	case strings.Contains(line, "Found ") && strings.Contains(line, " prepared transaction(s) in InnoDB"):
		_, found, _ := strings.Cut(line, "Found ")
		h.found = found
	case strings.Contains(line, "Heuristic crash recovery failed"):
		h.ended, h.found = false, "recovery failed"
	}
}

// judge refuses a copy that still has such transactions. A server that failed earlier proves
// nothing about the copy, because it has other options here.
func (h *heuristic) judge(ctx context.Context, err error, log *slog.Logger) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return err
	case h.ended && h.found != "":
		log.Info("transactions that waited for others on the replica are rolled back: they come again from its source", "found", h.found)
	case h.found != "":
		return fmt.Errorf("roll back the copy's prepared transactions (%s): %w", h.found, err)
	case !h.ended:
		log.Warn("whether the copy holds prepared transactions, on which its server would not start, is not known", "error", err)
	}
	return nil
}
