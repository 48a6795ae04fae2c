// Package mysqlwire takes a clone from a MySQL server in the server's own protocol, in which one
// server clones another (CLONE INSTANCE), without a server at this end. It writes no files: what
// comes is handed to a Sink.
//
// # Protocol
//
// A connection logs in as every client does and sends COM_CLONE. From then on each message of ours
// is a command byte and its body, and each of the server's an answer byte and its body; COMPLETE or
// ERROR ends the answers to a command. INIT begins a clone, and the server names it by a locator.
// EXECUTE on the same connection has it send everything; further connections ATTACH themselves to
// the locator and EXECUTE, too, and each gets a part. At the end of a stage the server waits until
// that is acknowledged, on a connection of its own.
//
// The protocol is not documented. It was read from the sources of MySQL 9.7 (plugin/clone and
// storage/innobase/clone) and tried against MySQL 9.7.4. The versions 1 to 3, which servers before
// 8.0.37 and 8.4 speak, are by specification.
package mysqlwire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"
)

const (
	comClone = 0x20

	commandInit    = 1
	commandAttach  = 2
	commandExecute = 4
	commandAck     = 5
	commandExit    = 6

	answerLocators   = 1
	answerDescriptor = 2
	answerData       = 3
	answerPlugin     = 4
	answerConfig     = 5
	answerCollation  = 6
	answerPluginV2   = 7
	answerConfigV3   = 8
	answerConfigV4   = 9
	answerComplete   = 99
	answerError      = 100
)

const (
	// oldestVersion and newestVersion are those of the protocol that are known. The server takes
	// the newest one that it knows, too.
	oldestVersion = 0x0100
	newestVersion = 0x0103
	// innoDB is the number of the only storage engine that is cloned.
	innoDB = 12
	// noBackupLock leaves DDL alone while the clone is made.
	noBackupLock = 1 << 31
	// lockTimeout is what the server's own clients send, in seconds. Without the lock nothing
	// waits.
	lockTimeout = 300
	// idleTimeout is how long the server may say nothing. While it waits for something it sends a
	// sign of life, except at the beginning: then it opens all tablespaces.
	idleTimeout = 10 * time.Minute
	// copyTimeout is idleTimeout once it has opened them.
	copyTimeout = 2 * time.Minute
	// exitTimeout is how long the server may take to take leave.
	exitTimeout = 10 * time.Second
	// attachFrom is from how many bytes on several tasks share the work: fewer are copied while
	// they log in.
	attachFrom = 128 << 20
)

var (
	// ErrBusy is returned while the server makes another clone.
	ErrBusy = errors.New("the server is being cloned already")
	// ErrOutside is returned for a file that lies outside of the data directory.
	ErrOutside = errors.New("a tablespace lies outside of the data directory")
	// ErrVersion is returned for a server whose protocol is not known.
	ErrVersion = errors.New("the server's clone protocol has an unknown version")
)

// numberManyClones is the server's error when it makes another clone.
const numberManyClones = 3634

// Sink takes what comes. Its methods are called by several goroutines at once, those of one stage
// before those of the next one; an error of theirs ends the clone.
type Sink interface {
	// Begin is called first in each stage, once.
	Begin(s State) error
	// File describes a file, in stage now, before its first block. One that has been described may
	// come again: the DDL statements of a stage are told at its end, as files of the next one.
	File(now Stage, f File) error
	// Block brings bytes of a file. They are the sink's until it returns.
	Block(d Block, data []byte) error
	// End is called when all of a stage has come, before the server hears that it has.
	End(s Stage) error
}

// Clone is one clone. Call Close in any case.
type Clone struct {
	// Version is that of the protocol, 1 to 4.
	Version int
	// Settings are those of the server that its recipients have to share, by their names: among
	// them version and innodb_page_size.
	Settings map[string]string
	// Fewer says, after Run, why fewer connections than wished took part; nil: none was refused.
	Fewer error
	// NoSocket says why the connections are not over the account's socket; nil: they are, or it has
	// none.
	NoSocket error

	account   Account
	main, aux *task
	locator   []byte
	ended     bool // well

	mu     sync.Mutex
	cond   sync.Cond
	tasks  []*task // those that take part
	begun  Stage
	failed bool
	first  error // of a task: those of the others follow from it
}

// task is a connection that takes part in a clone.
type task struct {
	*conn
	id  uint32 // the connection's, for the server
	end Stage  // the last stage of which all has come; Clone.mu
}

