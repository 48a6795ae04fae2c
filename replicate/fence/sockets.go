package fence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockSuffix is what MySQL adds to a socket's name for the file with the number of the process that
	// listens.
	lockSuffix = ".lock"
	// freeWithin bounds freeSockets: a disk may hang.
	freeWithin = 500 * time.Millisecond
)

// freeSockets removes the locks of sockets in these directories on which nobody listens: a server that
// was killed has left them. MySQL takes a lock for held as long as any process has the number that is
// in it (create_lockfile in sql/conn_handler/socket_connection.cc). Where Run is the container's first
// process, the server's number is a small one, and in the container's next life it is that of anybody:
// the server would never start again. MariaDB has no such locks. freeSockets returns those that were
// removed, and what could not be.
func freeSockets(dirs []string) (freed []string, err error) {
	type result struct {
		freed []string
		err   error
	}
	done := make(chan result, 1)
	var late atomic.Bool // the server may be about to listen
	go func() {
		var r result
		for _, dir := range dirs {
			locks, _ := filepath.Glob(filepath.Join(dir, "*"+lockSuffix)) // fails for a malformed pattern only
			for _, lock := range locks {
				if !isLeft(lock) || late.Load() {
					continue
				}
				if err := os.Remove(lock); err != nil {
					r.err = errors.Join(r.err, err)
				} else {
					r.freed = append(r.freed, lock)
				}
			}
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.freed, r.err
	case <-time.After(freeWithin):
		late.Store(true)
		return nil, fmt.Errorf("no answer within %v", freeWithin)
	}
}

// isLeft says that a file is the lock of a socket on which nobody listens.
func isLeft(lock string) bool {
	const longest = 32
	name := strings.TrimSuffix(lock, lockSuffix)
	if socket, err := os.Stat(name); err != nil || socket.Mode().Type() != os.ModeSocket {
		return false
	}
	info, err := os.Lstat(lock)
	if err != nil || !info.Mode().IsRegular() || info.Size() > longest {
		return false
	}
	text, err := os.ReadFile(lock)
	if err != nil {
		return false
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || n <= 0 {
		return false
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return errors.Is(unix.Connect(fd, &unix.SockaddrUnix{Name: name}), unix.ECONNREFUSED)
}
