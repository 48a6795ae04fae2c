package fence

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// longestRequest bounds a request's line, in bytes.
	longestRequest = 4 << 10
	// firstRequest is how long a connection may be silent before its first request.
	firstRequest = 10 * time.Second
	// mostSessions bounds the connections; a further one ends the oldest that gives no commands.
	mostSessions = 32
)

// listen makes the socket. Only processes of the same user may connect.
func listen(path string) (*net.UnixListener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil { //nolint:noctx // it ends in a second
		_ = conn.Close()
		return nil, fmt.Errorf("another understudy run listens at %s", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil { // of one that was killed
			return nil, fmt.Errorf("remove the old socket: %w", err)
		}
	}
	before := syscall.Umask(0o177)
	defer syscall.Umask(before)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for the sidecar: %w", err)
	}
	return l, nil
}

// mayAsk says that the process at the other end is of this user, or root.
func mayAsk(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return controlErr == nil && err == nil && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}

// session is one connection.
type session struct {
	conn    *net.UnixConn
	updates chan Status // not nil: it watches. It holds the newest change that was not told yet.
	closed  bool        // its requests do not count any more
}

// ask is a request on its way to the loop.
type ask struct {
	from  *session
	what  request
	reply chan answer // has room for one
}

// accept hands connections to the loop, until the socket is closed.
func (s *supervisor) accept(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // too many files, for example
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !mayAsk(conn) {
			_ = conn.Close()
			continue
		}
		select {
		case s.joins <- &session{conn: conn}:
		case <-s.over:
			_ = conn.Close()
			return
		}
	}
}

// serve reads a session's requests and writes the answers, in a goroutine of its own: the loop
// waits for no client.
func (s *supervisor) serve(x *session) {
	defer func() {
		_ = x.conn.Close()
		select {
		case s.leaves <- x:
		case <-s.over:
		}
	}()
	lines := bufio.NewScanner(x.conn)
	lines.Buffer(nil, longestRequest)
	_ = x.conn.SetReadDeadline(time.Now().Add(firstRequest))
	for lines.Scan() {
		r, err := decode(lines.Bytes())
		if err != nil {
			_ = x.write(answer{Refused: "request", Detail: err.Error()})
			return
		}
		_ = x.conn.SetReadDeadline(time.Time{})
		a := ask{from: x, what: r, reply: make(chan answer, 1)}
		select {
		case s.asks <- a:
		case <-s.over:
			return
		}
		select {
		case said := <-a.reply:
			if err := x.write(said); err != nil {
				return
			}
		case <-s.over:
			return
		}
		if r.Do == doWatch {
			s.tell(x)
			return
		}
	}
}

// tell writes the changes to a watcher, until it goes.
func (s *supervisor) tell(x *session) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = io.Copy(io.Discard, x.conn) // it has nothing more to say
	}()
	for {
		select {
		case st := <-x.updates:
			if err := x.write(answer{Status: &st}); err != nil {
				return
			}
		case <-left:
			return
		case <-s.over:
			return
		}
	}
}

func (x *session) write(a answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if err := x.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = x.conn.Write(append(line, '\n'))
	return err
}

// decode reads a request. What it does not know may change the meaning of what it knows.
func decode(line []byte) (request, error) {
	var r request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, err
	}
	if r.Version != Version {
		return r, fmt.Errorf("version %d, and this is version %d", r.Version, Version)
	}
	switch r.Do {
	case doStatus, doWatch, doArm, doDisarm, doKill, doRestart, doStop, doStart:
		return r, nil
	}
	return r, fmt.Errorf("unknown request %q", r.Do)
}
