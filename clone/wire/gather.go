package wire

import (
	"context"
	"net"
	"sync"
)

// gatherSize bounds what a connection gathers: one piece of the stream, in records of TLS.
const gatherSize = readSize + 32<<10

// Gather wraps a listener so that its TLS connections send a piece of a stream with one system
// call. TLS alone makes one call for each record of at most 16 KiB.
func Gather(l net.Listener) net.Listener { return gatherListener{l} }

type gatherListener struct{ net.Listener }

func (l gatherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatherConn{Conn: c}, nil
}

// gatherConn is the connection below TLS.
type gatherConn struct {
	net.Conn

	mu        sync.Mutex
	gathering bool
	buf       []byte // gathered and not sent
	err       error  // the first failed write: TLS may not know of it, and must send nothing after it
}

// NetConn is the connection below.
func (c *gatherConn) NetConn() net.Conn { return c.Conn }

// Write sends p, or gathers it during a call of during.
func (c *gatherConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gathering {
		return c.send(p)
	}
	if len(c.buf)+len(p) > gatherSize {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) > gatherSize {
		return c.send(p)
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}

// during calls write, and sends what it wrote once it returns. A nil gatherConn only calls it.
func (c *gatherConn) during(write func() (int, error)) (int, error) {
	if c == nil {
		return write()
	}
	if err := c.gather(true); err != nil {
		return 0, err
	}
	n, err := write()
	if end := c.gather(false); err == nil {
		err = end
	}
	return n, err
}

// gather starts or ends gathering, and sends what was gathered.
func (c *gatherConn) gather(begin bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if begin && c.buf == nil {
		c.buf = make([]byte, 0, gatherSize)
	}
	c.gathering = begin
	return c.flush()
}

// flush sends what was gathered. c.mu is held.
func (c *gatherConn) flush() error {
	if len(c.buf) == 0 {
		return c.err
	}
	_, err := c.send(c.buf)
	c.buf = c.buf[:0]
	return err
}

func (c *gatherConn) send(p []byte) (n int, err error) {
	if c.err == nil {
		n, c.err = c.Conn.Write(p)
	}
	return n, c.err
}

type gatherKey struct{}

// withGather gives the requests of a connection the gatherConn below its TLS.
func withGather(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
		if below, ok := secure.NetConn().(*gatherConn); ok {
			return context.WithValue(ctx, gatherKey{}, below)
		}
	}
	return ctx
}

// gatherOf is nil for a connection that does not gather.
func gatherOf(ctx context.Context) *gatherConn {
	c, _ := ctx.Value(gatherKey{}).(*gatherConn)
	return c
}
