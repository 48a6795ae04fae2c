package wire

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"understudy/clone/trust"
	"understudy/replicate/origin"
)

// Client asks one donor. Make one with NewClient.
type Client struct {
	config ClientConfig
	scheme string
	http   *http.Client
	// reports keeps its connection: there may be many reports a second.
	reports *http.Client
	raw     atomic.Bool // the donor speaks only Raw
}

// ClientConfig are the settings of a Client.
type ClientConfig struct {
	// Addr is the donor's host:port.
	Addr string
	// Dial, when set, turns Addr into the host:port that is dialled, such as an absolute name that
	// no search list changes. Certificates are still compared with Addr.
	Dial func(addr string) string
	// Expect is the name with which the member must answer; empty: any. A recycled address may
	// belong to another member, which must not be counted twice. A member that tells no name
	// passes.
	Expect string
	// TLS is nil only when the operator asked for an open connection.
	TLS *tls.Config
	// Member is the name of the joiner: letters, digits, dots and dashes.
	Member string
	// Stall is the time without a byte received and without progress of the backup after which the
	// stream is given up.
	Stall time.Duration
	// Grace is how long the client tries to restore a broken connection.
	Grace time.Duration
	// Connections is over how many connections the stream is asked for, at most MaxConnections; 0: 1.
	// The donor may grant fewer; donors of earlier versions know only one.
	Connections int
	// Encoding is the preferred encoding of the stream; the donor decides.
	Encoding Encoding
	// Engines are the engines whose own kind of stream the joiner understands; tools cannot unpack
	// those.
	Engines []string
	// Protocol is how the donor is asked; empty: V1.
	Protocol Protocol
	// Role is the role that a raw donor is assumed to have, see RawConfig.
	Role Role
	Log  *slog.Logger
}

const (
	// connectTimeout bounds the connection and the handshake, not the transfer.
	connectTimeout = 10 * time.Second
	// answerTimeout bounds answers that a donor gives without work.
	answerTimeout = 10 * time.Second
	// connBuffer buffers headers and chunk sizes of HTTP. Reads of at least this size bypass it;
	// smaller ones cost another copy. It is the size of a TLS record.
	connBuffer = 16 << 10
)

// NewClient makes a Client. Close it.
func NewClient(c ClientConfig) *Client {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Encoding == "" {
		c.Encoding = None
	}
	// The window is negotiated with the connection, so the bound comes first.
	dialer := &net.Dialer{Timeout: connectTimeout, Control: boundReceive}
	transport := &http.Transport{
		Proxy:               nil, // members reach one another directly
		DisableCompression:  true,
		DisableKeepAlives:   true,
		TLSClientConfig:     trust.ForAddr(c.TLS, c.Addr),
		TLSHandshakeTimeout: connectTimeout,
		ReadBufferSize:      connBuffer,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if c.Dial != nil {
				addr = c.Dial(addr)
			}
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			patient := newPatientConn(ctx, conn, c.Stall)
			if c.TLS != nil && patient.watch != nil { // one that carries a stream
				patient.ahead = make([]byte, readSize)
			}
			return patient, nil
		},
	}
	scheme := "https"
	if c.TLS == nil {
		scheme = "http"
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	kept := transport.Clone()
	kept.DisableKeepAlives, kept.MaxIdleConns = false, 1
	return &Client{
		config: c, scheme: scheme,
		http:    &http.Client{Transport: transport, CheckRedirect: noRedirect},
		reports: &http.Client{Transport: kept, CheckRedirect: noRedirect},
	}
}

// Close closes idle connections.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.reports.CloseIdleConnections()
}

// Addr is the donor's host:port.
func (c *Client) Addr() string { return c.config.Addr }

