package mysqlwire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// maxPart is what one packet holds. A message of that many bytes or more is several packets.
	//
	// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html
	maxPart = 1<<24 - 1
	// maxMessage bounds what is read of one message: the largest clone_buffer_size, and its head.
	//
	// https://dev.mysql.com/doc/refman/8.4/en/clone-plugin-options-variables.html
	maxMessage = 256<<20 + 1
	// maxSmall bounds the messages of the login.
	maxSmall = 64 << 10
	// readAhead is how much is read at once of small messages.
	readAhead = 64 << 10
	// drainTimeout bounds how long the rest of an ended clone is read, drainSilence how long
	// nothing of it may come before that is its end. drainPiece is read at once.
	drainTimeout = 10 * time.Second
	drainSilence = 300 * time.Millisecond
	drainPiece   = 1 << 20
	// pingTimeout bounds the answer to a ping, pingSilence how long it may take to come once it has
	// begun.
	pingTimeout = 5 * time.Second
	pingSilence = 20 * time.Millisecond
	comPing     = 0x0e
)

// ErrProtocol is returned when what the server sends is not what the protocol asks for.
var ErrProtocol = errors.New("the server breaks the clone protocol")

// The first bytes of the answers that every command may get.
const (
	headOK       = 0x00
	headMoreData = 0x01
	headEOF      = 0xfe
	headError    = 0xff
)

// conn carries messages over one connection.
type conn struct {
	net  net.Conn
	r    *bufio.Reader
	seq  byte          // of the next packet that is written
	idle time.Duration // how long one read or write may take
	buf  []byte        // the message that was read last

	mu      sync.Mutex
	stopped bool
}

func newConn(c net.Conn, idle time.Duration) *conn {
	return &conn{net: c, r: bufio.NewReaderSize(c, readAhead), idle: idle}
}

// read returns the next message, of at most limit bytes. It is valid until the next read.
func (c *conn) read(limit int) ([]byte, error) {
	c.buf = c.buf[:0]
	for {
		if err := c.await(c.net.SetReadDeadline); err != nil {
			return nil, err
		}
		var head [4]byte
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return nil, fmt.Errorf("read from the server: %w", err)
		}
		n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		c.seq = head[3] + 1
		begin := len(c.buf)
		if begin+n > limit {
			return nil, fmt.Errorf("%w: a message has more than %d bytes", ErrProtocol, limit)
		}
		c.buf = grow(c.buf, n)
		if _, err := io.ReadFull(c.r, c.buf[begin:]); err != nil {
			return nil, fmt.Errorf("read from the server: %w", err)
		}
		if n < maxPart {
			break
		}
	}
	if len(c.buf) == 0 {
		return nil, fmt.Errorf("%w: an empty message", ErrProtocol)
	}
	return c.buf, nil
}

// await sets how long the next read or write may take.
func (c *conn) await(set func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return os.ErrDeadlineExceeded
	}
	return set(time.Now().Add(c.idle))
}

// stop has the read or write under way fail, and all later ones.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	_ = c.net.SetDeadline(time.Unix(1, 0))
}

// drain reads what comes of a command that was interrupted, until nothing comes for a while, and
// returns when the server is done with it: then it answers a ping. One that still waits for our
// next message takes the first ping for that, and ends.
func (c *conn) drain() {
	c.silence(drainSilence)
	ping := []byte{1, 0, 0, 0, comPing}
	for range 2 {
		_ = c.net.SetDeadline(time.Now().Add(pingTimeout))
		if _, err := c.net.Write(ping); err != nil {
			return
		}
		if _, err := io.CopyN(io.Discard, c.net, 1); err != nil {
			return
		}
		c.silence(pingSilence)
	}
}

// silence reads until nothing comes for so long.
func (c *conn) silence(long time.Duration) {
	for end := time.Now().Add(drainTimeout); time.Now().Before(end); {
		_ = c.net.SetReadDeadline(time.Now().Add(long))
		if n, _ := io.CopyN(io.Discard, c.net, drainPiece); n == 0 {
			return
		}
	}
}

// grow makes b n bytes longer; what is added has any content.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b[:len(b)+n]
	}
	longer := make([]byte, len(b)+n)
	copy(longer, b)
	return longer
}

// write sends one message, which is shorter than a packet can be.
func (c *conn) write(message []byte) error {
	if err := c.await(c.net.SetWriteDeadline); err != nil {
		return err
	}
	packet := make([]byte, 4, 4+len(message))
	binary.LittleEndian.PutUint32(packet, uint32(len(message))) //nolint:gosec // shorter than maxPart
	packet[3] = c.seq
	c.seq++
	if _, err := c.net.Write(append(packet, message...)); err != nil {
		return fmt.Errorf("write to the server: %w", err)
	}
	return nil
}

// command begins an exchange.
func (c *conn) command(code byte, body []byte) error {
	c.seq = 0
	return c.write(append([]byte{code}, body...))
}

// ok reads the answer to a command that gives no rows.
func (c *conn) ok() error {
	message, err := c.read(maxSmall)
	if err != nil {
		return err
	}
	switch message[0] {
	case headOK:
		return nil
	case headError:
		return serverError(message)
	}
	return fmt.Errorf("%w: the answer begins with %#x", ErrProtocol, message[0])
}

// query runs a statement that gives no rows.
func (c *conn) query(statement string) error {
	const comQuery = 0x03
	if err := c.command(comQuery, []byte(statement)); err != nil {
		return err
	}
	return c.ok()
}

// serverError reads the server's error message.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_err_packet.html
func serverError(message []byte) error {
	b := message[1:]
	if len(b) < 2 {
		return fmt.Errorf("%w: an error without a number", ErrProtocol)
	}
	e := &mysql.MySQLError{Number: binary.LittleEndian.Uint16(b)}
	b = b[2:]
	if len(b) >= 6 && b[0] == '#' {
		copy(e.SQLState[:], b[1:])
		b = b[6:]
	}
	e.Message = string(b)
	return e
}
