package fence

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// patience bounds a request whose context has no earlier deadline. Run answers at once or does
// not run.
const patience = 2 * time.Second

// longestAnswer bounds a line from Run, in bytes.
const longestAnswer = 256 << 10

// Client speaks to Run. It may be used by several goroutines; their requests go one after another.
// After an error other than a refusal the connection is closed: whether the request was carried out
// is not known, and it is not carried out after a later one. Each call connects when it has to.
type Client struct {
	path string
	turn sync.Mutex
	conn *connection
}

// NewClient is a client of the socket at the path. It does not connect.
func NewClient(path string) *Client {
	return &Client{path: path}
}

// Status asks for the server's state. ErrAway if nobody listens; ErrClock if Run's clock is another
// one, so that no permission may be given.
func (c *Client) Status(ctx context.Context) (Status, error) {
	before := Now()
	s, err := c.ask(ctx, request{Do: doStatus})
	if err != nil {
		return Status{}, err
	}
	if after := Now(); s.Now < before || s.Now > after {
		return Status{}, fmt.Errorf("%w: it says %s between %s and %s here", ErrClock, s.Now, before, after)
	}
	return s, nil
}

// Arm gives the server a permission, or extends it. Refused with ErrBoot, ErrTerm, ErrPast, ErrFar
// or ErrEnding; any other error: it may have been given.
func (c *Client) Arm(ctx context.Context, p Permission) (Status, error) {
	return c.ask(ctx, request{Do: doArm, Boot: p.Boot, Term: p.Term, Until: p.Until})
}

// Disarm says that the server is closed for writes and that no commit waits in it: its timer stops,
// and it may be ended gracefully. The caller has read both back. Refused with ErrBoot, ErrTerm or
// ErrEnding.
func (c *Client) Disarm(ctx context.Context, boot string, term uint64) (Status, error) {
	return c.ask(ctx, request{Do: doDisarm, Boot: boot, Term: term})
}

// Kill sends SIGKILL to the server's processes, and why is said to people. Run starts it again.
// Refused with ErrBoot, which is as good: that server is dead.
func (c *Client) Kill(ctx context.Context, boot, why string) (Status, error) {
	return c.ask(ctx, request{Do: doKill, Boot: boot, Why: why})
}

// Restart ends the server and starts it again: by SIGTERM, or by SIGKILL while it has a permission.
// Refused with ErrBoot.
func (c *Client) Restart(ctx context.Context, boot, why string) (Status, error) {
	return c.ask(ctx, request{Do: doRestart, Boot: boot, Why: why})
}

// Stop ends the server as Restart does, and keeps it so until Start or the end of Run. The state is
// Held once it has ended. Refused with ErrBoot.
func (c *Client) Stop(ctx context.Context, boot, why string) (Status, error) {
	return c.ask(ctx, request{Do: doStop, Boot: boot, Why: why})
}

// Start starts a server that is held, or that would be started after a pause. It is no error if one
// runs.
func (c *Client) Start(ctx context.Context) (Status, error) {
	return c.ask(ctx, request{Do: doStart})
}

// Watch calls changed with the state, and again at each change, until ctx or the connection ends;
// it always returns an error. A change that follows fast may replace one that was not told yet: a
// server that died shows by another Boot and by Last. An end of the connection means that Run has
// ended, and with it the server. Watch has a connection of its own.
func (c *Client) Watch(ctx context.Context, changed func(Status)) error {
	conn, err := dial(ctx, c.path)
	if err != nil {
		return err
	}
	defer conn.close()
	defer context.AfterFunc(ctx, conn.close)()
	if err := conn.send(request{Version: Version, Do: doWatch}, time.Now().Add(patience)); err != nil {
		return err
	}
	for {
		s, err := conn.receive(time.Time{})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		changed(s)
	}
}

// Close ends the connection. The client may be used again.
func (c *Client) Close() {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.conn != nil {
		c.conn.close()
		c.conn = nil
	}
}

// ask sends one request and waits for its answer.
func (c *Client) ask(ctx context.Context, r request) (Status, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	r.Version = Version
	again := c.conn != nil && r.Do == doStatus // the connection may be one of a Run that has ended
	s, err := c.once(ctx, r)
	if again && errors.Is(err, ErrAway) {
		s, err = c.once(ctx, r)
	}
	switch {
	case refused(err):
		return s, fmt.Errorf("understudy run refuses to %s: %w", r.Do, err)
	case err != nil:
		return Status{}, fmt.Errorf("ask understudy run to %s: %w", r.Do, errors.Join(ctx.Err(), err))
	}
	return s, nil
}

func (c *Client) once(ctx context.Context, r request) (Status, error) {
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	if c.conn == nil {
		conn, err := dial(ctx, c.path)
		if err != nil {
			return Status{}, err
		}
		c.conn = conn
	}
	conn := c.conn
	defer context.AfterFunc(ctx, conn.close)()
	until := time.Now().Add(patience)
	err := conn.send(r, until)
	var s Status
	if err == nil {
		s, err = conn.receive(until)
	}
	if err != nil && !refused(err) {
		conn.close()
		c.conn = nil
	}
	return s, err
}

// refused says that Run answered, and did nothing.
func refused(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}

// connection is one connection to Run.
type connection struct {
	net.Conn
	lines *bufio.Scanner
}

func dial(ctx context.Context, path string) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: %s", ErrAway, path)
	case err != nil:
		return nil, fmt.Errorf("connect to understudy run: %w", err)
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, longestAnswer)
	return &connection{Conn: conn, lines: lines}, nil
}

func (c *connection) close() { _ = c.Close() }

func (c *connection) send(r request, until time.Time) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := c.SetDeadline(until); err != nil {
		return err
	}
	_, err = c.Write(append(line, '\n'))
	return closedIsAway(err)
}

// receive reads one answer. No time: it waits for as long as the connection lasts.
func (c *connection) receive(until time.Time) (Status, error) {
	if err := c.SetDeadline(until); err != nil {
		return Status{}, err
	}
	if !c.lines.Scan() {
		err := c.lines.Err()
		switch {
		case err == nil:
			return Status{}, closedIsAway(io.EOF)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return Status{}, errors.New("it does not answer")
		}
		return Status{}, closedIsAway(err)
	}
	var a answer
	if err := json.Unmarshal(c.lines.Bytes(), &a); err != nil {
		return Status{}, fmt.Errorf("read its answer: %w", err)
	}
	var s Status
	if a.Status != nil {
		s = *a.Status
	}
	if a.Refused == "" {
		return s, nil
	}
	why, known := refusals[a.Refused]
	if !known {
		why = ErrRequest
	}
	return s, fmt.Errorf("%w: %s", why, a.Detail)
}

// closedIsAway is ErrAway for the errors of a connection that the other end has closed.
func closedIsAway(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("%w: it closed the connection", ErrAway)
	}
	return err
}
