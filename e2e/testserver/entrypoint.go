package testserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"understudy/e2e/process"

	"github.com/go-sql-driver/mysql"
)

// Entrypoint is what the official images do with a data directory before the server starts, in
// their order: see docs/images.md. A server's image is started with Run, and its server, if that
// returns no error, with Start.
type Entrypoint struct {
	Installation

	// DataDir is the data directory, which is there.
	DataDir string
	// RootPassword is what root gets.
	RootPassword string
	// ConfDir is a folder of option files, which the temporary server reads as the real one does.
	ConfDir string
	// Scripts is the folder that stands for /docker-entrypoint-initdb.d; empty: it has no files.
	Scripts string
	// LogFile gets the output of the scripts; empty: it is discarded.
	LogFile string
}

// Run returns at once where the directory has a folder "mysql", whatever made it. An error means
// that the container has ended, and all in it: the next Run is the restarted container's. A script
// that kills its shell ($$) kills the container.
func (e Entrypoint) Run(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(e.DataDir, "mysql")); err == nil {
		return nil
	}
	begin := e.bootstrap
	if e.Flavor == MySQL {
		begin = e.initialize
	}
	if err := begin(ctx, e.DataDir, ""); err != nil {
		return fmt.Errorf("make the system tables in %s: %w", e.DataDir, err)
	}
	runDir, err := os.MkdirTemp("", "understudy-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(runDir) }()
	server, err := e.temporaryServer(runDir)
	if err != nil {
		return err
	}
	defer server.Kill()
	socket := filepath.Join(runDir, "s.sock")
	if err := e.setUp(ctx, socket); err != nil {
		return err
	}
	if err := e.runScripts(ctx, socket); err != nil {
		return err
	}
	server.Signal(syscall.SIGTERM)
	return server.Err()
}

// temporaryServer listens on its socket only.
func (e Entrypoint) temporaryServer(runDir string) (*process.Process, error) {
	optionFile := filepath.Join(runDir, "my.cnf")
	if err := os.WriteFile(optionFile, []byte(e.defaults()+"!includedir "+e.ConfDir+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write options: %w", err)
	}
	dataDir, err := filepath.Abs(e.DataDir)
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	args := append(e.options(optionFile, dataDir), "--skip-networking", "--socket="+filepath.Join(runDir, "s.sock"),
		"--pid-file="+filepath.Join(runDir, "pid"), "--tmpdir="+runDir)
	cmd := exec.Command(e.Server, args...) //nolint:noctx // it is killed by Run
	log, err := e.log()
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	return process.Start(cmd, false)
}

func (e Entrypoint) log() (*os.File, error) {
	path := e.LogFile
	if path == "" {
		path = os.DevNull
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	return log, nil
}

// setUp makes root's passwords and hosts, once the server answers, and what comes before and with
// them.
func (e Entrypoint) setUp(ctx context.Context, socket string) (err error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.Logger = "root", "unix", socket, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return fmt.Errorf("open connections: %w", err)
	}
	db := sql.OpenDB(connector)
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := e.answered(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// Time zones go into MySQL's binary log, and not into MariaDB's.
	statements := []string{"TRUNCATE TABLE mysql.time_zone", "INSERT INTO mysql.time_zone (Use_leap_seconds) VALUES ('N')", "SET SESSION sql_log_bin = 0"}
	if e.Flavor == MariaDB {
		statements = []string{"SET SESSION sql_log_bin = 0"}
	}
	statements = append(statements, strings.Split(strings.TrimSuffix(rootAccounts(e.RootPassword), ";\n"), ";\n")...)
	if e.Flavor == MariaDB {
		health, err := e.healthcheck(socket)
		if err != nil {
			return err
		}
		statements = append(statements, health...)
	}
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("set up root's accounts: %w", err)
		}
	}
	return nil
}

func (Entrypoint) answered(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := db.Conn(ctx)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the temporary server: %w (last: %w)", ctx.Err(), err)
		case <-time.After(pollInterval):
		}
	}
}

// healthcheckFile is how MariaDB's healthcheck.sh logs in.
const healthcheckFile = ".my-healthcheck.cnf"

// healthcheck writes that file, and returns the statements that make its accounts.
func (e Entrypoint) healthcheck(socket string) ([]string, error) {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails, see crypto/rand
	password := hex.EncodeToString(random)
	var statements []string
	for _, host := range []string{"127.0.0.1", "::1", "localhost"} {
		statements = append(
			statements,
			fmt.Sprintf("CREATE USER IF NOT EXISTS healthcheck@'%s' IDENTIFIED BY '%s'", host, password),
			fmt.Sprintf("GRANT USAGE ON *.* TO healthcheck@'%s'", host),
		)
	}
	text := fmt.Sprintf("[mariadb-client]\nport=3306\nsocket=%s\nuser=healthcheck\npassword=%s\n\n", socket, password)
	if err := os.WriteFile(filepath.Join(e.DataDir, healthcheckFile), []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write the health check's login: %w", err)
	}
	return statements, nil
}

// scriptRunner runs the scripts of a folder in the order of their names: scripts of the shell are
// read into this one, or run where their mode says so. Scripts find the way to run SQL in the array
// "mysql". DATADIR is not exported.
const scriptRunner = `set -eo pipefail
shopt -s nullglob
DATADIR=$1/ socket=$2 client=$3 scripts=$4
docker_process_sql() { MYSQL_PWD=$MYSQL_ROOT_PASSWORD "$client" --no-defaults --protocol=socket --socket="$socket" -uroot "$@"; }
process() {
  mysql=(docker_process_sql)
  local f
  for f; do
    echo "entrypoint: $f"
    case $f in
      *.sh) if [[ -x $f ]]; then "$f"; else . "$f"; fi ;;
      *.sql) docker_process_sql <"$f" ;;
      *.sql.gz) gunzip -c "$f" | docker_process_sql ;;
      *) echo "entrypoint: ignoring $f" ;;
    esac
  done
}
process "$scripts"/*
`

func (e Entrypoint) runScripts(ctx context.Context, socket string) error {
	if e.Scripts == "" {
		return nil
	}
	dataDir, err := filepath.Abs(e.DataDir)
	if err != nil {
		return fmt.Errorf("find the data directory: %w", err)
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", scriptRunner, "entrypoint", dataDir, socket, e.Client, e.Scripts)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MYSQL_ROOT_PASSWORD="+e.RootPassword)
	out, runErr := cmd.CombinedOutput()
	log, err := e.log()
	if err == nil {
		_, err = log.Write(out)
		err = errors.Join(err, log.Close())
	}
	if runErr != nil {
		return fmt.Errorf("run the scripts: %w: %s", runErr, tail(bytes.TrimSpace(out)))
	}
	return err
}
