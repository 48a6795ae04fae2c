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
	// reportShare is the number of reports for each replay buffer of bytes.
	reportShare = 4
	// stallShare bounds a stalled volume, in multiples of --stall-timeout: for so long the joiner
	// goes on reporting, and the donor accepts reports without progress. After that the slot is
	// worth more than the clone.
	stallShare = 10
)

// reporter tells the donor how much of a stream has arrived, and so that the joiner lives. It is
// nil when the donor does not ask for reports.
type reporter struct {
	client *Client
	body   *resuming
	bytes  int64
	every  time.Duration

	begun  time.Time
	told   atomic.Int64
	idle   atomic.Int64  // when the last Read returned, counted from begun; negative during a Read
	due    chan struct{} // signals that the next report is due
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// startReports starts a reporter, or returns nil when the donor does not ask for reports.
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

// stop ends the reports and waits for the last one.
func (r *reporter) stop() {
	if r == nil {
		return
	}
	r.cancel()
	r.ended.Wait()
}

// reading notes that the joiner waits for bytes.
func (r *reporter) reading() {
	if r != nil {
		r.idle.Store(-1)
	}
}

// read notes that a Read has returned, so that the volume is busy.
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

// run reports until the stream ends. It pauses while the volume takes no bytes for too long.
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

// stalled is how long the joiner's volume has been busy with the last bytes.
func (r *reporter) stalled() time.Duration {
	idle := time.Duration(r.idle.Load())
	if idle < 0 {
		return 0
	}
	return time.Since(r.begun) - idle
}

// tell sends one report. gone says that the donor does not know the stream any more.
func (r *reporter) tell(ctx context.Context) (gone bool) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	offset := r.body.offset.Load()
	res, err := r.client.doWith(ctx, r.client.reports, exchange{http.MethodPut, pathClone + "/" + r.body.id, http.Header{headerOffset: {strconv.FormatInt(offset, 10)}}, http.NoBody})
	if err != nil {
		r.client.config.Log.Debug("report not delivered", "error", err) // another one follows
		return false
	}
	_ = res.Body.Close()
	r.told.Store(offset)
	return res.StatusCode == http.StatusNotFound
}
