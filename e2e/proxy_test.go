package e2e

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a joiner and a donor: it can be slow, and it can act when so
// many bytes of an answer have passed.
type proxy struct {
	target string
	// rate is the bytes a second that pass from donor to joiner; 0 means all.
	rate atomic.Int64
	// trigger, when set, is pulled once, in between, when so many bytes have passed.
	trigger atomic.Pointer[trigger]

	listener net.Listener
	passed   atomic.Int64
	wg       sync.WaitGroup
}

type trigger struct {
	at   int64
	pull func()
}

// when has f called once at bytes have passed.
func (p *proxy) when(at int64, f func()) { p.trigger.Store(&trigger{at, sync.OnceFunc(f)}) }

// newProxy listens on addr and passes connections on to target until the test ends.
func newProxy(ctx context.Context, t *testing.T, addr, target string) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: target, listener: l}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.rate.Store(0)
		p.wg.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.pass(c) })
	}
}

func (p *proxy) pass(joiner net.Conn) {
	defer func() { _ = joiner.Close() }()
	donor, err := net.Dial("tcp", p.target) //nolint:noctx // ends with the connection
	if err != nil {
		return
	}
	defer func() { _ = donor.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(donor, joiner)
		_ = donor.Close()
	})
	p.slowly(joiner, donor)
	_ = joiner.Close()
	wg.Wait()
}

func (p *proxy) slowly(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
			total := p.passed.Add(int64(n))
			if tr := p.trigger.Load(); tr != nil && total >= tr.at {
				tr.pull()
			}
		}
		if err != nil {
			return
		}
		if rate := p.rate.Load(); rate > 0 {
			time.Sleep(time.Duration(int64(n) * int64(time.Second) / rate)) // this is what the proxy is for
		}
	}
}
