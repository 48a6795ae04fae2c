package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// striped asks addr for clones over n connections.
func striped(t *testing.T, addr string, n int, change ...func(*ClientConfig)) *Client {
	t.Helper()
	config := ClientConfig{Addr: addr, Member: "db-1", Stall: soon, Grace: soon, Connections: n}
	for _, f := range change {
		f(&config)
	}
	c := NewClient(config)
	t.Cleanup(c.Close)
	return c
}

// A clone over several connections is the stream that one connection carries, however long it is.
func TestConnections(t *testing.T) {
	all := noise(9 * stripeSize)
	for _, tr := range transports {
		for _, encoding := range []Encoding{None, Zstd} {
			for _, n := range []int{2, 3, MaxConnections} {
				for _, size := range []int{1, stripeSize - 1, stripeSize, stripeSize + 1, n * stripeSize, n*stripeSize + 1, len(all)} {
					t.Run(fmt.Sprintf("%s/%s/%d connections/%d bytes", tr.name, encoding, n, size), func(t *testing.T) {
						id := identity(t, 'a')
						ts := newTapes(t, whole(all[:size]))
						r := start(t, ts.donor(), ServerConfig{Grace: soon}, tr.server(id))
						c := striped(t, r.addr, n, func(c *ClientConfig) { c.TLS, c.Encoding = tr.client(id), encoding })
						s := open(t, c)
						if s.Header.Connections != n {
							t.Errorf("%d connections were granted", s.Header.Connections)
						}
						var got bytes.Buffer
						_, err := got.ReadFrom(s)
						if err != nil {
							t.Fatal(err)
						}
						result, err := s.Finish()
						if err != nil || !bytes.Equal(got.Bytes(), all[:size]) || result.Bytes != int64(size) || s.Resumed() != 0 {
							t.Fatalf("%d bytes, %+v, resumed %d times, %v", got.Len(), result, s.Resumed(), err)
						}
						if n := len(ts.made); n != 1 {
							t.Errorf("%d backups were made", n)
						}
					})
				}
			}
		}
	}
}

// Whatever breaks, and however often, what arrives is what was sent, and it is one backup's. What
// several connections cannot bring, one does.
func TestConnectionsBreak(t *testing.T) {
	sent := noise(40*stripeSize + 12345)
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // the same in every run
		n, encoding := 2+r.IntN(MaxConnections-1), []Encoding{None, Zstd}[r.IntN(2)]
		after := []int64{}
		for range 1 + r.IntN(2*n) {
			after = append(after, r.Int64N([]int64{3000, 2 * stripeSize, 8 * stripeSize}[r.IntN(3)]))
		}
		after[0] += 2000 // past the headers
		t.Run(fmt.Sprintf("%d/%d connections, %s", seed, n, encoding), func(t *testing.T) {
			id := identity(t, 'a')
			ts := newTapes(t, whole(sent))
			tr := transports[seed%2]
			if tr.name == "tls" {
				after[0] += 3000
			}
			server := start(t, ts.donor(), ServerConfig{Grace: soon}, tr.server(id))
			b := &breaker{target: server.addr, reset: seed%3 == 0, after: append(after, -1)}
			c := striped(t, b.listen(t), n, func(c *ClientConfig) { c.TLS, c.Encoding = tr.client(id), encoding })
			reportTo(c, server.addr) // the breaker counts connections
			got, result, err := take(t, c)
			if err != nil || !bytes.Equal(got, sent) || result.Bytes != int64(len(sent)) || len(ts.made) != 1 {
				t.Fatalf("%d bytes, %+v, %d backups, %v", len(got), result, len(ts.made), err)
			}
			t.Logf("%d connections were made", b.made.Load())
		})
	}
}

// A lane whose connection breaks goes on alone: the others keep theirs.
func TestOneConnectionBreaks(t *testing.T) {
	for _, at := range []int64{0, 1000, stripeSize, 3 * stripeSize} {
		t.Run(fmt.Sprintf("after %d bytes", at), func(t *testing.T) {
			sent := noise(48 * stripeSize)
			r := start(t, newTapes(t, whole(sent)).donor(), ServerConfig{Grace: soon}, nil)
			b := &breaker{target: r.addr, after: []int64{-1, at, -1}}
			c := striped(t, b.listen(t), 4)
			reportTo(c, r.addr)
			s := open(t, c)
			var got bytes.Buffer
			if _, err := got.ReadFrom(s); err != nil || !bytes.Equal(got.Bytes(), sent) {
				t.Fatalf("%d bytes, %v", got.Len(), err)
			}
			if _, err := s.Finish(); err != nil {
				t.Error(err)
			}
			if n := b.made.Load(); n != 5 {
				t.Errorf("%d connections were made", n)
			}
			if _, several := s.body.res.Body.(*merger); !several {
				t.Error("one connection carried the rest")
			}
			if at > 1000 && s.Resumed() != 1 {
				t.Errorf("resumed %d times", s.Resumed())
			}
		})
	}
}

