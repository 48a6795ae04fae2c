package mysqlwire

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Account is how to log in to the server.
type Account struct {
	Address        string // host:port, or the path of a socket
	User, Password string
	// TLS secures the connections; nil: they are not.
	TLS *tls.Config
	// Local says that nobody can listen on the way. Then TLS, which costs more than all else, is used
	// only where the server or the account asks for it, or where the server wants the password itself,
	// which goes over TLS only.
	Local bool
	// Socket is the path of the server's socket, which is tried before Address; empty: there is none.
	// Over it data take less time than over TCP, and the server asks for no TLS.
	Socket string

	keep bool // the password itself is not sent
}

// bySocket is the account for connections over the socket.
func (a Account) bySocket() Account {
	a.Address, a.TLS, a.Socket = a.Socket, nil, ""
	return a
}

// network is that of the address.
func (a Account) network() string {
	if filepath.IsAbs(a.Address) {
		return "unix"
	}
	return "tcp"
}

// secret says whether nobody else reads the connections. The server takes passwords as they are
// then.
func (a Account) secret() bool { return a.TLS != nil || a.network() == "unix" }

// ErrNoTLS is returned when connections are to be secured and the server has no TLS.
var ErrNoTLS = errors.New("the server has no TLS")

const (
	// loginTimeout bounds a login.
	loginTimeout = 10 * time.Second
	// sessionTimeout is how long the server may wait for us: for as long as a joiner may take,
	// which is bounded elsewhere. It is the most that these variables take on every platform.
	sessionTimeout = "2147483"
)

// The capabilities that are made use of.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html
const (
	canProtocol41 = 1 << 9
	canTLS        = 1 << 11
	canSecure     = 1 << 15
	canPluginAuth = 1 << 19
	capabilities  = 1 | canProtocol41 | 1<<13 | canSecure | canPluginAuth // 1: long password, 13: transactions
)

// utf8mb4 is the number of the collation utf8mb4_general_ci.
const utf8mb4 = 45

// greeting is what a server says first.
type greeting struct {
	connection uint32
	nonce      []byte
	can        uint32
	plugin     string
}

// plain is the account for a connection without TLS, where there may be one.
func (a Account) plain() (Account, bool) {
	if !a.Local || a.TLS == nil {
		return a, false
	}
	a.TLS, a.keep = nil, true
	return a, true
}

// login connects and logs in. The connection's number is the server's.
func login(ctx context.Context, a Account, idle time.Duration) (c *conn, connection uint32, err error) {
	if plain, may := a.plain(); may {
		c, connection, err = loginOver(ctx, plain, idle)
		if _, refused := errors.AsType[*mysql.MySQLError](err); !refused && !errors.Is(err, errKeep) {
			return c, connection, err
		}
	}
	return loginOver(ctx, a, idle)
}

func loginOver(ctx context.Context, a Account, idle time.Duration) (c *conn, connection uint32, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, a.network(), a.Address)
	if err != nil {
		return nil, 0, fmt.Errorf("connect to the server: %w", err)
	}
	c = newConn(raw, loginTimeout)
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	defer func() {
		if err != nil {
			_ = raw.Close()
			err = fmt.Errorf("log in to the server: %w", err)
		}
	}()
	message, err := c.read(maxSmall)
	if err != nil {
		return nil, 0, err
	}
	g, err := parseGreeting(message)
	if err != nil {
		return nil, 0, err
	}
	if a.TLS != nil {
		if c, err = c.secure(ctx, g, a.TLS); err != nil {
			return nil, 0, err
		}
	}
	if err := c.authenticate(g, a); err != nil {
		return nil, 0, err
	}
	c.idle = idle
	return c, g.connection, nil
}

