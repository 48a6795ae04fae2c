package wire

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"understudy/clone/trust"
	"understudy/replicate/origin"
)

// Client asks one donor. Make one with NewClient.
type Client struct {
	addr   string
	scheme string
	member string
	http   *http.Client
}

// ClientConfig are the settings of a Client.
type ClientConfig struct {
	// Addr is the donor's host:port.
	Addr string
	// TLS is nil only when the operator asked for an open connection.
	TLS *tls.Config
	// Member is who asks, in letters, digits, dots and dashes.
	Member string
	// Stall is how long the donor may send nothing before the connection is given up.
	Stall time.Duration
}

// connectTimeout bounds the connection and the handshake, not the transfer.
const connectTimeout = 10 * time.Second

// NewClient makes a Client. Close it.
func NewClient(c ClientConfig) *Client {
	dialer := &net.Dialer{Timeout: connectTimeout}
	transport := &http.Transport{
		Proxy:               nil, // members reach one another directly
		DisableCompression:  true,
		DisableKeepAlives:   true,
		TLSClientConfig:     trust.ForAddr(c.TLS, c.Addr),
		TLSHandshakeTimeout: connectTimeout,
		ReadBufferSize:      256 << 10,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: conn, stall: c.Stall, asked: make(chan struct{})}, nil
		},
	}
	scheme := "https"
	if c.TLS == nil {
		scheme = "http"
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{addr: c.Addr, scheme: scheme, member: c.Member, http: &http.Client{Transport: transport, CheckRedirect: noRedirect}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Addr is the donor's host:port.
func (c *Client) Addr() string { return c.addr }

// stallConn gives up when the peer is silent for too long. It reads nothing before
// something was written: net/http has no error for an answer that nobody asked for,
// which is what an old ncat gives.
type stallConn struct {
	net.Conn
	stall time.Duration
	asked chan struct{} // closed by the first Write, or by Close
	once  sync.Once
}

func (c *stallConn) ask() { c.once.Do(func() { close(c.asked) }) }

func (c *stallConn) Write(p []byte) (int, error) {
	c.ask()
	return c.Conn.Write(p)
}

func (c *stallConn) Close() error {
	c.ask()
	return c.Conn.Close()
}

func (c *stallConn) Read(p []byte) (int, error) {
	<-c.asked
	if err := c.SetReadDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return n, fmt.Errorf("no byte came for %v: %w", c.stall, err)
	}
	return n, err
}

// Member asks a member for facts about itself.
func (c *Client) Member(ctx context.Context) (Member, error) {
	res, err := c.get(ctx, pathMember)
	if err != nil {
		return Member{}, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return Member{}, c.problem(res)
	}
	var m Member
	if err := json.NewDecoder(io.LimitReader(res.Body, maxProblem)).Decode(&m); err != nil {
		return Member{}, fmt.Errorf("%w: read the answer of %s: %w", ErrProtocol, c.addr, err)
	}
	return m, nil
}

// Stream is a clone that is arriving. Read its bytes to the end, then call Finish;
// Close it in any case.
type Stream struct {
	Header Header

	res    *http.Response
	addr   string
	digest hash.Hash
	bytes  int64
	ended  bool
}

// Result describes a stream that arrived whole.
type Result struct {
	// Bytes is the length of the raw xbstream.
	Bytes int64
	// Digest is "sha256:" and the digest in hex.
	Digest string
}

// Clone asks for a clone. The errors ErrBusy and ErrNotServing come as a *RefusedError.
func (c *Client) Clone(ctx context.Context) (*Stream, error) {
	res, err := c.get(ctx, pathClone)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer func() { _ = res.Body.Close() }()
		return nil, c.problem(res)
	}
	h, err := readHeader(res.Header)
	if err != nil {
		_ = res.Body.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrProtocol, c.addr, err)
	}
	return &Stream{Header: h, res: res, addr: c.addr, digest: sha256.New()}, nil
}

func (c *Client) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.scheme+"://"+c.addr+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.addr, err)
	}
	req.Header.Set(headerMember, c.member)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.addr, explain(err))
	}
	return res, nil
}

