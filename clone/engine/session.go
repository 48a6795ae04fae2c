package engine

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"
)

// session tracks a tool's connections to the server. The server does not notice when a client dies
// whose statement waits: a FLUSH TABLES WITH READ LOCK or BACKUP STAGE behind a long statement goes
// on blocking others, although nobody will use the lock. So such connections are killed, which
// takes no privilege: they belong to the same account.
type session struct {
	account Account
	log     *slog.Logger

	mu    sync.Mutex
	pid   int
	ports map[string]bool // local ports of the tool's connections
}

// started sets the process.
func (s *session) started(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
}

// look notes the tool's current connections.
func (s *session) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pid == 0 {
		return
	}
	if s.ports == nil {
		s.ports = map[string]bool{}
	}
	for _, port := range connections(s.pid, s.account.Port) {
		s.ports[port] = true
	}
}

// ended kills the connections that a failed tool has left.
func (s *session) ended(ctx context.Context, err error) {
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ports) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := s.kill(ctx); err != nil {
		s.log.Warn("the tool's connections to the server may be left, and hold its locks: KILL them", "user", s.account.User, "error", err)
	}
}

func (s *session) kill(ctx context.Context) error {
	connector, err := mysql.NewConnector(config(s.account))
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	ids, err := s.left(ctx, db)
	if err != nil {
		return fmt.Errorf("look for them: %w", err)
	}
	var failed error
	for _, id := range ids {
		_, err := db.ExecContext(ctx, "KILL "+strconv.FormatInt(id, 10))
		if err == nil {
			s.log.Info("a connection that the tool has left to the server is killed", "connection", id)
		}
		if err != nil && !isNumber(err, numberNoThread) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// left are the account's connections from the tool's ports.
func (s *session) left(ctx context.Context, db *sql.DB) ([]int64, error) {
	r, err := db.QueryContext(ctx, "SHOW PROCESSLIST")
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	names, err := r.Columns()
	if err != nil {
		return nil, err
	}
	const id, user, host = 0, 1, 2 // the order of the columns is the same in all versions
	row := make([]sql.NullString, len(names))
	into := make([]any, len(names))
	for i := range row {
		into[i] = &row[i]
	}
	var ids []int64
	for r.Next() {
		if err := r.Scan(into...); err != nil {
			return nil, err
		}
		from := row[host].String
		if row[user].String != s.account.User || !s.ports[from[strings.LastIndex(from, ":")+1:]] {
			continue
		}
		n, err := strconv.ParseInt(row[id].String, 10, 64)
		if err != nil {
			return nil, err
		}
		ids = append(ids, n)
	}
	return ids, r.Err()
}

// connections are the local ports of a process's TCP connections to a port.
//
// https://docs.kernel.org/networking/proc_net_tcp.html
func connections(pid, to int) []string {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	fds, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return nil // the process has ended
	}
	ours := map[string]bool{}
	for _, fd := range fds {
		target, _ := os.Readlink(filepath.Join(proc, "fd", fd.Name()))
		if inode, found := strings.CutPrefix(target, "socket:["); found {
			ours[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var ports []string
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(filepath.Join(proc, "net", table))
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			const local, remote, inode = 1, 2, 9
			fields := strings.Fields(lines.Text())
			if len(fields) > inode && ours[fields[inode]] && hexPort(fields[remote]) == to {
				ports = append(ports, strconv.Itoa(hexPort(fields[local])))
			}
		}
		_ = f.Close()
	}
	return ports
}

// hexPort is the port of an address such as 0100007F:0CEA; -1 if there is none.
func hexPort(address string) int {
	n, err := strconv.ParseUint(address[strings.LastIndex(address, ":")+1:], 16, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
