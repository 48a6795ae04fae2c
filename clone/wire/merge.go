package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

// slowLane is how long the stream waits for a stripe that all other lanes are beyond before the
// lane's connection is replaced.
const slowLane = 10 * time.Second

var errSlow = errors.New("the other connections are far faster")

// merger reads the lanes of a stream in turn: it is the encoded stream, as the body of an answer
// would be. An error that a lane cannot heal is the merger's; the stream is then to be resumed over
// one connection.
type merger struct {
	lanes   []*lane
	trailer http.Header // filled at the end
	slow    time.Duration
	ctx     context.Context //nolint:containedctx // that of the lanes
	cancel  context.CancelFunc
	running sync.WaitGroup

	stripe int64  // the number of the stripe that is due
	buf    []byte // the stripe that is read, and rest what is left of it
	rest   []byte
	last   bool // it is a short one
	err    error
}

// merge makes the merger of the stream that h describes. w is the watch of its first connection.
func (c *Client) merge(ctx context.Context, h Header, w *watch) *merger {
	ctx, cancel := context.WithCancel(ctx)
	m := &merger{trailer: http.Header{}, slow: slowLane, ctx: ctx, cancel: cancel}
	for i := range h.Connections {
		if i > 0 {
			w = &watch{}
		}
		m.lanes = append(m.lanes, newLane(c, h, i, w))
	}
	return m
}

// start has the lanes arrive. first is the connection of lane 0, which cut ends. resumed is called
// whenever a connection has replaced another one.
func (m *merger) start(first *http.Response, cut context.CancelCauseFunc, resumed func()) {
	m.lanes[0].own(first, cut)
	context.AfterFunc(m.ctx, func() { cut(context.Cause(m.ctx)) })
	for i, l := range m.lanes {
		l.resumed = resumed
		m.running.Go(func() {
			if i == 0 {
				l.run(m.ctx, first)
			} else {
				l.run(m.ctx, nil)
			}
		})
	}
}

// Read returns bytes of the encoded stream.
func (m *merger) Read(p []byte) (int, error) {
	for len(m.rest) == 0 && m.err == nil {
		m.err = m.advance()
	}
	if len(m.rest) == 0 {
		return 0, m.err
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// Close ends all connections, and returns when they have ended.
func (m *merger) Close() error {
	m.cancel()
	m.running.Wait()
	return nil
}

// lane is that of the stripe which is due.
func (m *merger) lane() *lane { return m.lanes[m.stripe%int64(len(m.lanes))] }

// advance goes to the next stripe. It returns io.EOF at the end of the stream.
func (m *merger) advance() error {
	if m.buf != nil {
		m.lanes[(m.stripe-1)%int64(len(m.lanes))].free <- m.buf[:stripeSize]
		m.buf = nil
	}
	a, err := m.await(m.lane())
	switch {
	case err != nil:
		return err
	case a.trailer != nil:
		return m.end(a.trailer)
	case m.last:
		return fmt.Errorf("%w: one follows the last one", errStripe)
	}
	m.buf, m.rest, m.last = a.bytes, a.bytes, len(a.bytes) < stripeSize
	m.stripe++
	return nil
}

// end checks that no lane has more, and that all have the same trailers.
func (m *merger) end(trailer http.Header) error {
	if trailer.Get(trailerStatus) == "0" {
		for range len(m.lanes) - 1 {
			m.stripe++
			a, err := m.await(m.lane())
			switch {
			case err != nil:
				return err
			case a.trailer == nil:
				return fmt.Errorf("%w: one follows the end", errStripe)
			case !sameProof(a.trailer, trailer):
				return fmt.Errorf("%w: the lanes have different trailers", errStripe)
			}
		}
	}
	maps.Copy(m.trailer, trailer)
	return io.EOF
}

func sameProof(a, b http.Header) bool {
	for _, name := range []string{trailerStatus, trailerBytes, trailerDigest} {
		if a.Get(name) != b.Get(name) {
			return false
		}
	}
	return true
}

// await waits for a lane's next stripe, or its end. A lane that all others have overtaken for long gets another connection; the
// second time for one stripe it is an error.
func (m *merger) await(l *lane) (arrival, error) {
	l.wanted.Store(true)
	defer l.wanted.Store(false)
	tick := time.NewTicker(m.slow)
	defer tick.Stop()
	for hurried := false; ; {
		select {
		case a := <-l.arrived:
			return a, a.err
		case <-m.ctx.Done():
			return arrival{}, context.Cause(m.ctx)
		case <-tick.C:
		}
		switch {
		case !m.overtaken(l):
		case hurried:
			return arrival{}, fmt.Errorf("lane %d at %d: %w", l.index, l.got.Load(), errSlow)
		default:
			hurried = true
			l.hurry(errSlow)
		}
	}
}

// overtaken says whether all other lanes have a stripe that comes after the one of l.
func (m *merger) overtaken(l *lane) bool {
	for _, other := range m.lanes {
		if other != l && len(other.arrived) == 0 {
			return false
		}
	}
	return true
}
