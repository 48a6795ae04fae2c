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
	if r.again == nil || r.vain > maxVain || errors.Is(cause, ErrStalled) || errors.Is(cause, context.Canceled) {
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

// resume asks for the rest of the stream until the donor sends it, the donor says that it cannot,
// or the grace is over.
func (r *resuming) resume(ctx context.Context) (*http.Response, error) {
	const first, longest = 50 * time.Millisecond, 2 * time.Second
	over := time.Now().Add(r.client.config.Grace)
	for pause := first; ; pause = min(2*pause, longest) {
		res, err := r.rest(ctx)
		if err == nil || errors.Is(err, ErrIncomplete) || errors.Is(err, ErrProtocol) {
			r.gone = err != nil
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

// rest asks once. The donor answers at once; the bytes may take longer.
func (r *resuming) rest(ctx context.Context) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(withWatch(ctx, r.watch))
	timer := time.AfterFunc(answerTimeout, func() { cancel(fmt.Errorf("no answer for %v", answerTimeout)) })
	offset := strconv.FormatInt(r.offset.Load(), 10)
	res, err := r.client.open(ctx, pathClone+"/"+r.id, http.Header{headerOffset: {offset}})
	if !timer.Stop() && err == nil {
		_ = res.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	h := res.Header
	if h.Get(headerStream) != r.id || h.Get(headerOffset) != offset || Encoding(h.Get(headerEncoding)) != r.encoding {
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
	m, err := r.client.Member(ctx)
	if err != nil {
		return fmt.Errorf("ask what the backup is at: %w", err)
	}
	for _, g := range m.Giving {
		if g.Stream == r.id {
			return r.watch.judge(g, r.offset.Load(), r.client.config.Stall)
		}
	}
	return errors.New("the donor does not give this clone any more")
}
