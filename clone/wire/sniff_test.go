package wire

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// sniffing returns a listener under test, and what its silent members were given to.
func sniffing(t *testing.T, silence time.Duration, allowed func(context.Context, netip.Addr) bool) (net.Listener, <-chan net.Conn) {
	t.Helper()
	raw := make(chan net.Conn, 1)
	l := SniffRaw(listen(t), RawPolicy{
		Allowed: allowed, Silence: silence, Serve: func(c net.Conn) { raw <- c }, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { _ = l.Close() })
	return l, raw
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c := within(t, "a connection", soon, inBackground(func() net.Conn { c, _ := l.Accept(); return c }))
	if c == nil {
		t.Fatal("no connection")
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Whoever speaks is passed on with all that he says, past any number of silent ones.
func TestSniffSpeaking(t *testing.T) {
	l, _ := sniffing(t, soon, members)
	for range sniffPlaces - 1 {
		connect(t, l.Addr().String())
	}
	c := connect(t, l.Addr().String())
	if _, err := io.WriteString(c, "GET / and so on"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 15)
	if _, err := io.ReadFull(accept(t, l), got); err != nil || string(got) != "GET / and so on" {
		t.Errorf("%q, %v", got, err)
	}
}

// More silent ones than there are places go to HTTP, which has a limit too.
func TestSniffCrowd(t *testing.T) {
	l, _ := sniffing(t, soon, members)
	for range sniffPlaces + 1 {
		connect(t, l.Addr().String())
	}
	accept(t, l)
}

func TestSniffSilent(t *testing.T) {
	asked := make(chan netip.Addr, 1)
	l, raw := sniffing(t, time.Millisecond, func(_ context.Context, a netip.Addr) bool { asked <- a; return true })
	c := connect(t, l.Addr().String())
	given := within(t, "the silent one", soon, raw)
	if a := <-asked; a != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		t.Errorf("asked about %v", a)
	}
	// The listener closes, the stream goes on, and nobody is in a hurry any more.
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	heard := inBackground(func() byte { b := []byte{0}; _, _ = given.Read(b); return b[0] })
	if _, err := io.WriteString(c, "?"); err != nil || within(t, "the read", soon, heard) != '?' {
		t.Error("the deadline of the silence still holds")
	}
	if _, err := io.WriteString(given, "stream"); err != nil {
		t.Error(err)
	}
	_ = given.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "stream" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSniffClose(t *testing.T) {
	l, _ := sniffing(t, soon, members)
	silent, speaking := connect(t, l.Addr().String()), connect(t, l.Addr().String())
	if _, err := io.WriteString(speaking, "x"); err != nil { // nobody accepts it
		t.Fatal(err)
	}
	accepting := inBackground(func() error {
		for {
			if _, err := l.Accept(); err != nil {
				return err
			}
		}
	})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := within(t, "Accept", soon, accepting); !errors.Is(err, net.ErrClosed) {
		t.Errorf("err = %v", err)
	}
	if n, err := silent.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// flaky fails its first Accept, as one without descriptors does.
type flaky struct {
	net.Listener
	failed bool
}

var errFlaky = errors.New("too many open files")

func (f *flaky) Accept() (net.Conn, error) {
	if !f.failed {
		f.failed = true
		return nil, errFlaky
	}
	return f.Listener.Accept()
}

func TestSniffAcceptFails(t *testing.T) {
	l := SniffRaw(&flaky{Listener: listen(t)}, RawPolicy{Silence: soon})
	t.Cleanup(func() { _ = l.Close() })
	if _, err := l.Accept(); !errors.Is(err, errFlaky) {
		t.Errorf("err = %v", err)
	}
	if _, err := connect(t, l.Addr().String()).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	accept(t, l)
}

func TestHosts(t *testing.T) {
	allowed := Hosts([]string{"nobody.invalid", "127.0.0.2", "localhost"})
	for addr, want := range map[string]bool{"127.0.0.1": true, "127.0.0.2": true, "127.0.0.3": false} {
		if got := allowed(t.Context(), netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}
