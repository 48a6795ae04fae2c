package wire

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reportShare is how often the joiner reports while as much arrives as the donor keeps.
	reportShare = 4
	// stallShare is for how many times its --stall-timeout a joiner whose volume takes no byte goes
	// on reporting, and a donor listens to reports that say that nothing has arrived. After that
	// the donor's slot is worth more.
	stallShare = 10
)

// reporter tells the donor how much of a stream has arrived, and by that, that the joiner lives.
// A nil reporter is that of a donor that does not ask for reports.
type reporter struct {
	client *Client
	body   *resuming
	bytes  int64
	every  time.Duration

	begun  time.Time
	told   atomic.Int64
	idle   atomic.Int64  // how long after begun the last Read returned; less than 0 during a Read
	due    chan struct{} // bytes more have arrived
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// startReports returns nil when the donor does not ask for any.
func (c *Client) startReports(ctx context.Context, body *resuming, h http.Header) *reporter {
	bytes, err := strconv.ParseInt(h.Get(headerReportBytes), 10, 64)
	if err != nil || bytes <= 0 {
		return nil
	}
	every, err := time.ParseDuration(h.Get(headerReportEvery))
	if err != nil || every <= 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &reporter{client: c, body: body, bytes: bytes, every: every, begun: time.Now(), due: make(chan struct{}, 1), cancel: cancel}
	r.ended.Go(func() { r.run(ctx) })
	return r
}

// stop returns when nothing is reported any more.
func (r *reporter) stop() {
	if r == nil {
		return
	}
	r.cancel()
	r.ended.Wait()
}

// reading says that the joiner waits for bytes now.
func (r *reporter) reading() {
	if r != nil {
		r.idle.Store(-1)
	}
}

// read says that it has got some, or the end, and that its volume is at work.
func (r *reporter) read() {
	if r == nil {
		return
	}
	r.idle.Store(int64(time.Since(r.begun)))
	if r.body.err != nil {
		r.cancel()
	} else if r.body.offset.Load()-r.told.Load() >= r.bytes {
		select {
		case r.due <- struct{}{}:
		default:
		}
	}
}

// run reports until the stream ends, with a break while the volume takes no bytes for too long.
func (r *reporter) run(ctx context.Context) {
	defer r.client.reports.CloseIdleConnections()
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	said := false
	for {
		stalled := r.stalled()
		stall := r.client.config.Stall
		if stalled > stall && !said {
			r.client.config.Log.Warn("the volume takes no more bytes: the clone waits for it", "seconds", stalled.Seconds(), "limit", stallShare*stall)
		}
		said = stalled > stall
		if stalled <= stallShare*stall && r.tell(ctx) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.due:
		}
	}
}

// stalled is for how long the joiner's volume has been at work on what it has.
func (r *reporter) stalled() time.Duration {
	idle := time.Duration(r.idle.Load())
	if idle < 0 {
		return 0
	}
	return time.Since(r.begun) - idle
}

// tell reports once. gone says that the donor does not want to hear of the stream any more.
func (r *reporter) tell(ctx context.Context) (gone bool) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	offset := r.body.offset.Load()
	res, err := r.client.doWith(ctx, r.client.reports, http.MethodPut, pathClone+"/"+r.body.id, http.Header{headerOffset: {strconv.FormatInt(offset, 10)}})
	if err != nil {
		r.client.config.Log.Debug("report not delivered", "error", err) // the next one may be
		return false
	}
	_ = res.Body.Close()
	r.told.Store(offset)
	return res.StatusCode == http.StatusNotFound
}