// A network that lets only one connection at a time through still gets its clone.
func TestOnlyOneConnection(t *testing.T) {
	sent := noise(24*stripeSize + 1)
	r := start(t, newTapes(t, whole(sent)).donor(), ServerConfig{Grace: soon}, nil)
	c := striped(t, r.addr, 4, func(c *ClientConfig) { c.Grace = 500 * time.Millisecond })
	transport := c.http.Transport.(*http.Transport) //nolint:forcetypeassert // NewClient makes it
	dial := transport.DialContext
	var open atomic.Int32
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if open.Add(1) > 1 {
			open.Add(-1)
			return nil, errors.New("one connection is enough")
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			open.Add(-1)
			return nil, err
		}
		return &counted{Conn: conn, gone: sync.OnceFunc(func() { open.Add(-1) })}, nil
	}
	got, result, err := take(t, c)
	if err != nil || !bytes.Equal(got, sent) || result.Bytes != int64(len(sent)) {
		t.Fatalf("%d bytes, %+v, %v", len(got), result, err)
	}
}

type counted struct {
	net.Conn
	gone func()
}

func (c *counted) Close() error {
	c.gone()
	return c.Conn.Close()
}

// choked lets each of its connections to target pass so many bytes in turn, the last for ever, and
// then a little from time to time, or nothing any more.
type choked struct {
	breaker

	trickle int64
}

func (c *choked) listen(t *testing.T) (addr string) {
	t.Helper()
	l := listen(t)
	c.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.wg.Wait()
	})
	return l.Addr().String()
}

func (c *choked) pass(joiner net.Conn) {
	n := int(c.made.Add(1))
	after := c.after[min(n, len(c.after))-1]
	defer func() { _ = joiner.Close() }()
	donor, err := net.Dial("tcp", c.target) //nolint:noctx // ends with the connection
	if err != nil {
		return
	}
	defer func() { _ = donor.Close() }()
	left := make(chan struct{})
	c.wg.Go(func() {
		_, _ = io.Copy(donor, joiner)
		_ = donor.Close()
		close(left)
	})
	if after < 0 {
		_, _ = io.Copy(joiner, donor)
		return
	}
	_, _ = io.CopyN(joiner, donor, after)
	for {
		select {
		case <-left:
			return
		case <-time.After(10 * time.Millisecond):
		}
		if c.trickle > 0 {
			if _, err := io.CopyN(joiner, donor, c.trickle); err != nil {
				return
			}
		}
	}
}

// A connection far slower than the others is replaced. If that does not help, one connection
// carries on. Neither keeps the clone for as long as it would take.
func TestSlowConnection(t *testing.T) {
	for _, tt := range []struct {
		name    string
		after   []int64
		resumed int64
	}{
		{"one is slow", []int64{-1, 1000, -1}, 1},
		{"and its successor", []int64{-1, 1000, -1, -1, 1000, -1}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sent := noise(40 * stripeSize)
			r := start(t, newTapes(t, whole(sent)).donor(), ServerConfig{Grace: soon}, nil)
			b := &choked{breaker{target: r.addr, after: tt.after}, 100} // 10 KB/s
			c := striped(t, b.listen(t), 4)
			reportTo(c, r.addr)
			s := open(t, c)
			s.body.res.Body.(*merger).slow = time.Second //nolint:forcetypeassert // that of several connections
			var got bytes.Buffer
			begun := time.Now()
			if _, err := got.ReadFrom(s); err != nil || !bytes.Equal(got.Bytes(), sent) {
				t.Fatalf("%d bytes, %v", got.Len(), err)
			}
			if _, err := s.Finish(); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > soon || s.Resumed() != tt.resumed {
				t.Errorf("it took %v, and resumed %d times", took, s.Resumed())
			}
		})
	}
}

// A connection on which nothing comes any more, without a word, is replaced once the donor says that
// it has sent more.
func TestDeadConnection(t *testing.T) {
	for resumed, after := range map[int64][]int64{1: {-1, 3 * stripeSize, -1}, 4: {stripeSize, stripeSize, 100_000, 3 * stripeSize, -1}} {
		sent := noise(60 * stripeSize)
		r := start(t, newTapes(t, whole(sent)).donor(), ServerConfig{Grace: soon}, nil)
		b := &choked{breaker{target: r.addr, after: after}, 0}
		c := striped(t, b.listen(t), 4, func(c *ClientConfig) { c.Stall = time.Second })
		reportTo(c, r.addr)
		s := open(t, c)
		var got bytes.Buffer
		if _, err := got.ReadFrom(s); err != nil || !bytes.Equal(got.Bytes(), sent) {
			t.Fatalf("%d bytes, %v", got.Len(), err)
		}
		if _, err := s.Finish(); err != nil || s.Resumed() != resumed {
			t.Errorf("resumed %d times, not %d, %v", s.Resumed(), resumed, err)
		}
	}
}
