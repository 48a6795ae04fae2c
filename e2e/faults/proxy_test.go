//go:build faults

package faults

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is the network between a joiner and a donor.
type proxy struct {
	addr, target string
	joiner       *joiner
	// at is how many bytes of an answer pass on one connection before strike is called, times times in all.
	at     int64
	times  atomic.Int64
	strike func(*link)
	// passed are the bytes of all answers.
	passed atomic.Int64
	// rate is the bytes a second that pass to the joiner on each connection; 0 means all.
	rate atomic.Int64

	mu       sync.Mutex
	listener net.Listener // nil while the proxy is away
	from     net.IP       // the address from which the donor is called
	links    map[*link]bool
	wg       sync.WaitGroup
	end      context.Context //nolint:containedctx // it stands for the end of the test in the proxy's goroutines
}

// strikes arranges a fault after at bytes of an answer.
func strikes(at int64, f func(*link)) func(*proxy) {
	return func(p *proxy) { p.at, p.strike = at, f }
}

// link is one connection through the proxy.
type link struct {
	p             *proxy
	joiner, donor *net.TCPConn
	passed        int64
	next          []byte // what comes behind the place of the strike
	left          chan struct{}
}

// newProxy passes connections on to target until the test ends. Set its faults before anybody connects.
func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	end, cancel := context.WithCancel(context.Background())
	p := &proxy{target: target, links: map[*link]bool{}, end: end}
	p.times.Store(1)
	if err := p.open("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		p.mu.Lock()
		if p.listener != nil {
			_ = p.listener.Close()
		}
		p.mu.Unlock()
		p.each((*link).cut)
		p.wg.Wait()
	})
	return p
}

func (p *proxy) open(addr string) error {
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

func (p *proxy) each(f func(*link)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		f(l)
	}
}

func (p *proxy) pass(joiner *net.TCPConn) {
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
	l := &link{p: p, joiner: joiner, donor: c.(*net.TCPConn), left: make(chan struct{})} //nolint:forcetypeassert // as above
	p.mu.Lock()
	p.links[l] = true
	if p.end.Err() != nil {
		l.cut()
	}
	p.mu.Unlock()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(l.donor, l.joiner)
		close(l.left)
		_ = l.donor.Close()
	})
	l.down()
	l.cut()
	up.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// down passes the donor's answer, and strikes on the way.
func (l *link) down() {
	buf := make([]byte, 128<<10)
	for {
		n, err := l.donor.Read(buf)
		piece := buf[:n]
		if before := l.p.at - l.passed; l.p.strike != nil && before >= 0 && int64(n) > before && l.p.times.Add(-1) >= 0 {
			if _, err := l.joiner.Write(piece[:before]); err != nil {
				return
			}
			l.passed += before
			piece = piece[before:]
			l.next = piece
			l.p.strike(l)
		}
		if _, err := l.joiner.Write(piece); err != nil {
			return
		}
		l.passed += int64(len(piece))
		l.p.passed.Add(int64(n))
		if err != nil {
			return
		}
		if rate := l.p.rate.Load(); rate > 0 {
			l.wait(time.Duration(int64(n) * int64(time.Second) / rate))
		}
	}
}

// wait lets time pass, unless the joiner leaves or the test ends.
func (l *link) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.left:
	case <-l.p.end.Done():
	}
}

// The faults of a network. Each can be a proxy's strike.

// cut ends the connection in an orderly way, as an idle timeout of a load balancer does.
func (l *link) cut() {
	_ = l.joiner.Close()
	_ = l.donor.Close()
}

// reset ends it as a firewall does that has forgotten it.
func (l *link) reset() {
	_ = l.joiner.SetLinger(0)
	_ = l.donor.SetLinger(0)
	l.cut()
}

// resetDonor lets only the donor know; the joiner sees an end.
func (l *link) resetDonor() {
	_ = l.donor.SetLinger(0)
	l.cut()
}

// pause lets nothing pass for a moment.
func (l *link) pause() { l.wait(400 * time.Millisecond) }

// die lets nothing pass any more, and tells nobody.
func (l *link) die() { l.wait(time.Hour) }

// move comes back from another address.
func (l *link) move() {
	l.p.mu.Lock()
	l.p.from = net.IPv4(127, 77, 0, byte(2+l.passed%200)) //nolint:gosec // at most 201
	l.p.mu.Unlock()
	l.reset()
}

// away closes the port for a while, connections included.
func (l *link) away() {
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
	p.each((*link).reset)
}

// kill ends the joiner at once.
func (l *link) kill() {
	<-l.p.joiner.started
	l.p.joiner.child.Kill()
}

// flip turns one bit over.
func (l *link) flip() { l.next[0] ^= 1 << (l.passed % 8) }