// explain says in our words what a failed exchange means here.
func explain(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the address, which the caller adds
	}
	_, record := errors.AsType[tls.RecordHeaderError](err)
	op, network := errors.AsType[*net.OpError](err)
	switch {
	case record, errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: it does not speak TLS (is it running with --insecure, or an old ncat?): %w", ErrProtocol, err)
	case network && op.Op == "remote error": // so crypto/tls calls an alert
		return fmt.Errorf("%w: it refused ours: %w", trust.ErrUntrusted, op)
	case strings.Contains(err.Error(), "malformed "): // net/http has no type for what is no HTTP
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// RefusedError is a donor's answer that it gives no clone now.
type RefusedError struct {
	// Reason is ErrBusy or ErrNotServing.
	Reason error
	// Text is what the donor says.
	Text string
	// RetryAfter is when the donor wants to be asked again; 0 when it did not say.
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v: %s (ask again in %v)", e.Reason, e.Text, e.RetryAfter)
}

// Unwrap makes errors.Is find the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }

func (c *Client) problem(res *http.Response) error {
	var p problem
	err := json.NewDecoder(io.LimitReader(res.Body, maxProblem)).Decode(&p)
	if err != nil || p.Code == "" {
		hint := ""
		if c.scheme == "http" && res.StatusCode == http.StatusBadRequest {
			hint = " (does it speak TLS? then leave out --insecure)"
		}
		return fmt.Errorf("%w: %s answers %s%s", ErrProtocol, c.addr, res.Status, hint)
	}
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	refused := &RefusedError{Text: p.Error, RetryAfter: time.Duration(max(seconds, 0)) * time.Second}
	switch p.Code {
	case codeBusy:
		refused.Reason = ErrBusy
	case codeNotServing, codeFailed:
		refused.Reason = ErrNotServing
	default:
		return fmt.Errorf("%w: %s answers %s: %s", ErrProtocol, c.addr, res.Status, p.Error)
	}
	return refused
}

func readHeader(h http.Header) (Header, error) {
	if got := h.Get("Content-Type"); got != contentType {
		return Header{}, fmt.Errorf("the body is %q, not a clone", got)
	}
	if got := h.Get(headerEncoding); got != encodingNone {
		return Header{}, fmt.Errorf("the stream's encoding %q is unknown", got)
	}
	estimate, err := strconv.ParseInt(h.Get(headerEstimate), 10, 64)
	if err != nil || estimate < 0 {
		return Header{}, fmt.Errorf("the estimated size %q is no number", h.Get(headerEstimate))
	}
	v := Header{
		StreamID:       h.Get(headerStream),
		Engine:         h.Get(headerEngine),
		ServerVersion:  h.Get(headerServerVersion),
		ToolVersion:    h.Get(headerToolVersion),
		Role:           Role(h.Get(headerRole)),
		Origin:         origin.Mode(h.Get(headerOrigin)),
		EstimatedBytes: estimate,
	}
	if v.StreamID == "" || v.Engine == "" || v.ServerVersion == "" || v.Role != Primary && v.Role != Replica {
		return Header{}, errors.New("the headers do not describe a clone")
	}
	return v, nil
}

// Read gives the raw xbstream. A connection that breaks is ErrIncomplete.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.res.Body.Read(p)
	if n > 0 {
		_, _ = s.digest.Write(p[:n]) // never fails, see hash.Hash
		s.bytes += int64(n)
	}
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
	case err != nil:
		err = fmt.Errorf("%w: after %d bytes of %s: %w", ErrIncomplete, s.bytes, s.addr, err)
	}
	return n, err
}

// Bytes is how many bytes have arrived.
func (s *Stream) Bytes() int64 { return s.bytes }

// Finish reads what is left and checks the trailers: only when it returns no error
// did the whole stream arrive.
func (s *Stream) Finish() (Result, error) {
	if !s.ended {
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{s}); err != nil {
			return Result{}, err
		}
	}
	t := s.res.Trailer
	if status := t.Get(trailerStatus); status != "0" {
		if status == "" {
			return Result{}, fmt.Errorf("%w: %s sent no trailers", ErrIncomplete, s.addr)
		}
		return Result{}, fmt.Errorf("%w: the backup at %s failed: %s", ErrIncomplete, s.addr, t.Get(trailerError))
	}
	if got := strconv.FormatInt(s.bytes, 10); got != t.Get(trailerBytes) {
		return Result{}, fmt.Errorf("%w: %s bytes arrived, %s says it sent %s", ErrIncomplete, got, s.addr, t.Get(trailerBytes))
	}
	r := Result{Bytes: s.bytes, Digest: digestString(s.digest)}
	if r.Digest != t.Get(trailerDigest) {
		return Result{}, fmt.Errorf("%w: digest %s, %s says %s", ErrDigest, r.Digest, s.addr, t.Get(trailerDigest))
	}
	return r, nil
}

// Close ends the stream. The donor stops its backup when it was not whole yet.
func (s *Stream) Close() error { return s.res.Body.Close() }
