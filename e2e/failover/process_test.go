//go:build failover

package failover

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy/e2e/set"
	"understudy/replicate/fence"
)

// The processes of a member.
const (
	processRun      = "run"
	processWatchdog = "watchdog"
	processSidecar  = "sidecar"
	processServer   = "server"
)

// wholeMember is all of them, in the order in which they wake: where the server wakes before those
// that are to end it, it may answer for a moment, see docs/failover.md.
var wholeMember = []string{processRun, processWatchdog, processSidecar, processServer}

// pid of a member's process; 0: it does not run.
func pid(m *set.Member, process string) int {
	switch process {
	case processSidecar:
		if m.Sidecar() != nil {
			return m.Sidecar().Pid()
		}
	case processRun:
		if m.Server != nil {
			return m.Server.Pid()
		}
	case processServer:
		if m.Server != nil {
			pid, _ := m.Server.ServerPid()
			return pid
		}
	case processWatchdog:
		if m.Server != nil {
			return childNamed(m.Server.Pid(), fence.WatchdogName)
		}
	}
	return 0
}

func childNamed(parent int, name string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		text, _ := os.ReadFile(path)
		if first, _, _ := bytes.Cut(text, []byte{0}); filepath.Base(string(first)) != name {
			continue
		}
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			return pid
		}
	}
	return 0
}

// kill kills processes of a member at once, and takes them in.
func kill(ctx context.Context, m *set.Member, processes ...string) {
	ended := pid(m, processServer)
	var pids []int
	for _, p := range processes {
		pids = append(pids, pid(m, p))
	}
	for _, pid := range pids {
		if pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL) // one that has ended is as good
		}
	}
	for _, p := range processes {
		switch p {
		case processSidecar:
			m.KillSidecar()
		case processRun:
			m.KillServer()
			awaitEnd(ctx, ended) // the watchdog ends it
		}
	}
}

func awaitEnd(ctx context.Context, pid int) {
	for pid > 0 && syscall.Kill(pid, 0) == nil && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
}

// stopped stops processes of a member until wake is called.
func stopped(m *set.Member, processes ...string) (wake func()) {
	var pids []int
	for _, p := range processes {
		if pid := pid(m, p); pid > 0 {
			pids = append(pids, pid)
			_ = syscall.Kill(pid, syscall.SIGSTOP)
		}
	}
	return func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// revive starts what of a member does not run, as Kubernetes does.
func (f *fixture) revive(ctx context.Context, m *set.Member) error {
	if s := m.Server; s != nil {
		select {
		case <-s.Exited():
			f.t.Logf("the server's container of %s has ended", m.Name())
			m.KillServer()
		default:
		}
	}
	if p := m.Sidecar(); p != nil {
		select {
		case <-p.Exited():
			f.t.Logf("the sidecar of %s has ended: %v", m.Name(), p.Err())
			m.KillSidecar()
		default:
		}
	}
	if m.Server == nil && m.Sidecar() == nil {
		r, err := m.Init(ctx, nil, "--pod-uid="+f.uid(ctx, m))
		if err == nil && r.Code != 0 {
			err = fmt.Errorf("init of %s ended with %d: %s", m.Name(), r.Code, r.LastLine())
		}
		if err != nil {
			return err
		}
	}
	return f.restart(ctx, m)
}

// restart starts the containers of a pod that do not run.
func (f *fixture) restart(ctx context.Context, m *set.Member) error {
	if m.Sidecar() == nil {
		if err := m.StartSidecar("--pod-uid=" + f.uid(ctx, m)); err != nil {
			return err
		}
	}
	if m.Server == nil {
		if err := m.StartServer(ctx); err != nil {
			m.Server = nil
			return err
		}
	}
	return nil
}

// showServers shows what the servers are at.
func (f *fixture) showServers() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i := range f.n {
		m := f.Member(i)
		if m.Server == nil {
			f.t.Logf("%s has no server", m.Name())
			continue
		}
		questions := []string{
			"SELECT @@GLOBAL.gtid_executed, @@GLOBAL.super_read_only, @@GLOBAL.offline_mode", "SELECT RECEIVED_TRANSACTION_SET, SERVICE_STATE, LAST_ERROR_MESSAGE FROM performance_schema.replication_connection_status",
			"SELECT LAST_ERROR_MESSAGE, LAST_APPLIED_TRANSACTION, APPLYING_TRANSACTION FROM performance_schema.replication_applier_status_by_worker",
			"SELECT ID, USER, COMMAND, TIME, CONCAT(COALESCE(STATE, ''), ' ', COALESCE(INFO, '')) FROM performance_schema.processlist WHERE COMMAND <> 'Sleep'",
		}
		if f.mariaDB {
			questions = []string{
				"SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state, @@GLOBAL.read_only, @@GLOBAL.max_user_connections, @@GLOBAL.server_id", "SHOW ALL SLAVES STATUS", "SHOW PROCESSLIST",
			}
		}
		for _, text := range questions {
			rows, err := m.Server.DB().QueryContext(ctx, text)
			if err != nil {
				f.t.Logf("%s: %v", m.Name(), err)
				break
			}
			names, _ := rows.Columns()
			for rows.Next() {
				values, to := make([]sql.NullString, len(names)), make([]any, len(names))
				for i := range values {
					to[i] = &values[i]
				}
				_ = rows.Scan(to...)
				var words []string
				for _, v := range values {
					words = append(words, strings.ReplaceAll(v.String, "\n", ""))
				}
				f.t.Logf("%s: %s", m.Name(), strings.Join(words, " | "))
			}
			_ = errors.Join(rows.Err(), rows.Close()) //nolint:sqlclosecheck // in a loop
		}
	}
}

// together has all members be ready, with a leader and two acknowledgers; those that ask for it are
// reseeded, as they have a tail.
func (f *fixture) together(ctx context.Context) (reseeded map[string]bool) {
	f.t.Helper()
	reseeded = map[string]bool{}
	f.within(ctx, longest, "all members are ready", func() (bool, string) {
		var words []string
		for i := range f.n {
			m := f.Member(i)
			if err := f.revive(ctx, m); err != nil {
				words = append(words, err.Error())
				continue
			}
			status, body, err := m.Get(ctx, "/readyz")
			if strings.Contains(body, "outside the set's history") && !reseeded[m.Name()] {
				reseeded[m.Name()] = true
				f.t.Logf("%s has a tail, and is reseeded: %s", m.Name(), body)
				f.reseed(ctx, m)
			} else if status != 200 {
				words = append(words, fmt.Sprintf("%s: %s %v", m.Name(), body, err))
			}
		}
		r := f.lease(ctx)
		if r.Phase != "opened" || r.Holder == "" || len(r.Acknowledgers) != f.n-1 {
			words = append(words, fmt.Sprintf("%+v", r))
		}
		return len(words) == 0, strings.Join(words, "; ")
	})
	return reseeded
}
