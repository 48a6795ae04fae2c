// Package network is the network between a joiner and a donor, for tests: it can be slow, and it can break in the ways
// in which networks do.
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

// Proxy passes connections on to a donor.
type Proxy struct {
	// Rate is the bytes a second that pass to the joiner on each connection; 0 means all.
	Rate atomic.Int64
	// Passed are the bytes of all answers.
	Passed atomic.Int64

	target string
	fault  atomic.Pointer[fault]

	mu       sync.Mutex
	listener net.Listener // nil while the proxy is away
	addr     string
	from     net.IP // the address from which the donor is called
	links    map[*Link]bool
	wg       sync.WaitGroup
	end      context.Context //nolint:containedctx // it stands for the end of the test in the proxy's goroutines
}

// fault is what Strike has arranged.
type fault struct {
	at    int64
	times atomic.Int64
	f     func(*Link)
}

// Strike has f called on a connection when so many bytes of an answer have passed on it, so many times in all. Nothing
// passes on that connection while f runs.
func (p *Proxy) Strike(at, times int64, f func(*Link)) {
	s := &fault{at: at, f: f}
	s.times.Store(times)
	p.fault.Store(s)
}

// Addr is where it listens.
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
	next          []byte // what comes behind the place of the strike
	left          chan struct{}
}

// Go runs f beside the test, which does not end before f does.
func (l *Link) Go(f func()) { l.p.wg.Go(f) }

// New listens on an address and passes connections on to target until the test ends.
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

// down passes the donor's answer, and strikes on the way.
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

// Wait lets time pass, unless the joiner leaves or the test ends.
func (l *Link) Wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.left:
	case <-l.p.end.Done():
	}
}

// The faults of a network, for Strike.

// Cut ends the connection in an orderly way, as an idle timeout of a load balancer does.
func (l *Link) Cut() {
	_ = l.joiner.Close()
	_ = l.donor.Close()
}

// Reset ends it as a firewall does that has forgotten it.
func (l *Link) Reset() {
	_ = l.joiner.SetLinger(0)
	_ = l.donor.SetLinger(0)
	l.Cut()
}

// ResetDonor lets only the donor know; the joiner sees an end.
func (l *Link) ResetDonor() {
	_ = l.donor.SetLinger(0)
	l.Cut()
}

// Pause lets nothing pass for a moment.
func (l *Link) Pause() { l.Wait(400 * time.Millisecond) }

// Die lets nothing pass any more, and tells nobody.
func (l *Link) Die() { l.Wait(time.Hour) }

// Move comes back from another address.
func (l *Link) Move() {
	l.p.mu.Lock()
	l.p.from = net.IPv4(127, 77, 0, byte(2+l.passed%200)) //nolint:gosec // at most 201
	l.p.mu.Unlock()
	l.Reset()
}

// Away closes the port for a while, connections included.
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
			_ = p.open(addr) // if the port is lost, the clone is, and the test says so
		case <-p.end.Done():
		}
	})
	p.each((*Link).Reset)
}

// Flip turns one bit over.
func (l *Link) Flip() { l.next[0] ^= 1 << (l.passed % 8) }