// Member asks a member for facts about itself. It returns ErrRaw for a raw donor, without asking
// it, and ErrOther when a member answers whose name is not Expect.
func (c *Client) Member(ctx context.Context) (Member, error) {
	if c.isRaw() {
		return Member{}, c.asked(ErrRaw)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	res, err := c.do(ctx, http.MethodGet, pathMember, nil)
	if err != nil {
		if c.config.Protocol == Auto && errors.Is(err, ErrRaw) {
			c.turnRaw(err)
		}
		return Member{}, c.asked(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return Member{}, c.asked(c.problem(res))
	}
	var m Member
	if err := json.NewDecoder(io.LimitReader(res.Body, maxMember)).Decode(&m); err != nil {
		return Member{}, c.asked(fmt.Errorf("%w: read the answer: %w", ErrProtocol, err))
	}
	if c.config.Expect != "" && m.Name != "" && m.Name != c.config.Expect {
		return Member{}, c.asked(fmt.Errorf("%w: %q answers, not %s", ErrOther, m.Name, c.config.Expect))
	}
	return m, nil
}

// Clone asks for a clone. The errors ErrBusy, ErrNotServing and ErrUnable come as a *RefusedError.
func (c *Client) Clone(ctx context.Context) (*Stream, error) {
	if c.isRaw() {
		return c.cloneRaw(ctx)
	}
	s, err := c.cloneV1(ctx)
	if c.config.Protocol == Auto && SpeaksRaw(err) && ctx.Err() == nil {
		return c.fallBack(ctx, err)
	}
	return s, err
}

func (c *Client) cloneV1(ctx context.Context) (*Stream, error) {
	ctx, end := context.WithCancel(ctx)
	asking, cut := context.WithCancelCause(ctx)
	cancel := func() {
		cut(nil)
		end()
	}
	w := &watch{}
	w.begin(func() error { return c.begins(ctx, w) })
	header := http.Header{
		headerAccept: {string(c.config.Encoding) + "," + string(None)}, headerWindow: {strconv.FormatInt(receiveBuffer(), 10)},
		headerEngines: {strings.Join(c.config.Engines, ",")},
	}
	if c.config.Connections > 1 {
		header.Set(headerConnections, strconv.Itoa(c.config.Connections))
	}
	res, err := c.open(withWatch(asking, w), pathClone, header)
	if err != nil {
		cancel()
		return nil, c.asked(err)
	}
	h, err := readHeader(res.Header, c.config.Connections)
	if err != nil {
		err = c.asked(fmt.Errorf("%w: %w", ErrProtocol, errors.Join(err, res.Body.Close())))
		cancel()
		return nil, err
	}
	s := &Stream{Header: h, client: c, cancel: cancel, digest: newDigest()}
	s.leave = func() { c.end(context.WithoutCancel(ctx), h.StreamID) }
	s.body = &resuming{client: c, id: h.StreamID, encoding: h.Encoding, watch: w, res: res}
	s.body.again = func() (*http.Response, error) { return s.body.resume(ctx) }
	if h.Connections > 1 {
		s.body.watch = &watch{} // that of a single connection, if it comes to that
		m := c.merge(ctx, h, w)
		m.start(res, cut, func() { s.body.resumed.Add(1) })
		s.body.res = &http.Response{Header: res.Header, Body: m, Trailer: m.trailer}
	}
	s.body.watch.begin(func() error { return s.body.check(ctx) })
	s.body.reports = c.startReports(ctx, s.body, res.Header)
	s.raw, s.stop, err = decode(h.Encoding, s.body)
	return s, err
}

// begins asks the donor about a stream that has not begun: a backup may wait for a lock, or for
// another backup, before its first byte.
func (c *Client) begins(ctx context.Context, w *watch) error {
	m, err := c.Member(ctx)
	if err != nil {
		return w.silent(c.config.Stall) // it may be too busy to answer
	}
	for _, g := range m.Giving {
		if g.Joiner == c.config.Member {
			return w.judge(g, g.Sent, c.config.Stall)
		}
	}
	return w.silent(c.config.Stall)
}

// open asks for a stream. Every other answer is an error.
func (c *Client) open(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	res, err := c.do(ctx, http.MethodGet, path, header)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		defer func() { _ = res.Body.Close() }()
		return nil, c.problem(res)
	}
	return res, nil
}

func (c *Client) do(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	return c.doWith(ctx, c.http, exchange{method, path, header, http.NoBody})
}

// exchange is a request to the donor: what is asked, and with what.
type exchange struct {
	method, path string
	header       http.Header
	body         io.Reader
}

func (c *Client) doWith(ctx context.Context, with *http.Client, e exchange) (*http.Response, error) {
	// The zone of an IPv6 address, as in fe80::1%eth0, is escaped in a URL: RFC 6874.
	host := strings.ReplaceAll(c.config.Addr, "%", "%25")
	req, err := http.NewRequestWithContext(ctx, e.method, c.scheme+"://"+host+e.path, e.body)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, e.header)
	req.Header.Set(headerMember, c.config.Member)
	res, err := with.Do(req)
	if err != nil {
		return nil, inOurWords(err)
	}
	return res, nil
}

