package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy/clone/trust"
	"understudy/replicate/origin"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soon is far more than anything here takes, and less than a person waits for.
const soon = 10 * time.Second

// testHeader is what the donors of these tests announce.
var testHeader = Header{
	Engine: "mariadb-backup", ServerVersion: "10.11.19-MariaDB-log", ToolVersion: "mariadb 10.11.19",
	Role: Replica, Origin: origin.GTID, EstimatedBytes: 1 << 20, NeededBytes: 2 << 20, Encoding: None, Connections: 1,
}

// donor is a Donor made of functions.
type donor struct {
	member func() Member
	backup func(ctx context.Context, id string) (Backup, error)
}

func (d *donor) Member(context.Context) Member { return d.member() }

func (d *donor) Backup(ctx context.Context, ask Ask) (Backup, error) {
	return d.backup(ctx, ask.StreamID)
}

// tape is one backup. It ends early when its context does, as a killed tool's output does.
type tape struct {
	id       string
	gone     <-chan struct{} // closed when the backup's context ends
	finished atomic.Int32
}

// tapes hands out backups and remembers them: one for each call of play.
type tapes struct {
	// play makes the stream of the nth backup and what its Finish says. The stream
	// should end when ctx does.
	play func(ctx context.Context, n int) (io.Reader, func() error)

	mu   sync.Mutex
	made []*tape
	more chan *tape // each backup as it is made
}

// newTapes fails the test when a backup was not finished exactly once.
func newTapes(tb testing.TB, play func(ctx context.Context, n int) (io.Reader, func() error)) *tapes {
	tb.Helper()
	ts := &tapes{play: play, more: make(chan *tape, 100)}
	tb.Cleanup(func() { // runs after the server has ended, which is started later
		for _, tape := range ts.made {
			if n := tape.finished.Load(); n != 1 {
				tb.Errorf("Finish of backup %s was called %d times", tape.id, n)
			}
		}
	})
	return ts
}

func (ts *tapes) donor() *donor {
	return &donor{member: func() Member { return Member{} }, backup: ts.backup}
}

func (ts *tapes) backup(ctx context.Context, id string) (Backup, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	tape := &tape{id: id, gone: ctx.Done()}
	r, finish := ts.play(ctx, len(ts.made))
	ts.made = append(ts.made, tape)
	ts.more <- tape
	return Backup{Header: testHeader, Stream: r, Finish: func() error {
		tape.finished.Add(1)
		return finish()
	}}, nil
}

func wholly() error { return nil }

// whole plays b in every backup.
func whole(b []byte) func(context.Context, int) (io.Reader, func() error) {
	return func(context.Context, int) (io.Reader, func() error) { return bytes.NewReader(b), wholly }
}

// endless plays zeros until ctx ends, and then fails as a tool that was stopped.
func endless(ctx context.Context, _ int) (io.Reader, func() error) {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, io.EOF
		}
		clear(p)
		return len(p), nil
	}), func() error { return context.Cause(ctx) }
}

// stuck plays b and then nothing, until ctx ends.
func stuck(b []byte) func(context.Context, int) (io.Reader, func() error) {
	return func(ctx context.Context, _ int) (io.Reader, func() error) {
		wait := readerFunc(func([]byte) (int, error) {
			<-ctx.Done()
			return 0, io.EOF
		})
		return io.MultiReader(bytes.NewReader(b), wait), func() error { return context.Cause(ctx) }
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func identity(tb testing.TB, secrets ...byte) *trust.Identity {
	tb.Helper()
	var long [][]byte
	for _, c := range secrets {
		long = append(long, bytes.Repeat([]byte{c}, trust.MinSecret))
	}
	id, err := trust.FromSecrets("prod", "db", long...)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// running is a server under test.
type running struct {
	*Server
	http *http.Server
	addr string
}

// start serves d on loopback until the test ends. tlsConfig may be nil.
func start(tb testing.TB, d Donor, c ServerConfig, tlsConfig *tls.Config) *running {
	tb.Helper()
	return startOn(tb, listen(tb), newServer(d, c), tlsConfig)
}

// newServer makes a server with settings that tests can wait for.
func newServer(d Donor, c ServerConfig) *Server {
	c.Log = slog.New(slog.DiscardHandler)
	if c.Slots == 0 {
		c.Slots = 1
	}
	if c.Stall == 0 {
		c.Stall = soon
	}
	if c.Grace == 0 {
		c.Grace = 200 * time.Millisecond
	}
	return NewServer(d, c)
}

// startOn is start for a listener and settings of the test's own.
func startOn(tb testing.TB, l net.Listener, s *Server, tlsConfig *tls.Config, change ...func(*http.Server)) *running {
	tb.Helper()
	r := &running{Server: s, http: s.HTTP(tlsConfig), addr: l.Addr().String()}
	for _, f := range change {
		f(r.http)
	}
	ended := make(chan error, 1)
	go func() {
		if tlsConfig != nil {
			ended <- r.http.ServeTLS(Gather(l), "", "")
		} else {
			ended <- r.http.Serve(l)
		}
	}()
	tb.Cleanup(func() {
		if err := r.http.Close(); err != nil {
			tb.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			tb.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), soon)
		defer cancel()
		s.Drain(ctx)
	})
	return r
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// client asks addr in the name of member. tlsConfig may be nil.
func client(t *testing.T, addr, member string, tlsConfig *tls.Config) *Client {
	t.Helper()
	c := NewClient(ClientConfig{Addr: addr, TLS: tlsConfig, Member: member, Stall: soon, Grace: soon})
	t.Cleanup(c.Close)
	return c
}

// open asks for a clone, which has to come.
func open(t *testing.T, c *Client) *Stream {
	t.Helper()
	s, err := c.Clone(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// take reads a clone to its end and checks it.
func take(t *testing.T, c *Client) ([]byte, Result, error) {
	t.Helper()
	s := open(t, c)
	b, err := io.ReadAll(s)
	if err != nil {
		return b, Result{}, err
	}
	r, err := s.Finish()
	return b, r, err
}

// within fails the test unless c is closed, or delivers, soon.
func within[T any](t *testing.T, what string, limit time.Duration, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("%s: not within %v", what, limit)
		panic("unreachable")
	}
}

// inBackground runs f, and delivers what it returns.
func inBackground[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}
