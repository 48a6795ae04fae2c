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
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

func members(context.Context, netip.Addr) bool { return true }

func strangers(context.Context, netip.Addr) bool { return false }

// startRaw is start for a server that gives raw streams after a short silence.
func startRaw(t *testing.T, d Donor, c ServerConfig, allowed func(context.Context, netip.Addr) bool, tlsConfig *tls.Config) *running {
	t.Helper()
	return startSniffing(t, 20*time.Millisecond, d, c, allowed, tlsConfig)
}

// spoken is a silence before which those that speak have spoken, on a slow machine, too.
const spoken = time.Second

// startSniffing is startRaw for another silence.
func startSniffing(t *testing.T, silence time.Duration, d Donor, c ServerConfig, allowed func(context.Context, netip.Addr) bool, tlsConfig *tls.Config) *running {
	t.Helper()
	s := newServer(d, c)
	l := SniffRaw(listen(t), RawPolicy{
		Allowed: allowed, Silence: silence, Serve: s.ServeRaw, Log: slog.New(slog.DiscardHandler),
	})
	return startOn(t, l, s, tlsConfig)
}

// connect says nothing.
func connect(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// wantReset fails unless the connection is reset, and returns what came before.
func wantReset(t *testing.T, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes, %v; want a reset", len(b), err)
	}
	return b
}

func TestServeRaw(t *testing.T) {
	ts := newTapes(t, whole(rawStream))
	outcomes := make(chan Outcome, 1)
	id := identity(t, 'a')
	r := startSniffing(t, spoken, ts.donor(), ServerConfig{Observe: func(o Outcome) { outcomes <- o }}, members, id.Server())
	c := connect(t, r.addr)
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, rawStream) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_ = c.Close()
	if o := within(t, "outcome", soon, outcomes); o.Err != nil || o.Bytes != int64(len(rawStream)) || o.Member == "" {
		t.Errorf("outcome %+v", o)
	}
	// Those that speak notice nothing, and the other way round: this one takes no slot of theirs.
	if got, _, err := take(t, client(t, r.addr, "db-1", id.Client())); err != nil || !bytes.Equal(got, rawStream) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Our own joiner takes it too.
func TestServeRawToDialRaw(t *testing.T) {
	r := startRaw(t, newTapes(t, whole(rawStream)).donor(), ServerConfig{}, members, nil)
	s, err := dialRaw(t, r.addr, soon)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := s.Finish(); err != nil || res.Bytes != int64(len(rawStream)) {
		t.Error(res, err)
	}
}

