package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Protocol is the way to ask a donor for a clone.
type Protocol string

const (
	// V1 is the protocol of this package.
	V1 Protocol = "v1"
	// Raw is the protocol of the Kubernetes tutorial's donors, `ncat --listen … -c "xtrabackup
	// --stream=xbstream …"`: whoever connects gets one xbstream. There is no authentication, no
	// resuming and no proof that the stream is whole.
	Raw Protocol = "raw"
	// Auto is V1, and Raw with donors that do not speak V1. An attacker between the members can
	// make a donor look like one of those.
	Auto Protocol = "auto"
)

// rawMagic begins every chunk of an xbstream. Neither TLS nor HTTP begins so.
const rawMagic = "XBSTCK01"

var (
	// ErrRaw is returned, with ErrProtocol, when the donor answers with a raw xbstream.
	ErrRaw = errors.New("it sends a raw xbstream, as the tutorial's ncat does")
	// errNoWord is returned when a peer accepted the connection and sent nothing.
	errNoWord = errors.New("the peer says nothing")
)

// SpeaksRaw says whether an error of a Client is typical of a donor of the Kubernetes tutorial: it
// sends a raw stream, closes at once because it is busy, or sends nothing because its tool has not
// begun.
func SpeaksRaw(err error) bool {
	return errors.Is(err, ErrRaw) || errors.Is(err, errNoWord) ||
		err != nil && strings.Contains(err.Error(), "TLS handshake timeout") // net/http has no type for it
}

// RawConfig are the settings of DialRaw.
type RawConfig struct {
	// Addr is the donor's host:port.
	Addr string
	// Role is the role that the donor is assumed to have, since it tells none. In the tutorial the
	// first ordinal is the primary and the others are replicas: only the primary's own coordinate
	// is one to replicate from.
	Role Role
	// Stall is the longest time without a byte.
	Stall time.Duration
}

// DialRaw takes a raw stream. It fails with ErrBusy, as a *RefusedError, when the donor closes
// without a byte, and with ErrProtocol when the donor sends no xbstream.
//
// The stream's Header has only Raw and Role. The stream cannot resume. A Finish without an error
// only says that the donor closed the connection.
func DialRaw(ctx context.Context, c RawConfig) (*Stream, error) {
	dialer := &net.Dialer{Timeout: connectTimeout}
	tcp, err := dialer.DialContext(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.Addr, err)
	}
	conn := &patientConn{Conn: tcp, stall: c.Stall, asked: make(chan struct{}), heard: true}
	conn.ask() // the connection itself is the question
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	body := &rawBody{Reader: bufio.NewReaderSize(conn, connBuffer), conn: conn}
	if err := body.begin(); err != nil {
		stop()
		err = errors.Join(err, conn.Close())
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("ask %s: %w", c.Addr, err)
	}
	client := &Client{config: ClientConfig{Addr: c.Addr}}
	arriving := &resuming{client: client, res: &http.Response{Body: body}, gone: true}
	return &Stream{
		Header: Header{Raw: true, Role: c.Role, Encoding: None},
		client: client, cancel: func() { stop() }, stop: func() {}, digest: newDigest(),
		raw: arriving, body: arriving,
	}, nil
}

// rawBody is the connection to a raw donor.
type rawBody struct {
	*bufio.Reader
	conn net.Conn
}

func (b *rawBody) Close() error { return b.conn.Close() }

// begin waits for the first bytes and checks them.
func (b *rawBody) begin() error {
	for n := 1; ; n++ {
		seen, err := b.Peek(n)
		switch {
		case len(seen) == 0 && errors.Is(err, io.EOF):
			return &RefusedError{Reason: ErrBusy, Text: "it closed without a byte, as an ncat does whose --max-conns are taken, or whose tool fails"}
		case !strings.HasPrefix(rawMagic, string(seen)):
			seen, _ = b.Peek(b.Buffered())
			return fmt.Errorf("%w: %s instead of an xbstream", ErrProtocol, kindOf(seen))
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: it closed after %d bytes", ErrIncomplete, len(seen))
		case err != nil:
			return err
		case n == len(rawMagic):
			return nil
		}
	}
}

// kindOf describes a peer's first bytes.
func kindOf(first []byte) string {
	const most = 32
	switch {
	case len(first) > 1 && (first[0] == 0x15 || first[0] == 0x16) && first[1] == 3:
		return "it speaks TLS"
	case strings.HasPrefix(string(first), "HTTP/"):
		return "it speaks HTTP"
	case len(first) > most:
		return fmt.Sprintf("it sends %q…", first[:most])
	}
	return fmt.Sprintf("it sends %q", first)
}

const (
	// orphanTime is how long our attempt with V1 may keep a raw donor busy.
	orphanTime = 10 * time.Second
	// orphanPause is the interval of new attempts during orphanTime.
	orphanPause = 250 * time.Millisecond
	// atOnce is within what time a busy ncat closes.
	atOnce = 2 * time.Second
)

// fallBack takes a raw stream from a donor that did not understand V1. Its ncat began a backup for
// that attempt, and may be busy until it notices that the client has left.
func (c *Client) fallBack(ctx context.Context, cause error) (*Stream, error) {
	c.turnRaw(cause)
	over := time.Now().Add(orphanTime)
	for {
		s, err := c.cloneRaw(ctx)
		if !c.raw.Load() || !errors.Is(err, ErrBusy) || time.Now().After(over) {
			return s, err
		}
		timer := time.NewTimer(orphanPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// turnRaw makes the Client ask for raw streams from now on.
func (c *Client) turnRaw(cause error) {
	c.config.Log.Warn("donor does not speak the clone protocol: taking its raw stream, without trust and without proof that it is whole",
		"addr", c.config.Addr, "reason", cause)
	c.raw.Store(true)
}

// cloneRaw asks for a raw stream. A busy donor stays raw, because an attempt with V1 would occupy
// it again. After any other error the donor may have been upgraded, so V1 is tried first.
func (c *Client) cloneRaw(ctx context.Context) (*Stream, error) {
	begun := time.Now()
	s, err := DialRaw(ctx, RawConfig{Addr: c.config.Addr, Role: c.config.Role, Stall: c.config.Stall})
	if err != nil && (!errors.Is(err, ErrBusy) || time.Since(begun) > atOnce) {
		c.raw.Store(false)
	}
	return s, err
}

// isRaw says whether to ask without V1.
func (c *Client) isRaw() bool { return c.config.Protocol == Raw || c.raw.Load() }
