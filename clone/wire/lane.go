package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	// laneBuffers is how many stripes a lane holds: one is read by others while the next one arrives.
	laneBuffers = 2
	// laneVain bounds a lane's consecutive connections without a whole stripe, and laneGrace the time
	// for which it tries to get another connection. After that a single connection carries on.
	laneVain  = 3
	laneGrace = 10 * time.Second
)

// lane takes the stripes i, i+n, i+2n, … of a stream of n lanes, over as many connections as
// necessary.
type lane struct {
	client   *Client
	index, n int
	id       string
	encoding Encoding
	watch    *watch
	resumed  func() // called when a connection has replaced another one

	next int64        // the position of the stripe that is due
	got  atomic.Int64 // the position of the next byte
	vain int          // consecutive connections without a whole stripe

	wanted atomic.Bool // the stream waits for this lane
	cut    atomic.Pointer[context.CancelCauseFunc]

	free    chan []byte  // buffers of stripeSize
	arrived chan arrival // ends with one that has no bytes
}

// arrival is a stripe, or how a lane ended.
type arrival struct {
	bytes []byte
	// trailer is that of a lane that ended as it should.
	trailer http.Header
	err     error
}

// newLane makes a lane of the stream that h describes. watch is that of its connections.
func newLane(c *Client, h Header, index int, w *watch) *lane {
	l := &lane{
		client: c, index: index, n: h.Connections, id: h.StreamID, encoding: h.Encoding, watch: w, next: int64(index) * stripeSize,
		free: make(chan []byte, laneBuffers), arrived: make(chan arrival, 1), resumed: func() {},
	}
	l.got.Store(l.next)
	for range laneBuffers {
		l.free <- make([]byte, stripeSize)
	}
	return l
}

// run delivers the lane's stripes until its end, an error that the lane cannot heal, or the end of
// ctx. res is its first connection, or nil.
func (l *lane) run(ctx context.Context, res *http.Response) {
	l.watch.begin(func() error { return l.check(ctx) })
	var cause error
	for begun := res != nil; ; begun = true {
		if res == nil {
			var err error
			if res, err = l.connect(ctx); err != nil { //nolint:bodyclose // receive closes it
				l.deliver(ctx, arrival{err: errors.Join(err, cause)})
				return
			}
			if begun {
				l.resumed()
			}
		}
		end, err := l.receive(ctx, res)
		if err == nil {
			l.deliver(ctx, end)
			return
		}
		cause, res = fmt.Errorf("lane %d at %d: %w", l.index, l.got.Load(), err), nil
		if l.vain++; ctx.Err() != nil || final(err) || l.vain > laneVain {
			l.deliver(ctx, arrival{err: cause})
			return
		}
		l.client.config.Log.Warn("connection to the donor broke, the clone goes on as soon as there is another", "lane", l.index, "offset", l.next, "error", err)
	}
}

func (l *lane) deliver(ctx context.Context, a arrival) bool {
	select {
	case l.arrived <- a:
		return true
	case <-ctx.Done():
		return false
	}
}

// connect asks for the rest of the lane.
func (l *lane) connect(ctx context.Context) (*http.Response, error) {
	return l.client.insist(ctx, min(laneGrace, l.client.config.Grace), func() (*http.Response, error) {
		ctx, cancel := context.WithCancelCause(withWatch(ctx, l.watch))
		res, err := l.client.rest(ctx, l.id, l.encoding, place{l.next, l.index})
		if err != nil {
			cancel(nil)
			return nil, err
		}
		l.own(res, cancel)
		return res, nil
	})
}

// own makes hurry cut the connection of an answer.
func (l *lane) own(res *http.Response, cancel context.CancelCauseFunc) {
	res.Body = &cancelledBody{ReadCloser: res.Body, cancel: func() { cancel(nil) }}
	l.cut.Store(&cancel)
}

// hurry cuts the lane's connection, so that it gets another one.
func (l *lane) hurry(cause error) {
	if cut := l.cut.Load(); cut != nil {
		(*cut)(cause)
	}
}

// receive delivers the stripes of one connection, and returns how the lane ended, or why the
// connection broke.
func (l *lane) receive(ctx context.Context, res *http.Response) (end arrival, err error) {
	defer func() { _ = res.Body.Close() }()
	l.got.Store(l.next)
	for {
		var buf []byte
		select {
		case buf = <-l.free:
		case <-ctx.Done():
			return arrival{}, context.Cause(ctx)
		}
		n, err := l.stripe(res.Body, buf)
		if err == nil {
			l.vain, l.next = 0, l.next+int64(l.n)*stripeSize
			l.got.Store(l.next)
			if !l.deliver(ctx, arrival{bytes: buf[:n]}) {
				return arrival{}, context.Cause(ctx)
			}
			continue
		}
		l.free <- buf
		// The trailers are there only when the answer ended as HTTP has it. That of a clone which was
		// ended may be in the middle of a stripe.
		if status := res.Trailer.Get(trailerStatus); status == "" || status == "0" && !errors.Is(err, io.EOF) {
			return arrival{}, err
		}
		return arrival{trailer: res.Trailer}, nil
	}
}

// stripe reads the stripe that is due.
func (l *lane) stripe(from io.Reader, buf []byte) (n int, err error) {
	var head [frameSize]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return 0, err
	}
	n, digest, err := readFrame(head[:], l.next)
	if err != nil {
		return 0, err
	}
	for read := 0; read < n; {
		m, err := from.Read(buf[read:n])
		read += m
		l.got.Add(int64(m))
		if err != nil && read < n {
			return 0, noEOF(err)
		}
	}
	if xxhash.Sum64(buf[:n]) != digest {
		return 0, fmt.Errorf("%w: the stripe at %d has another digest", ErrDigest, l.next)
	}
	return n, nil
}

// noEOF makes an end in the middle of a stripe an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// check asks the donor about a lane from which no byte has come for a while, as resuming.check does.
// Only a lane that the stream waits for can have stalled: while the others catch up or the volume
// takes nothing, there is nothing to send.
func (l *lane) check(ctx context.Context) error {
	g, err := l.client.givingOf(ctx, l.id)
	if errors.Is(err, errNotGiven) && l.watch.doubt() {
		return nil // a lane may wait for nothing but its end, which is on its way then
	}
	if err != nil {
		return err
	}
	if l.index < len(g.Lanes) {
		g.Sent = g.Lanes[l.index]
	}
	if !l.wanted.Load() {
		l.watch.rest()
	}
	return l.watch.judge(g, l.got.Load(), l.client.config.Stall)
}
