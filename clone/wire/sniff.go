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
	// rawSilence is how long a client of the Kubernetes tutorial is listened to before it
	// is taken for one: it says nothing, ever.
	rawSilence = 5 * time.Second
	// sniffPlaces is how many connections may be listened to at the same time.
	sniffPlaces = 64
	// lookupTime bounds the question whether a client is a member.
	lookupTime = 3 * time.Second
)

// RawPolicy says who gets a raw stream without asking for it.
type RawPolicy struct {
	// Allowed says whether the address is one of a member of this set.
	Allowed func(context.Context, netip.Addr) bool
	// Silence is how long a client has to say nothing; 0 means 5 seconds.
	Silence time.Duration
	// Serve gives a raw stream to a connection, which is its own from then on.
	Serve func(net.Conn)
	Log   *slog.Logger
}

// Hosts allows the addresses of the named hosts. They are looked up again for
// each client: pods come and go.
func Hosts(names []string) func(context.Context, netip.Addr) bool {
	return func(ctx context.Context, client netip.Addr) bool {
		for _, name := range names {
			addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
			if err != nil {
				continue // a member that does not exist, or is not there now
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

// SniffRaw listens to the connections of l. Those that begin to speak are accepted from
// the listener that it returns; the silent ones get a raw stream if the policy allows it,
// and are cut off without a byte otherwise. No client can make another one wait.
//
// Closing the listener closes l and the connections that have not spoken yet.
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

// Accept returns the next connection that speaks.
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

// Close returns when nobody is listened to any more. Raw streams go on.
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
			case s.failed <- err: // net/http knows which ones pass
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
		default: // HTTP has a limit for silence too
			s.hand(c)
		}
	}
}

// hand gives a connection to whoever accepts.
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
	_ = c.SetReadDeadline(time.Time{}) // whoever uses the connection would notice
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

// reset closes a connection so that its peer cannot take that for the end of a stream.
func reset(c net.Conn) {
	if l, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		_ = l.SetLinger(0)
	}
	_ = c.Close()
}