// A client that closes its own direction, or says something later, still gets all.
func TestServeRawToOddClients(t *testing.T) {
	for name, odd := range map[string]func(*net.TCPConn) error{
		"half closed": (*net.TCPConn).CloseWrite,
		"talking":     func(c *net.TCPConn) error { _, err := c.Write(make([]byte, 10<<10)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			goOn := make(chan struct{})
			r := startRaw(t, newTapes(t, func(context.Context, int) (io.Reader, func() error) {
				wait := readerFunc(func([]byte) (int, error) { <-goOn; return 0, io.EOF })
				return io.MultiReader(bytes.NewReader(rawStream[:1000]), wait, bytes.NewReader(rawStream[1000:])), wholly
			}).donor(), ServerConfig{}, members, nil)
			c := connect(t, r.addr)
			if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if err := odd(c); err != nil {
				t.Fatal(err)
			}
			close(goOn)
			if got, err := io.ReadAll(c); err != nil || len(got) != len(rawStream)-1000 {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// A client of the tutorial sees nothing but the end, so whatever goes wrong has to be a reset.
func TestServeRawFails(t *testing.T) {
	broken := errors.New("the disk is on fire")
	fails := func(b []byte) func(context.Context, int) (io.Reader, func() error) {
		return func(context.Context, int) (io.Reader, func() error) {
			return bytes.NewReader(b), func() error { return broken }
		}
	}
	cut := func(context.Context, int) (io.Reader, func() error) {
		r := io.MultiReader(bytes.NewReader(rawStream), readerFunc(func([]byte) (int, error) { return 0, broken }))
		return r, wholly
	}
	for name, play := range map[string]func(context.Context, int) (io.Reader, func() error){
		"at the end": fails(rawStream), "at once": fails(nil), "without a byte": whole(nil), "in the middle": cut,
	} {
		t.Run(name, func(t *testing.T) {
			r := startRaw(t, newTapes(t, play).donor(), ServerConfig{}, members, nil)
			wantReset(t, connect(t, r.addr))
		})
	}
	t.Run("no backup", func(t *testing.T) {
		d := &donor{backup: func(context.Context, string) (Backup, error) { return Backup{}, ErrNotServing }}
		r := startRaw(t, d, ServerConfig{}, members, nil)
		if b := wantReset(t, connect(t, r.addr)); len(b) > 0 {
			t.Errorf("%q came", b)
		}
	})
}

// The raw slot is one, and none of the others'.
func TestServeRawBusy(t *testing.T) {
	ts := newTapes(t, stuck(rawStream))
	r := startSniffing(t, spoken, ts.donor(), ServerConfig{}, members, nil)
	first := connect(t, r.addr)
	if _, err := io.ReadFull(first, make([]byte, len(rawStream))); err != nil {
		t.Fatal(err)
	}
	if b := wantReset(t, connect(t, r.addr)); len(b) > 0 {
		t.Errorf("%d bytes came", len(b))
	}
	open(t, client(t, r.addr, "db-1", nil))
	if n := r.Busy(); n != 1 {
		t.Errorf("%d slots are taken", n)
	}
	// Once it has left, the slot is free.
	raw := within(t, "backup", soon, ts.more)
	if err := errors.Join(first.SetLinger(0), first.Close()); err != nil {
		t.Fatal(err)
	}
	within(t, "the backup's end", soon/2, raw.gone)
	for begun := time.Now(); ; {
		n, err := connect(t, r.addr).Read(make([]byte, 1))
		if n == 1 {
			break
		}
		if time.Since(begun) > soon {
			t.Fatal(err)
		}
	}
}

func TestServeRawStall(t *testing.T) {
	outcomes := make(chan Outcome, 1)
	r := startRaw(t, newTapes(t, endless).donor(), ServerConfig{
		Stall: 100 * time.Millisecond, Observe: func(o Outcome) { outcomes <- o },
	}, members, nil)
	c := connect(t, r.addr) // takes nothing
	if o := within(t, "outcome", soon, outcomes); o.Err == nil || !strings.Contains(o.Err.Error(), "took no byte for 100ms") {
		t.Errorf("outcome %+v", o)
	}
	wantReset(t, c)
}

func TestServeRawDrain(t *testing.T) {
	for name, play := range map[string]func(context.Context, int) (io.Reader, func() error){
		"a silent tool": stuck(rawStream), "a client that takes nothing": endless,
	} {
		t.Run(name, func(t *testing.T) {
			ts := newTapes(t, play)
			r := startRaw(t, ts.donor(), ServerConfig{}, members, nil)
			c := connect(t, r.addr)
			within(t, "backup", soon, ts.more)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			within(t, "the drain", soon/2, inBackground(func() bool { r.Drain(ctx); return true }))
			wantReset(t, c)
			if b := wantReset(t, connect(t, r.addr)); len(b) > 0 {
				t.Errorf("%d bytes came after the drain", len(b))
			}
		})
	}
}

// Without permission a silent client gets nothing, and starts nothing.
func TestRawProbe(t *testing.T) {
	impatient := func(d Donor, config *tls.Config) *running {
		return startOn(t, listen(t), newServer(d, ServerConfig{}), config, func(s *http.Server) { s.ReadHeaderTimeout = 50 * time.Millisecond })
	}
	for name, begin := range map[string]func(d Donor) *running{
		"no member":         func(d Donor) *running { return startRaw(t, d, ServerConfig{}, strangers, nil) },
		"not allowed, TLS":  func(d Donor) *running { return impatient(d, identity(t, 'a').Server()) },
		"not allowed, HTTP": func(d Donor) *running { return impatient(d, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			ts := newTapes(t, whole(rawStream))
			c := connect(t, begin(ts.donor()).addr)
			if b, _ := io.ReadAll(c); len(b) > 0 { // however it is closed
				t.Errorf("%q came", b)
			}
			if n := len(ts.more); n > 0 {
				t.Errorf("%d backups were made", n)
			}
		})
	}
}
