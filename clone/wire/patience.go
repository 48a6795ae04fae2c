package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// watch decides how long a silent donor is waited for. Its clock restarts whenever bytes arrive or
// the donor says that its backup advances.
type watch struct {
	mu    sync.Mutex
	check func() error
	// since is the time of the last progress; phase and bytes are what the donor said then.
	since  time.Time
	phase  string
	bytes  int64
	unsent int // consecutive answers by which what the donor has sent did not arrive
}

type watchKey struct{}

// withWatch gives the connections that are made for a request its watch.
func withWatch(ctx context.Context, w *watch) context.Context {
	return context.WithValue(ctx, watchKey{}, w)
}

// begin sets the check that is called when no byte has come for a while. Without one, a silent
// connection ends after Stall.
func (w *watch) begin(check func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.check, w.since = check, time.Now()
}

// rest says that nothing is due.
func (w *watch) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = time.Now()
}

// moved says that a byte came.
func (w *watch) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.unsent = time.Now(), 0
}

// asker returns the check; nil before the stream begins, and for a request without a watch.
func (w *watch) asker() func() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.check
}

var errDeadConnection = errors.New("the donor has sent what did not arrive")

// judge compares the donor's answer with the one before.
func (w *watch) judge(g Giving, offset int64, stall time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.Sent > offset && !w.doubted() {
		return errDeadConnection
	}
	if g.Phase != w.phase || g.Bytes != w.bytes {
		w.phase, w.bytes, w.since = g.Phase, g.Bytes, time.Now()
		return nil
	}
	if silent := time.Since(w.since); silent > stall {
		return fmt.Errorf("%w: nothing has gone on for %v; its backup is at: %s", ErrStalled, silent.Round(time.Second), g.Phase)
	}
	return nil
}

// doubt says whether an answer by which the connection is of no use is the first one since the last
// byte: it may have been given a moment before the byte that is on its way.
func (w *watch) doubt() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doubted()
}

// doubted is doubt while w.mu is held.
func (w *watch) doubted() bool {
	if w.unsent++; w.unsent > 1 {
		w.unsent = 0
		return false
	}
	return true
}

// silent judges a donor that says nothing about the stream.
func (w *watch) silent(stall time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.since) > stall {
		return fmt.Errorf("%w: no byte came for %v", ErrStalled, stall)
	}
	return nil
}

// patientConn fails when the peer is silent for too long; the request's watch, if there is one,
// says how long that is. It reads nothing before the first write, because net/http has no error for
// an unsolicited answer, which an old ncat sends. It returns ErrRaw for a peer that begins with a
// raw xbstream, and errNoWord for one that sends nothing.
type patientConn struct {
	net.Conn
	stall time.Duration
	watch *watch
	asked chan struct{} // closed by the first Write, or by Close
	once  sync.Once
	heard bool // something came

	ahead  []byte // buffer for reading ahead; nil: none
	unread []byte // the part of it that Read has not returned yet
}

func newPatientConn(ctx context.Context, c net.Conn, stall time.Duration) *patientConn {
	w, _ := ctx.Value(watchKey{}).(*watch)
	return &patientConn{Conn: c, stall: stall, watch: w, asked: make(chan struct{})}
}

func (c *patientConn) ask() { c.once.Do(func() { close(c.asked) }) }

func (c *patientConn) Write(p []byte) (int, error) {
	c.ask()
	return c.Conn.Write(p)
}

func (c *patientConn) Close() error {
	c.ask()
	return c.Conn.Close()
}

func (c *patientConn) Read(p []byte) (int, error) {
	<-c.asked
	n, err := c.read(p)
	if c.heard {
		return n, err
	}
	c.heard = n > 0
	if n > 3 && strings.HasPrefix(rawMagic, string(p[:min(n, len(rawMagic))])) {
		return 0, ErrRaw
	}
	if n == 0 && err != nil {
		err = fmt.Errorf("%w: %w", errNoWord, err)
	}
	return n, err
}

// read reads as much as the kernel has: TLS asks for one record at a time, of 16 KiB at most.
func (c *patientConn) read(p []byte) (int, error) {
	if len(c.unread) == 0 && len(p) < len(c.ahead) {
		n, err := c.wait(c.ahead)
		if n == 0 {
			return 0, err
		}
		c.unread = c.ahead[:n] // an error comes again at the next call
	}
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.wait(p)
}

// wait reads from the kernel.
func (c *patientConn) wait(p []byte) (int, error) {
	for {
		if err := c.SetReadDeadline(time.Now().Add(c.patience())); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		if n > 0 && c.watch != nil {
			c.watch.moved()
		}
		ne, ok := errors.AsType[net.Error](err)
		if !ok || !ne.Timeout() {
			return n, err
		}
		check := c.watch.asker()
		if check == nil {
			return n, fmt.Errorf("%w: no byte came for %v", ErrStalled, c.stall)
		}
		if err := check(); err != nil {
			return n, err
		}
	}
}

// patience is how long a single read waits. With a watch, the donor is asked several times before
// the stream is given up.
func (c *patientConn) patience() time.Duration {
	if c.watch.asker() == nil {
		return c.stall
	}
	return pace(c.stall)
}

// pace is the interval of questions or reports when silence for stall has consequences.
func pace(stall time.Duration) time.Duration {
	return max(min(stall/4, 10*time.Second), 10*time.Millisecond)
}