// Open begins a clone of the server: from now on it keeps what it needs for it, until Close.
// ErrBusy comes from here.
func Open(ctx context.Context, a Account) (*Clone, error) {
	c := &Clone{account: a, Settings: map[string]string{}}
	c.cond.L = &c.mu
	var err error
	if a.Socket != "" {
		c.account = a.bySocket()
		if c.main, c.NoSocket = c.connect(ctx); c.NoSocket != nil {
			c.account = a
		}
	}
	if c.main == nil {
		if c.main, err = c.connect(ctx); err != nil {
			return nil, errors.Join(err, c.NoSocket)
		}
	}
	_, secured := c.main.net.(*tls.Conn)
	c.account.Local = c.account.Local && !secured // it was refused once
	if c.aux, err = c.connect(ctx); err == nil {
		defer c.guard(ctx)()
		err = c.init()
	}
	if err != nil {
		return nil, errors.Join(cause(ctx, err), c.Close(ctx))
	}
	return c, nil
}

// connect makes a connection that speaks the clone protocol.
func (c *Clone) connect(ctx context.Context) (*task, error) {
	conn, id, err := login(ctx, c.account, idleTimeout)
	if err != nil {
		return nil, err
	}
	t := &task{conn: conn, id: id}
	err = t.query("SET SESSION wait_timeout = " + sessionTimeout + ", net_write_timeout = " + sessionTimeout + ", net_read_timeout = " + sessionTimeout)
	if err == nil {
		err = t.command(comClone, nil)
	}
	if err == nil {
		err = t.ok()
	}
	if err != nil {
		_ = conn.net.Close()
		return nil, fmt.Errorf("begin the clone protocol: %w", err)
	}
	return t, nil
}

// guard stops all reading when ctx ends; call what it returns when that is no matter any more.
func (c *Clone) guard(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, c.stop)
}

// stop has all that wait for the server, or for one another, fail.
func (c *Clone) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = true
	c.cond.Broadcast()
	for _, t := range c.all() {
		t.stop()
	}
}

// all are the connections that have been made. It needs c.mu.
func (c *Clone) all() []*task {
	all := c.tasks // the main one is the first of them, once there are any
	if len(all) == 0 && c.main != nil {
		all = []*task{c.main}
	}
	if c.aux != nil {
		all = append(slices.Clip(all), c.aux)
	}
	return all
}

func cause(ctx context.Context, err error) error {
	if why := context.Cause(ctx); err != nil && why != nil && !errors.Is(err, why) {
		return fmt.Errorf("%w: %w", why, err)
	}
	return err
}

// init agrees on the version of the protocol, and has the server make a locator.
func (c *Clone) init() error {
	if err := c.main.command(commandInit, c.opening(newestVersion, firstLocator())); err != nil {
		return err
	}
	if err := c.main.answers(c.take); err != nil {
		return fmt.Errorf("begin a clone: %w", err)
	}
	if c.locator == nil {
		return fmt.Errorf("%w: it names no clone", ErrProtocol)
	}
	return nil
}

// opening is the body of INIT and ATTACH.
func (*Clone) opening(version uint32, locator []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, version)
	b = binary.LittleEndian.AppendUint32(b, lockTimeout|noBackupLock)
	return appendLocator(b, locator)
}

func appendLocator(b, locator []byte) []byte {
	b = append(b, innoDB)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(locator))) //nolint:gosec // it came in one message
	return append(b, locator...)
}

// answers hands on the answers to a command until the last one.
func (t *task) answers(take func(kind byte, body []byte) error) error {
	for {
		message, err := t.read(maxMessage)
		if err != nil {
			return err
		}
		switch kind, body := message[0], message[1:]; kind {
		case answerComplete:
			return nil
		case answerError:
			return donorError(body)
		case headError:
			return serverError(message)
		default:
			if err := take(kind, body); err != nil {
				return err
			}
		}
	}
}

// donorError is what the server says of a clone that it ends.
func donorError(body []byte) error {
	if len(body) < 4 {
		return fmt.Errorf("%w: an error without a number", ErrProtocol)
	}
	e := &mysql.MySQLError{Number: binary.LittleEndian.Uint16(body), Message: strings.ToValidUTF8(string(body[4:]), "?")}
	if e.Number == numberManyClones {
		return fmt.Errorf("%w: %w", ErrBusy, e)
	}
	return e
}

// take takes the answers to INIT.
func (c *Clone) take(kind byte, body []byte) error {
	switch kind {
	case answerConfig:
		key, rest, err := cutString(body)
		if err != nil {
			return err
		}
		value, _, err := cutString(rest)
		c.Settings[key] = value
		return err
	case answerLocators:
		return c.takeLocator(body)
	case answerPlugin, answerPluginV2, answerCollation, answerConfigV3, answerConfigV4:
		return nil // a server that recovers the copy has to have them; it says so itself
	}
	return fmt.Errorf("%w: the answer %d to INIT", ErrProtocol, kind)
}

