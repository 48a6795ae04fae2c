package wire

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// rawSilence is how long a connection must be silent to count as a client of the Kubernetes
	// tutorial, which never sends a byte.
	rawSilence = 5 * time.Second
	// sniffPlaces bounds the connections whose first byte is awaited.
	sniffPlaces = 64
	// lookupTime bounds the lookup of the members' addresses.
	lookupTime = 3 * time.Second
)

// RawPolicy says which silent clients get a raw stream.
type RawPolicy struct {
	// Allowed says whether an address belongs to a member of this set.
	Allowed func(context.Context, netip.Addr) bool
	// Silence is how long a client must be silent; 0: 5 seconds.
	Silence time.Duration
	// Serve sends a raw stream over a connection, and closes it.
	Serve func(net.Conn)
	Log   *slog.Logger
}

// Hosts allows the addresses of the named hosts. It resolves them for each client, because pods
// come and go.
func Hosts(names []string) func(context.Context, netip.Addr) bool {
	return func(ctx context.Context, client netip.Addr) bool {
		for _, name := range names {
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
			if err != nil {
				continue // a member that does not exist, or does not run
			}
			for _, a := range addrs {
				if a.Unmap().WithZone("") == client {
					return true
				}
			}
		}
		return false
	}
}

// SniffRaw waits for the first byte of each connection of l. The listener that it returns accepts
// those that send one. Silent ones get a raw stream if the policy allows it, and are reset
// otherwise. No client delays another.
//
// Closing the listener closes l and the connections that have not sent a byte.
func SniffRaw(l net.Listener, p RawPolicy) net.Listener {
	if p.Silence == 0 {
		p.Silence = rawSilence
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &sniffer{
		Listener: l, RawPolicy: p, cancel: cancel, closed: ctx.Done(),
		talking: make(chan net.Conn), failed: make(chan error), places: make(chan struct{}, sniffPlaces),
	}
	s.running.Go(func() { s.run(ctx) })
	return s
}

type sniffer struct {
	net.Listener
	RawPolicy
	cancel  context.CancelFunc
	closed  <-chan struct{}
	talking chan net.Conn
	failed  chan error // what l's Accept returns
	places  chan struct{}
	running sync.WaitGroup
}

// Accept returns the next connection that has sent a byte.
func (s *sniffer) Accept() (net.Conn, error) {
	select {
	case c := <-s.talking:
		return c, nil
	case err := <-s.failed:
		return nil, err
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the waiting for first bytes. Raw streams go on.
func (s *sniffer) Close() error {
	s.cancel()
	err := s.Listener.Close()
	s.running.Wait()
	return err
}

func (s *sniffer) run(ctx context.Context) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			select {
			case s.failed <- err: // net/http decides which ones are temporary
				continue
			case <-s.closed:
				return
			}
		}
		select {
		case s.places <- struct{}{}:
			s.running.Go(func() {
				s.sniff(ctx, c)
				<-s.places
			})
		default: // HTTP has its own timeout
			s.hand(c)
		}
	}
}

// hand passes a connection to Accept.
func (s *sniffer) hand(c net.Conn) {
	select {
	case s.talking <- c:
	case <-s.closed:
		_ = c.Close()
	}
}

// sniff waits for the first byte.
func (s *sniffer) sniff(ctx context.Context, c net.Conn) {
	first := make([]byte, 1)
	err := c.SetReadDeadline(time.Now().Add(s.Silence))
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	if err == nil {
		_, err = c.Read(first)
	}
	if !stop() { // closed
		_ = c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{}) // the deadline was for the first byte only
	switch {
	case err == nil:
		s.hand(&sniffed{Conn: c, first: first})
	case !errors.Is(err, os.ErrDeadlineExceeded): // it has left
		_ = c.Close()
	case s.member(ctx, c):
		go s.Serve(c) // it outlives the listener
	default:
		s.Log.Info("silent client cut off: it is no member of this set", "remote", c.RemoteAddr().String())
		reset(c)
	}
}

func (s *sniffer) member(ctx context.Context, c net.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	return err == nil && s.Allowed(ctx, remote.Addr().Unmap().WithZone(""))
}

// sniffed is a connection whose first byte has been read.
type sniffed struct {
	net.Conn
	first []byte
}

// NetConn is the connection below.
func (c *sniffed) NetConn() net.Conn { return c.Conn }

func (c *sniffed) Read(p []byte) (int, error) {
	if len(c.first) == 0 || len(p) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = c.first[n:]
	return n, nil
}

// reset closes a connection in a way that its peer cannot take for the end of a stream.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}
