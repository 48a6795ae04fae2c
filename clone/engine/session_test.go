package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A tool that is stopped, or dies, while its statement waits for a lock leaves nobody
// behind who holds off others.
func TestStoppedBackupLetsGoOfItsLocks(t *testing.T) {
	s, account := startServer(t)
	execute(t, s.DB(), "CREATE DATABASE shop", "CREATE TABLE shop.held (id INT) ENGINE=MyISAM", "CREATE TABLE shop.other (id INT) ENGINE=MyISAM",
		"CREATE USER backups@'%' IDENTIFIED BY 'p'", "GRANT RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR ON *.* TO backups@'%'")
	account.User, account.Password = "backups", "p"
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			holder, err := s.DB().Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = holder.Close() }()
			if _, err := holder.ExecContext(t.Context(), "LOCK TABLES shop.held WRITE"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			script := filepath.Join(t.TempDir(), "tool")
			writeScript(t, script, `[ "$1" = --version ] || echo $$ > `+script+`.pid; exec mariadb-backup "$@"`)
			p, err := MariaDBBackup{Program: script, Log: slog.New(slog.DiscardHandler)}.Backup(ctx, account, t.TempDir(), func(Stage) {})
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, p.Stdout) }()
			const waits = "FROM information_schema.processlist WHERE user = 'backups' AND state LIKE 'Waiting for%' AND info LIKE 'BACKUP STAGE%'"
			waitFor(t, s.DB(), "SELECT COUNT(*) = 1 "+waits)
			if how == "stopped" {
				cancel()
			} else {
				text, err := os.ReadFile(script + ".pid")
				if err != nil {
					t.Fatal(err)
				}
				if out, err := exec.CommandContext(ctx, "kill", "-9", strings.TrimSpace(string(text))).CombinedOutput(); err != nil {
					t.Fatal(string(out), err)
				}
			}
			if err := p.Wait(); !errors.Is(err, ErrTool) {
				t.Error(err)
			}
			waitFor(t, s.DB(), "SELECT COUNT(*) = 0 "+waits) // it was killed, and has yet to leave; else it waits for the holder
			_ = p.Stdout.Close()
		})
	}
}

// Tools get the hard limit of open files, though Go passes on the soft one.
func TestToolsMayOpenFiles(t *testing.T) {
	if os.Getenv("UNDERSTUDY_TEST_FILES") == "" {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ulimit -Sn 300; ulimit -Hn 4000; exec "$0" -test.run='^TestToolsMayOpenFiles$' -test.v`, os.Args[0]) //nolint:gosec // this very program
		cmd.Env = append(os.Environ(), "UNDERSTUDY_TEST_FILES=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var said []string
	limit := child{argv: []string{"/bin/sh", "-c", "ulimit -n >&2"}, heard: func(line string) { said = append(said, line) }}
	p, err := limit.start(t.Context(), slog.New(slog.DiscardHandler))
	if err == nil {
		err = p.Wait()
	}
	if err != nil || strings.Join(said, "") != strconv.FormatInt(fileLimit(), 10) || fileLimit() != 4000 {
		t.Errorf("%q, %v, limit %d", said, err, fileLimit())
	}
}