// maxSettings bounds the settings of a server, which has seven.
const maxSettings = 1 << 10

// cutString takes off a string with its length before it.
func cutString(b []byte) (string, []byte, error) {
	if len(b) < 4 {
		return "", nil, fmt.Errorf("%w: a setting without a length", ErrProtocol)
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(min(len(b), maxSettings)) {
		return "", nil, fmt.Errorf("%w: a setting of %d bytes", ErrProtocol, n)
	}
	return string(b[:n]), b[n:], nil
}

// takeLocator takes the server's version of the protocol, and its name for the clone.
func (c *Clone) takeLocator(body []byte) error {
	const before = 4 + 1 + 4
	if len(body) < before+locatorLen {
		return fmt.Errorf("%w: a locator of %d bytes", ErrProtocol, len(body))
	}
	version := binary.LittleEndian.Uint32(body)
	if version < oldestVersion || version > newestVersion {
		return fmt.Errorf("%w: %#x", ErrVersion, version)
	}
	engine, n := body[4], binary.LittleEndian.Uint32(body[5:])
	locator := body[before:]
	kind, _, err := parseHeader(locator)
	switch {
	case err != nil:
		return err
	case kind != typeLocator || engine != innoDB || uint64(n) != uint64(len(locator)):
		return fmt.Errorf("%w: it names the clone of engine %d by a descriptor of type %d", ErrProtocol, engine, kind)
	}
	c.Version = int(version-oldestVersion) + 1
	c.locator = append([]byte(nil), locator...)
	return nil
}

// Run takes the whole clone, over so many connections at most. After an error nothing that came is
// of use.
func (c *Clone) Run(ctx context.Context, tasks int, sink Sink) error {
	defer c.guard(ctx)()
	var g errgroup.Group
	c.mu.Lock()
	c.tasks = []*task{c.main}
	c.mu.Unlock()
	c.start(&g, c.main, sink, func() error { return c.attach(ctx, &g, tasks-1, sink) })
	if err := g.Wait(); err != nil {
		return cause(ctx, c.first)
	}
	if c.begun != Done {
		return fmt.Errorf("%w: it ends a clone at %s", ErrProtocol, c.begun)
	}
	c.ended = true
	return nil
}

// start has a task take its part. The first one that fails ends them all.
func (c *Clone) start(g *errgroup.Group, t *task, sink Sink, many func() error) {
	g.Go(func() error {
		err := c.execute(t, sink, many)
		if err != nil {
			c.mu.Lock()
			if c.first == nil {
				c.first = err
			}
			c.mu.Unlock()
			c.stop()
		}
		return err
	})
}

// attach has further connections take part: so many at most, for a server that has no connection
// left, or none for this account, refuses some or all of them.
func (c *Clone) attach(ctx context.Context, g *errgroup.Group, n int, sink Sink) error {
	for range n {
		t, err := c.connect(ctx)
		if err != nil {
			return c.carryOn(ctx, err)
		}
		c.mu.Lock()
		t.idle = copyTimeout // it takes part while files are copied
		c.tasks = append(c.tasks, t)
		failed := c.failed
		c.mu.Unlock()
		if failed {
			return errStopped
		}
		if err := t.command(commandAttach, c.opening(uint32(c.Version-1+oldestVersion), c.locator)); err != nil { //nolint:gosec // 1 to 4
			return err
		}
		if err := t.answers(func(byte, []byte) error { return nil }); err != nil {
			err = fmt.Errorf("take part in a clone: %w", err)
			if _, refused := errors.AsType[*mysql.MySQLError](err); !refused {
				return err
			}
			c.mu.Lock()
			t.end = Done
			c.mu.Unlock()
			return c.carryOn(ctx, err)
		}
		c.start(g, t, sink, nil)
	}
	return nil
}

// carryOn drops the error of a connection that could not be made, unless the whole clone is over.
func (c *Clone) carryOn(ctx context.Context, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed || ctx.Err() != nil {
		return errors.Join(errStopped, err)
	}
	c.Fewer = err
	return nil
}

// execute takes a task's part. many is called when there is enough for further tasks.
func (c *Clone) execute(t *task, sink Sink, many func() error) error {
	if err := t.command(commandExecute, nil); err != nil {
		return err
	}
	f := &flow{Clone: c, task: t, sink: sink, many: many}
	if err := t.answers(f.take); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	if f.block != nil {
		return fmt.Errorf("%w: it ends before a block", ErrProtocol)
	}
	return nil
}
