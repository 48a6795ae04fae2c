package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/testserver"

	"golang.org/x/sys/unix"
)

// fenced is a server that understudy run has started. The test plays the sidecar.
type fenced struct {
	*testserver.Server
	in     testserver.Installation
	socket string
}

// runStatus is of the answers of understudy run.
type runStatus struct {
	Refused string
	Status  struct {
		State, Boot string
		PID         int
		Last        struct{ How string }
	}
}

func startFenced(ctx context.Context, t *testing.T, in testserver.Installation) *fenced {
	t.Helper()
	dir, err := os.MkdirTemp("", "run") // a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &fenced{in: in, socket: filepath.Join(dir, "run.sock")}
	script := fmt.Sprintf("#!/bin/sh\nexec %s run --socket=%s --stop-wait=0s -- %s \"$@\"\n", program, f.socket, in.Server)
	f.in.Server = filepath.Join(dir, "server")
	if err := os.WriteFile(f.in.Server, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := in.Initialise(ctx, data, ""); err != nil {
		t.Fatal(err)
	}
	if f.Server, err = f.in.Start(ctx, testserver.Config{DataDir: data, Extra: []string{"--server-id=7", "--log-bin=binlog"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.LogTail())
		}
		f.Kill()
	})
	return f
}

// ask sends one request on a connection of its own.
func (f *fenced) ask(t *testing.T, what map[string]any) (s runStatus) {
	t.Helper()
	conn, err := net.DialTimeout("unix", f.socket, time.Second) //nolint:noctx // it ends in a second
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	what["version"] = 1
	if err := json.NewEncoder(conn).Encode(what); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s)
	}
	if err != nil || s.Refused != "" {
		t.Fatalf("%v is answered with %s: %v", what, line, err)
	}
	return s
}

// arm gives the server that runs permission for some time, and returns what runs.
func (f *fenced) arm(t *testing.T, lasts time.Duration) runStatus {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	s := f.ask(t, map[string]any{"do": "status"})
	return f.ask(t, map[string]any{"do": "arm", "boot": s.Status.Boot, "term": 1, "until": now.Nano() + int64(lasts)})
}

// another waits until another server than the one before answers, and what it answers is the
// connection's.
func (f *fenced) another(ctx context.Context, t *testing.T, before runStatus) runStatus {
	t.Helper()
	var s runStatus
	comesTrue(ctx, t, func() (bool, string) {
		s = f.ask(t, map[string]any{"do": "status"})
		err := f.DB().PingContext(ctx)
		return s.Status.Boot != "" && s.Status.Boot != before.Status.Boot && err == nil, fmt.Sprintf("another server does not answer: %+v, %v", s, err)
	})
	return s
}

// understudy run with real servers: the fence cuts writes at its instant, and what was acknowledged
// is there afterwards.
func TestRunFences(t *testing.T) {
	for name, find := range map[string]func(*testing.T) testserver.Installation{"mariadb": install, "mysql": mySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := find(t)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			f := startFenced(ctx, t, in)
			mustExec(ctx, t, f.DB(), "CREATE DATABASE d", "CREATE TABLE d.t (n BIGINT PRIMARY KEY)")
			n := 0
			for _, stopped := range []string{"nobody", "run and the server"} {
				before := f.arm(t, 2*time.Second)
				until := time.Now().Add(2 * time.Second)
				if stopped != "nobody" {
					pids := []int{f.Pid(), before.Status.PID}
					for _, pid := range pids {
						_ = syscall.Kill(pid, syscall.SIGSTOP)
					}
					comesTrue(ctx, t, func() (bool, string) {
						return syscall.Kill(pids[1], 0) != nil || zombie(pids[1]), "the server lives"
					})
					if late := time.Since(until); late > time.Second {
						t.Errorf("%s stopped: killed %s after the deadline", stopped, late)
					}
					_ = syscall.Kill(pids[0], syscall.SIGCONT)
				}
				// When the last one that was acknowledged was sent, and what one took at most: the disk may be slow.
				var last time.Time
				var slowest time.Duration
				for stopped == "nobody" {
					sent := time.Now()
					if _, err := f.DB().ExecContext(ctx, "INSERT INTO d.t VALUES (?)", n+1); err != nil {
						break
					}
					n, last, slowest = n+1, sent, max(slowest, time.Since(sent))
				}
				if stopped == "nobody" && (n == 0 || last.After(until.Add(300*time.Millisecond)) || last.Before(until.Add(-time.Second-2*slowest))) {
					t.Errorf("%d rows, the last one sent %s after the deadline; one took up to %s", n, last.Sub(until), slowest)
				}
				s := f.another(ctx, t, before)
				if how := s.Status.Last.How; how != "killed: its permission ended" {
					t.Errorf("%s stopped: it ended: %s", stopped, how)
				}
				var found int
				if err := f.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM d.t WHERE n <= ?", n).Scan(&found); err != nil || found != n {
					t.Errorf("%d of %d acknowledged rows: %v", found, n, err)
				}
			}
		})
	}
}

