package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// resuming reads one encoded stream, over as many connections as necessary.
type resuming struct {
	client   *Client
	id       string
	encoding Encoding
	watch    *watch
	again    func() (*http.Response, error) // nil for a stream that cannot resume
	res      *http.Response
	offset   atomic.Int64
	resumed  atomic.Int64
	vain     int  // consecutive connections without a byte
	gone     bool // the donor does not know the stream any more
	reports  *reporter
	err      error
}

// maxVain bounds consecutive connections that break before their first byte.
const maxVain = 10

// Read continues over a new connection when one breaks.
func (r *resuming) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	r.reports.reading()
	defer r.reports.read()
	for {
		n, err := r.res.Body.Read(p)
		r.offset.Add(int64(n))
		switch {
		case n > 0: // an error comes again at the next call
			r.vain = 0
			return n, nil
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			r.err = io.EOF
			return 0, io.EOF
		}
		res, again := r.reconnect(err) //nolint:bodyclose // it becomes the one that Close closes
		if again != nil {
			r.err = again
			return 0, again
		}
		r.res = res
	}
}

// reconnect resumes the stream after its connection broke because of cause.
func (r *resuming) reconnect(cause error) (*http.Response, error) {
	_ = r.res.Body.Close()
	r.vain++
	if r.again == nil || r.vain > maxVain || final(cause) || errors.Is(cause, context.Canceled) {
		return nil, fmt.Errorf("%w: after %d bytes of %s: %w", ErrIncomplete, r.offset.Load(), r.client.Addr(), cause)
	}
	r.client.config.Log.Warn("connection to the donor broke, the clone goes on as soon as there is another", "offset", r.offset.Load(), "error", cause)
	res, err := r.again()
	if err != nil {
		return nil, fmt.Errorf("%w: after %d bytes of %s: %w; it could not go on: %w", ErrIncomplete, r.offset.Load(), r.client.Addr(), cause, err)
	}
	r.resumed.Add(1)
	return res, nil
}

// final says whether no other connection can help after an error.
func final(err error) bool {
	return errors.Is(err, ErrStalled) || errors.Is(err, errStripe) || errors.Is(err, ErrDigest)
}

// resume asks for the rest of the stream until the donor sends it, the donor says that it cannot,
// or the grace is over.
func (r *resuming) resume(ctx context.Context) (*http.Response, error) {
	res, err := r.client.insist(ctx, r.client.config.Grace, func() (*http.Response, error) {
		return r.client.rest(withWatch(ctx, r.watch), r.id, r.encoding, place{r.offset.Load(), noLane})
	})
	r.gone = isRefusal(err)
	return res, err
}

// isRefusal says whether the donor has answered that it does not resume the stream.
func isRefusal(err error) bool { return errors.Is(err, ErrIncomplete) || errors.Is(err, ErrProtocol) }

// insist asks until the donor sends the stream, the donor says that it cannot, or the grace is over.
func (c *Client) insist(ctx context.Context, grace time.Duration, ask func() (*http.Response, error)) (*http.Response, error) {
	const first, longest = 50 * time.Millisecond, 2 * time.Second
	over := time.Now().Add(grace)
	for pause := first; ; pause = min(2*pause, longest) {
		res, err := ask()
		if err == nil || isRefusal(err) {
			return res, err
		}
		if ctx.Err() != nil || time.Now().Add(pause).After(over) {
			return nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// rest asks once for the rest of a stream, or of one of its lanes. The donor answers at once; the
// bytes may take longer.
func (c *Client) rest(ctx context.Context, id string, encoding Encoding, at place) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(answerTimeout, func() { cancel(fmt.Errorf("no answer for %v", answerTimeout)) })
	header := http.Header{headerOffset: {strconv.FormatInt(at.offset, 10)}}
	kind := contentType
	if at.lane != noLane {
		header.Set(headerLane, strconv.Itoa(at.lane))
		kind = contentTypeLane
	}
	res, err := c.open(ctx, pathClone+"/"+id, header)
	if !timer.Stop() && err == nil {
		_ = res.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	h := res.Header
	if h.Get(headerStream) != id || h.Get(headerOffset) != header.Get(headerOffset) || Encoding(h.Get(headerEncoding)) != encoding ||
		h.Get("Content-Type") != kind || h.Get(headerLane) != header.Get(headerLane) {
		_ = res.Body.Close()
		cancel(nil)
		return nil, fmt.Errorf("%w: it resumes another stream than the one asked for", ErrProtocol)
	}
	res.Body = &cancelledBody{ReadCloser: res.Body, cancel: func() { cancel(nil) }}
	return res, nil
}

// cancelledBody cancels its request's context when it is closed.
type cancelledBody struct {
	io.ReadCloser
	cancel func()
}

func (b *cancelledBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// check asks the donor about a stream from which no byte has come for a while. An error breaks the
// connection: ErrStalled for good, any other one leads to a new connection.
func (r *resuming) check(ctx context.Context) error {
	g, err := r.client.givingOf(ctx, r.id)
	if err != nil {
		return err
	}
	return r.watch.judge(g, r.offset.Load(), r.client.config.Stall)
}

// givingOf asks the donor how it gives a stream.
func (c *Client) givingOf(ctx context.Context, stream string) (Giving, error) {
	m, err := c.Member(ctx)
	if err != nil {
		return Giving{}, fmt.Errorf("ask what the backup is at: %w", err)
	}
	for _, g := range m.Giving {
		if g.Stream == stream {
			return g, nil
		}
	}
	return Giving{}, errNotGiven
}

var errNotGiven = errors.New("the donor does not give this clone any more")
