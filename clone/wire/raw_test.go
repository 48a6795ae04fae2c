package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"understudy/clone/trust"
)

// rawStream begins as every xbstream does.
var rawStream = append([]byte("XBSTCK01\x00P\x07\x00\x00\x00ibdata1"), noise(300<<10)...)

func dialRaw(t *testing.T, addr string, stall time.Duration) (*Stream, error) {
	t.Helper()
	s, err := DialRaw(t.Context(), RawConfig{Addr: addr, Role: Replica, Stall: stall})
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// hangUp resets the connection once the peer has said something.
func hangUp(c net.Conn) {
	_, _ = c.Read(make([]byte, 1))
	_ = c.(*net.TCPConn).SetLinger(0)
}

func TestDialRaw(t *testing.T) {
	s, err := dialRaw(t, talk(t, func(c net.Conn) { _, _ = c.Write(rawStream) }), soon)
	if err != nil {
		t.Fatal(err)
	}
	if h := s.Header; !h.Raw || h.Role != Replica {
		t.Errorf("header %+v", h)
	}
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, rawStream) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r, err := s.Finish(); err != nil || r.Bytes != int64(len(rawStream)) || !strings.HasPrefix(r.Digest, "xxh64:") {
		t.Errorf("%+v, %v", r, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestDialRawBroken(t *testing.T) {
	say := func(b []byte, end func(net.Conn)) string {
		return talk(t, func(c net.Conn) { _, _ = c.Write(b); end(c) })
	}
	closes := func(net.Conn) {}
	hangs := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	id := identity(t, 'a')
	tests := []struct {
		name, addr string
		want       error
		text       string
	}{
		{"busy", say(nil, closes), ErrBusy, "closed without a byte"},
		{"silent", say(nil, hangs), ErrStalled, "no byte came for 500ms"},
		{"silent in the magic", say(rawStream[:5], hangs), ErrStalled, "no byte came for 500ms"},
		{"cut in the magic", say(rawStream[:5], closes), ErrIncomplete, "after 5 bytes"},
		{"an alert", say([]byte("\x15\x03\x03\x00\x02\x02\x28"), closes), ErrProtocol, "it speaks TLS"},
		{"a web server", say([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), closes), ErrProtocol, "it speaks HTTP"},
		{"a server of MariaDB", say([]byte("Y\x00\x00\x00\x0a5.5.5-10.11.19-MariaDB and much more of it"), closes), ErrProtocol, `"Y\x00\x00\x00\n5.5.5-10`},
		{"almost", say([]byte("XBSTCK02"), closes), ErrProtocol, `"XBSTCK02"`},
		{"stalls in the middle", say(rawStream[:1000], hangs), ErrStalled, "incomplete stream: after 1000 bytes of"},
		{"ours, without raw", start(t, newTapes(t, whole([]byte("x"))).donor(), ServerConfig{}, id.Server()).addr, ErrStalled, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stall := soon
			if errors.Is(tt.want, ErrStalled) { // the others speak, if late
				stall = 500 * time.Millisecond
			}
			s, err := dialRaw(t, tt.addr, stall)
			if err == nil {
				_, err = s.Finish()
			}
			if err == nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Count(err.Error(), tt.addr) != 1 {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestDialRawReset(t *testing.T) {
	begun := make(chan struct{})
	s, err := dialRaw(t, talk(t, func(c net.Conn) {
		_, _ = c.Write(rawStream)
		<-begun
		_ = c.(*net.TCPConn).SetLinger(0)
	}), soon)
	close(begun)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Finish(); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("err = %v", err)
	}
}

// Whoever ends the wait, or the stream, does not have to wait for the donor.
func TestDialRawCancelled(t *testing.T) {
	for name, first := range map[string][]byte{"before the first byte": nil, "in the middle": rawStream} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			talking := make(chan struct{})
			addr := talk(t, func(c net.Conn) {
				_, _ = c.Write(first)
				close(talking)
				_, _ = io.Copy(io.Discard, c)
			})
			ended := inBackground(func() error {
				s, err := DialRaw(ctx, RawConfig{Addr: addr, Stall: soon})
				if err == nil {
					_, err = io.Copy(io.Discard, s) // the end of ctx closes it
				}
				return err
			})
			within(t, "the connection", soon, talking)
			cancel()
			if err := within(t, "the end", soon, ended); err == nil || errors.Is(err, ErrStalled) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// What an old ncat does when it is asked with TLS or HTTP, and what is not its doing.
func TestSpeaksRaw(t *testing.T) {
	id := identity(t, 'a')
	stream := func(c net.Conn) { _, _ = c.Write(rawStream); _, _ = io.Copy(io.Discard, c) }
	l := listen(t)
	nobody := l.Addr().String()
	_ = l.Close()
	ours := start(t, newTapes(t, whole([]byte("x"))).donor(), ServerConfig{}, id.Server()).addr
	tests := []struct {
		name, addr string
		want       bool
	}{
		{"a stream", talk(t, stream), true},
		{"closed at once", talk(t, func(net.Conn) {}), true},
		{"reset at once", talk(t, hangUp), true},
		{"silent", talk(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), true},
		{"nobody", nobody, false},
		{"a web server", talk(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\n\r\n") }), false},
		{"the wrong secret", ours, false},
	}
	for _, tt := range tests {
		for _, tls := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				cfg := ClientConfig{Addr: tt.addr, Member: "db-1", Stall: soon}
				if tt.want { // the others speak, if late
					cfg.Stall = 100 * time.Millisecond
				}
				if tls {
					cfg.TLS = identity(t, 'b').Client()
				}
				c := NewClient(cfg)
				defer c.Close()
				_, err := c.Clone(t.Context())
				if err == nil || SpeaksRaw(err) != tt.want {
					t.Errorf("err = %v", err)
				}
				if _, err := c.Member(t.Context()); err == nil || SpeaksRaw(err) != tt.want {
					t.Errorf("member: %v", err)
				}
			})
		}
	}
}

// ncats plays a tutorial's donor with one slot: the try with V1 makes it busy, and it
// needs a moment to notice that nobody wants that backup.
func ncats(t *testing.T) (addr string, asked func() int) {
	t.Helper()
	turns := make(chan int, 1)
	turns <- 0
	addr = talk(t, func(c net.Conn) {
		n := <-turns
		turns <- n + 1
		switch n {
		case 0: // what V1 gets
			_, _ = c.Write(rawStream)
			_, _ = io.Copy(io.Discard, c)
		case 1, 2: // busy
		default:
			_, _ = c.Write(rawStream)
		}
	})
	return addr, func() int {
		n := <-turns
		turns <- n
		return n
	}
}

func TestAuto(t *testing.T) {
	id := identity(t, 'a')
	addr, asked := ncats(t)
	c := NewClient(ClientConfig{Addr: addr, TLS: id.Client(), Member: "db-1", Stall: soon, Protocol: Auto, Role: Primary})
	defer c.Close()
	for range 2 { // the second time it is known
		got, _, err := take(t, c)
		if err != nil || !bytes.Equal(got, rawStream) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	if n := asked(); n != 5 {
		t.Errorf("it was asked %d times", n)
	}
	if _, err := c.Member(t.Context()); !errors.Is(err, ErrRaw) || asked() != 5 {
		t.Errorf("Member: %v, asked %d times", err, asked())
	}
}

// What Member finds out is not found out again, which would cost the donor a backup.
func TestAutoMember(t *testing.T) {
	addr, asked := ncats(t)
	c := NewClient(ClientConfig{Addr: addr, TLS: identity(t, 'a').Client(), Member: "db-1", Stall: soon, Protocol: Auto})
	defer c.Close()
	if _, err := c.Member(t.Context()); !errors.Is(err, ErrRaw) {
		t.Fatal(err)
	}
	if _, err := c.Clone(t.Context()); !errors.Is(err, ErrBusy) || asked() != 2 {
		t.Errorf("asked %d times: %v", asked(), err)
	}
}

// A member that speaks the protocol is never asked for a raw stream, whatever it answers.
func TestAutoStays(t *testing.T) {
	r := start(t, newTapes(t, whole([]byte("x"))).donor(), ServerConfig{}, identity(t, 'a').Server())
	for name, tt := range map[string]struct {
		secret byte
		want   error
	}{"trusted": {'a', nil}, "not trusted": {'b', trust.ErrUntrusted}} {
		t.Run(name, func(t *testing.T) {
			c := NewClient(ClientConfig{Addr: r.addr, TLS: identity(t, tt.secret).Client(), Member: "db-1", Stall: soon, Protocol: Auto})
			defer c.Close()
			s, err := c.Clone(t.Context())
			if !errors.Is(err, tt.want) || c.isRaw() {
				t.Fatalf("err = %v", err)
			}
			if err == nil {
				if s.Header.Raw {
					t.Error("a raw stream")
				}
				_, err = s.Finish()
				_ = s.Close()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A donor that does not even take connections may come back as a new one.
func TestAutoForgets(t *testing.T) {
	addr, _ := ncats(t)
	c := NewClient(ClientConfig{Addr: addr, TLS: identity(t, 'a').Client(), Member: "db-1", Stall: soon, Protocol: Auto})
	defer c.Close()
	if _, _, err := take(t, c); err != nil || !c.isRaw() {
		t.Fatal(err)
	}
	l := listen(t)
	c.config.Addr = l.Addr().String()
	_ = l.Close()
	if _, err := c.Clone(t.Context()); err == nil || c.isRaw() {
		t.Errorf("err = %v", err)
	}
}
