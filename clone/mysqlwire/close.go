package mysqlwire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Close ends the clone in the server, and the connections, though ctx may have ended. It may be
// called again.
func (c *Clone) Close(ctx context.Context) error {
	var err error
	c.mu.Lock()
	all := c.all()
	c.mu.Unlock()
	if !c.ended {
		err = c.kill(context.WithoutCancel(ctx), all)
	}
	for _, t := range slices.Backward(all) { // the server's main task waits for the others
		if c.ended {
			t.idle = exitTimeout
			_ = t.command(commandExit, nil)
			_ = t.answers(func(byte, []byte) error { return nil })
		}
		_ = t.net.Close()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.main, c.aux, c.tasks, c.ended = nil, nil, nil, true
	return err
}

// kill interrupts what the server does for us. A connection that just breaks leaves a clone in the
// server that waits for its client to come back, five minutes by default. One that is blocked by
// what it sends does not notice before that is read.
func (c *Clone) kill(ctx context.Context, all []*task) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	killer, _, err := login(ctx, c.account, loginTimeout)
	if err != nil {
		return fmt.Errorf("end the clone in the server: %w", err)
	}
	defer func() { _ = killer.net.Close() }()
	var drained sync.WaitGroup
	for _, t := range all {
		err = errors.Join(err, ignoreGone(killer.query("KILL QUERY "+strconv.FormatUint(uint64(t.id), 10))))
		drained.Go(t.drain)
	}
	drained.Wait()
	for _, t := range all {
		_ = t.net.Close()
	}
	for _, t := range all {
		err = errors.Join(err, awaitGone(ctx, killer, t.id))
	}
	return err
}

// awaitGone returns when the server has let go of a connection that was closed: only then is it
// free for another clone.
func awaitGone(ctx context.Context, killer *conn, id uint32) error {
	for ctx.Err() == nil {
		err := killer.query("KILL QUERY " + strconv.FormatUint(uint64(id), 10))
		if err != nil {
			return ignoreGone(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(goneInterval):
		}
	}
	return fmt.Errorf("end the clone in the server: connection %d is still there: %w", id, ctx.Err())
}

// goneInterval is how often the server is asked whether it has let go of a connection.
const goneInterval = 20 * time.Millisecond

// ignoreGone drops the error that there is no such connection.
func ignoreGone(err error) error {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && e.Number == 1094 { // ER_NO_SUCH_THREAD
		return nil
	}
	return err
}
