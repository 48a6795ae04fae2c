// Package network is the network between a joiner and a donor in tests. It can be slow, and it can
// fail as networks do.
package network

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy forwards connections to a donor.
type Proxy struct {
	// Rate limits each connection's bytes per second to the joiner; 0 means no limit.
	Rate atomic.Int64
	// Passed counts the bytes of all answers that were forwarded to joiners.
	Passed atomic.Int64

	target string
	fault  atomic.Pointer[fault]

	mu       sync.Mutex
	listener net.Listener // nil while the port is closed, see Away
	addr     string
	from     net.IP // the source address for connections to the donor; nil: any
	links    map[*Link]bool
	wg       sync.WaitGroup
	end      context.Context //nolint:containedctx // it tells the proxy's goroutines that the test ends
}

// fault is what Strike sets.
type fault struct {
	at    int64        // bytes of an answer
	times atomic.Int64 // how often it may still be called
	f     func(*Link)
}

// Strike makes the proxy call f on a connection after it has forwarded the first at bytes of an
// answer there; on all connections together, at most times calls are made. The connection forwards
// nothing while f runs.
func (p *Proxy) Strike(at, times int64, f func(*Link)) {
	s := &fault{at: at, f: f}
	s.times.Store(times)
	p.fault.Store(s)
}

// Addr is the address on which the proxy listens.
func (p *Proxy) Addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// Link is one connection through the proxy.
type Link struct {
	p             *Proxy
	joiner, donor *net.TCPConn
	passed        int64
	next          []byte        // the bytes that follow those already forwarded; set before a fault is called
	left          chan struct{} // closed when the joiner has closed its side
}

// Go runs f in a goroutine. The end of the test waits for it.
func (l *Link) Go(f func()) { l.p.wg.Go(f) }

// New listens on addr and forwards connections to target until the test ends.
func New(t *testing.T, addr, target string) *Proxy {
	t.Helper()
	end, cancel := context.WithCancel(context.Background())
	p := &Proxy{target: target, links: map[*Link]bool{}, end: end}
	if err := p.open(addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		p.mu.Lock()
		if p.listener != nil {
			_ = p.listener.Close()
		}
		p.mu.Unlock()
		p.each((*Link).Cut)
		p.wg.Wait()
	})
	return p
}

func (p *Proxy) open(addr string) error {
	l, err := (&net.ListenConfig{}).Listen(p.end, "tcp", addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.listener, p.addr = l, l.Addr().String()
	if p.end.Err() != nil {
		_ = l.Close()
	}
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(c.(*net.TCPConn)) }) //nolint:forcetypeassert // a TCP listener has no others
		}
	})
	return nil
}

func (p *Proxy) each(f func(*Link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
}

func (p *Proxy) pass(joiner *net.TCPConn) {
	defer func() { _ = joiner.Close() }()
	p.mu.Lock()
	dialer := net.Dialer{Timeout: 5 * time.Second}
	if p.from != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: p.from}
	}
	p.mu.Unlock()
	c, err := dialer.DialContext(p.end, "tcp", p.target)
	if err != nil {
		return
	}
	l := &Link{p: p, joiner: joiner, donor: c.(*net.TCPConn), left: make(chan struct{})} //nolint:forcetypeassert // as above
	p.mu.Lock()
	p.links[l] = true
	if p.end.Err() != nil {
		l.Cut()
	}
	p.mu.Unlock()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(l.donor, l.joiner)
		close(l.left)
		_ = l.donor.Close()
	})
	l.down()
	l.Cut()
	up.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// down forwards the donor's answer, and calls the fault in its place.
func (l *Link) down() {
	buf := make([]byte, 128<<10)
	for {
		n, err := l.donor.Read(buf)
		piece := buf[:n]
		if s := l.p.fault.Load(); s != nil && s.at >= l.passed && int64(n) > s.at-l.passed && s.times.Add(-1) >= 0 {
			before := s.at - l.passed
			if _, err := l.joiner.Write(piece[:before]); err != nil {
				return
			}
			l.passed += before
			piece = piece[before:]
			l.next = piece
			s.f(l)
		}
		if _, err := l.joiner.Write(piece); err != nil {
			return
		}
		l.passed += int64(len(piece))
		l.p.Passed.Add(int64(n))
		if err != nil {
			return
		}
		if rate := l.p.Rate.Load(); rate > 0 {
			l.Wait(time.Duration(int64(n) * int64(time.Second) / rate))
		}
	}
}

// Wait returns after d, or earlier when the joiner closes the connection or the test ends.
func (l *Link) Wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.left:
	case <-l.p.end.Done():
	}
}

// The methods that follow are the faults of a network, for Strike.

// Cut closes the connection in both directions (FIN), as a load balancer's idle timeout does.
func (l *Link) Cut() {
	_ = l.joiner.Close()
	_ = l.donor.Close()
}

// Reset resets the connection on both sides (RST), as a firewall does that has lost its state.
func (l *Link) Reset() {
	_ = l.joiner.SetLinger(0)
	_ = l.donor.SetLinger(0)
	l.Cut()
}

// ResetDonor resets the donor's side only; the joiner sees an orderly end.
func (l *Link) ResetDonor() {
	_ = l.donor.SetLinger(0)
	l.Cut()
}

// Pause forwards nothing for 0.4 s.
func (l *Link) Pause() { l.Wait(400 * time.Millisecond) }

// Die forwards nothing any more and keeps the connection open, as a lost route does.
func (l *Link) Die() { l.Wait(time.Hour) }

// Move resets the connection; the next one reaches the donor from another address.
func (l *Link) Move() {
	l.p.mu.Lock()
	l.p.from = net.IPv4(127, 77, 0, byte(2+l.passed%200)) //nolint:gosec // at most 201
	l.p.mu.Unlock()
	l.Reset()
}

// Away resets all connections and closes the port for 0.6 s.
func (l *Link) Away() {
	p := l.p
	p.mu.Lock()
	addr := p.addr
	_ = p.listener.Close()
	p.listener = nil
	p.mu.Unlock()
	p.wg.Go(func() {
		timer := time.NewTimer(600 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			_ = p.open(addr) // if another program took the port, the clone fails, and with it the test
		case <-p.end.Done():
		}
	})
	p.each((*Link).Reset)
}

// Flip inverts one bit of the next byte.
func (l *Link) Flip() { l.next[0] ^= 1 << (l.passed % 8) }