// asked adds the donor's address to an error.
func (c *Client) asked(err error) error { return fmt.Errorf("ask %s: %w", c.config.Addr, err) }

// end tells the donor that a stream is no longer needed. A donor that does not receive it finds out
// by its timeouts.
func (c *Client) end(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if res, err := c.do(ctx, http.MethodDelete, pathClone+"/"+id, nil); err == nil {
		_ = res.Body.Close()
	}
}

// inOurWords explains why an exchange failed.
func inOurWords(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the address, which the caller adds
	}
	_, record := errors.AsType[tls.RecordHeaderError](err)
	op, network := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, ErrRaw):
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	case record, errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: it does not speak TLS (is it running with --insecure, or an old ncat?): %w", ErrProtocol, err)
	case network && op.Op == "remote error": // crypto/tls's name for an alert
		return fmt.Errorf("%w: it refused ours: %w", trust.ErrUntrusted, op)
	case strings.Contains(err.Error(), "malformed "): // net/http has no type for this error
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// RefusedError is a donor's answer that it gives no clone now.
type RefusedError struct {
	// Reason is ErrBusy, ErrNotServing, ErrUnable, or ErrIncomplete for a stream that has ended.
	Reason error
	// Text is what the donor says.
	Text string
	// RetryAfter is when the donor wants to be asked again; 0: it does not say.
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string {
	if e.RetryAfter == 0 {
		return fmt.Sprintf("%v: %s", e.Reason, e.Text)
	}
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
		return fmt.Errorf("%w: it answers %s%s", ErrProtocol, res.Status, hint)
	}
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	refused := &RefusedError{Text: p.Error, RetryAfter: time.Duration(max(seconds, 0)) * time.Second}
	switch p.Code {
	case codeBusy:
		refused.Reason = ErrBusy
	case codeNotServing, codeFailed:
		if refused.Reason = ErrNotServing; p.Lasting {
			refused.Reason = ErrUnable
		}
	case codeGone:
		refused.Reason = ErrIncomplete
	default:
		return fmt.Errorf("%w: it answers %s: %s", ErrProtocol, res.Status, p.Error)
	}
	return refused
}

// readHeader reads the headers of a stream for which so many connections were asked.
func readHeader(h http.Header, asked int) (Header, error) {
	connections, err := grantedConnections(h.Get(headerConnections), asked)
	if err != nil {
		return Header{}, err
	}
	want := contentType
	if connections > 1 {
		want = contentTypeLane
		if h.Get(headerLane) != "0" {
			return Header{}, fmt.Errorf("it begins with lane %q", h.Get(headerLane))
		}
	}
	if got := h.Get("Content-Type"); got != want {
		return Header{}, fmt.Errorf("the body is %q, not a clone", got)
	}
	encoding := Encoding(h.Get(headerEncoding))
	if encoding != None && encoding != Zstd {
		return Header{}, fmt.Errorf("the stream's encoding %q is unknown", encoding)
	}
	size := func(name string) (int64, error) {
		n, err := strconv.ParseInt(h.Get(name), 10, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%s is %q, which is no number", name, h.Get(name))
		}
		return n, nil
	}
	estimate, err := size(headerEstimate)
	if err != nil {
		return Header{}, err
	}
	var needed int64
	if h.Get(headerNeeded) != "" { // donors of earlier versions do not send it
		if needed, err = size(headerNeeded); err != nil {
			return Header{}, err
		}
	}
	v := Header{
		StreamID:       h.Get(headerStream),
		Engine:         h.Get(headerEngine),
		ServerVersion:  h.Get(headerServerVersion),
		ToolVersion:    h.Get(headerToolVersion),
		Role:           Role(h.Get(headerRole)),
		Origin:         origin.Mode(h.Get(headerOrigin)),
		EstimatedBytes: estimate,
		NeededBytes:    needed,
		Encoding:       encoding,
		Connections:    connections,
	}
	if !streamID.MatchString(v.StreamID) || v.Engine == "" || v.ServerVersion == "" || v.Role != Primary && v.Role != Replica {
		return Header{}, errors.New("the headers do not describe a clone")
	}
	return v, nil
}

// streamID is the form of a stream's name, which becomes part of a path.
var streamID = regexp.MustCompile(`^[0-9A-Za-z-]{8,64}$`)