// comesTrue waits for something, until ctx ends; its text says what is missing.
func comesTrue(ctx context.Context, t *testing.T, holds func() (bool, string)) {
	t.Helper()
	for {
		ok, text := holds()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(text)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func mustExec(ctx context.Context, t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// A server that is killed answers again after its own start and the pauses of run, also the third
// time within a minute.
func TestRunRestarts(t *testing.T) {
	servers := map[string]func(*testing.T) testserver.Installation{"mariadb": install, "mysql": mySQL}
	for name, find := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := find(t)
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			f := startFenced(ctx, t, in)
			for i := range 3 {
				before := f.ask(t, map[string]any{"do": "status"})
				began := time.Now()
				_ = syscall.Kill(before.Status.PID, syscall.SIGKILL)
				s := f.another(ctx, t, before)
				if how := s.Status.Last.How; how != "killed by SIGKILL" {
					t.Errorf("it ended: %s", how)
				}
				t.Logf("kill %d: it answers again after %s", i+1, time.Since(began).Round(10*time.Millisecond))
			}
		})
	}
}

// A commit that waits for a replica is not told to be safe when the kubelet ends the server.
// MySQL's own graceful end does that.
func TestRunEndsWaitingCommits(t *testing.T) {
	for name, find := range map[string]func(*testing.T) testserver.Installation{"mariadb": install, "mysql": mySQL} {
		for _, armed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s armed %v", name, armed), func(t *testing.T) {
				t.Parallel()
				in := find(t)
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				f := startFenced(ctx, t, in)
				mustExec(ctx, t, f.DB(), "CREATE DATABASE d", "CREATE TABLE d.t (n BIGINT PRIMARY KEY)")
				if in.Flavor == testserver.MySQL {
					mustExec(ctx, t, f.DB(), "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
						"SET GLOBAL rpl_semi_sync_source_timeout = 4294967295", "SET GLOBAL rpl_semi_sync_source_enabled = ON")
				} else {
					mustExec(ctx, t, f.DB(), "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
						"SET GLOBAL rpl_semi_sync_master_timeout = 4294967295", "SET GLOBAL rpl_semi_sync_master_enabled = ON")
				}
				if armed {
					f.arm(t, time.Minute)
				}
				told := make(chan error, 1)
				go func() {
					_, err := f.DB().ExecContext(ctx, "INSERT INTO d.t VALUES (1)")
					told <- err
				}()
				comesTrue(ctx, t, func() (bool, string) {
					select {
					case err := <-told:
						t.Fatalf("the commit does not wait: %v", err)
					default:
					}
					var name string
					var waiting int
					err := f.DB().QueryRowContext(ctx, `SHOW GLOBAL STATUS LIKE 'Rpl\_semi\_sync\_%\_wait\_sessions'`).Scan(&name, &waiting)
					return err == nil && waiting == 1, fmt.Sprintf("%d commits wait: %v", waiting, err)
				})
				_ = syscall.Kill(f.Pid(), syscall.SIGTERM)
				err := <-told
				<-f.Exited()
				if graceful := strings.Contains(f.LogTail(), "hutdown complete"); graceful == armed {
					t.Errorf("armed %v, graceful %v", armed, graceful)
				}
				if safe := err == nil; safe != (in.Flavor == testserver.MySQL && !armed) {
					t.Errorf("armed %v: the client is told %v", armed, err)
				}
			})
		}
	}
}

// A server that does not start: its status is the container's, and the last words say why.
func TestRunSaysWhyAServerDoesNotStart(t *testing.T) {
	in := install(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, "run", "--socket="+filepath.Join(dir, "s"), "--crashes=0", "--",
		in.Server, "--no-defaults", "--datadir="+dir, "--nonsense=1", "--user=root")
	out, err := cmd.CombinedOutput()
	exit, _ := errors.AsType[*exec.ExitError](err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := lines[len(lines)-1]
	if exit == nil || exit.ExitCode() < 1 || exit.ExitCode() > 127 || !strings.HasPrefix(last, "understudy run: the server has ended: exit status") || !strings.Contains(last, "unknown variable 'nonsense=1'") {
		t.Errorf("%v: %s", err, out)
	}
}