// parseGreeting reads the server's first message.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
func parseGreeting(message []byte) (greeting, error) {
	var g greeting
	if message[0] == headError {
		return g, serverError(message)
	}
	const version10 = 10
	end := bytes.IndexByte(message, 0)
	const fixed = 4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10
	if message[0] != version10 || end < 0 || len(message) < end+1+fixed {
		return g, fmt.Errorf("%w: its greeting is of no known version", ErrProtocol)
	}
	b := message[end+1:]
	g.connection = binary.LittleEndian.Uint32(b)
	g.can = uint32(binary.LittleEndian.Uint16(b[13:])) | uint32(binary.LittleEndian.Uint16(b[18:]))<<16
	g.nonce = bytes.Clone(b[4:12])
	rest := b[fixed:]
	const second = 12 // bytes of the nonce, and a NUL behind them
	if g.can&canProtocol41 == 0 || g.can&canPluginAuth == 0 || len(rest) < second+1 {
		return g, fmt.Errorf("%w: it lacks what every server since 5.6 can do", ErrProtocol)
	}
	g.nonce = append(g.nonce, rest[:second]...)
	name := max(second+1, int(b[20])-8)
	if name > len(rest) {
		return g, fmt.Errorf("%w: its greeting ends early", ErrProtocol)
	}
	g.plugin = text(rest[name:])
	return g, nil
}

// text is what comes before a NUL or the end.
func text(b []byte) string {
	before, _, _ := bytes.Cut(b, []byte{0})
	return string(before)
}

// response is the first part of our answer to the greeting, and all of the wish for TLS.
func response(can uint32) []byte {
	b := make([]byte, 4+4+1+23)
	binary.LittleEndian.PutUint32(b, can)
	binary.LittleEndian.PutUint32(b[4:], maxPart)
	b[8] = utf8mb4
	return b
}

// tlsAhead is how much is read at once of TLS, whose records have 16 KiB.
const tlsAhead = 256 << 10

// aheadConn reads ahead.
type aheadConn struct {
	net.Conn

	r *bufio.Reader
}

func (c aheadConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// secure begins TLS.
func (c *conn) secure(ctx context.Context, g greeting, config *tls.Config) (*conn, error) {
	if g.can&canTLS == 0 {
		return nil, ErrNoTLS
	}
	if err := c.write(response(capabilities | canTLS)); err != nil {
		return nil, err
	}
	secured := tls.Client(aheadConn{c.net, bufio.NewReaderSize(c.net, tlsAhead)}, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("begin TLS: %w", err)
	}
	next := newConn(secured, c.idle)
	next.seq = c.seq
	return next, nil
}

// authenticate answers the greeting, and whatever the server asks then.
func (c *conn) authenticate(g greeting, a Account) error {
	can := uint32(capabilities)
	if a.TLS != nil {
		can |= canTLS
	}
	proof, err := a.prove(g.plugin, g.nonce)
	if err != nil {
		return err
	}
	b := append(response(can), a.User...)
	b = append(b, 0, byte(len(proof))) //nolint:gosec // 32 bytes at most
	b = append(b, proof...)
	b = append(b, g.plugin...)
	if err := c.write(append(b, 0)); err != nil {
		return err
	}
	for {
		message, err := c.read(maxSmall)
		if err != nil {
			return err
		}
		switch message[0] {
		case headOK:
			return nil
		case headError:
			return serverError(message)
		case headEOF: // another plugin
			if g.plugin, g.nonce, err = parseSwitch(message); err != nil {
				return err
			}
			if proof, err = a.prove(g.plugin, g.nonce); err != nil {
				return err
			}
			err = c.write(proof)
		case headMoreData:
			err = c.prove(g, a, message[1:])
		default:
			err = fmt.Errorf("%w: it asks %#x", ErrProtocol, message[0])
		}
		if err != nil {
			return err
		}
	}
}

// parseSwitch reads the server's wish for another authentication plugin.
//
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_auth_switch_request.html
func parseSwitch(message []byte) (plugin string, nonce []byte, err error) {
	name, nonce, found := bytes.Cut(message[1:], []byte{0})
	nonce = bytes.Clone(bytes.TrimSuffix(nonce, []byte{0}))
	if !found || len(nonce) != nonceLen {
		return "", nil, fmt.Errorf("%w: it asks for another authentication, and not how", ErrProtocol)
	}
	return string(name), nonce, nil
}
