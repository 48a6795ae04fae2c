package wire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// endGrace is how long a joiner may still take bytes of a clone that was ended, so that it learns
// why.
const endGrace = time.Second

// send sends the stream, or a lane of it, from the attachment's place on, and then the trailers.
// whole says that the joiner got a proper end: of a whole clone or, with an error, of a failed one.
// Otherwise the joiner may resume.
func (s *Server) send(ctx context.Context, o *outgoing, a *attachment) (whole bool, err error) {
	out, ring, w := a.out, a.ring, a.out.w
	setHeader(w.Header(), o.backup.Header, a.place)
	w.Header().Set(headerReportBytes, strconv.FormatInt(ring.keep/reportShare, 10))
	w.Header().Set(headerReportEvery, pace(s.Stall).String())
	w.WriteHeader(http.StatusOK)
	// Ending the turn must not wait for a write that the joiner does not take.
	defer context.AfterFunc(ctx, func() { out.interrupt(context.Cause(ctx)) })()
	if err := out.Flush(); err != nil { // without the headers, a cut looks to the joiner like no answer
		return false, err
	}
	rest := s.sendRest
	if a.lane != noLane {
		rest = s.sendLane
	}
	if err := rest(ctx, a); err != nil && !errors.Is(err, errEnded) {
		return false, err
	}
	<-o.pumped
	if err := out.extend(); err != nil { // net/http writes the trailers after the handler returns
		return false, err
	}
	status, raw, digest, err := o.trailers()
	if err != nil {
		w.Header().Set(trailerError, oneLine(err))
	}
	w.Header().Set(trailerStatus, status)
	w.Header().Set(trailerBytes, strconv.FormatInt(raw, 10))
	w.Header().Set(trailerDigest, digest)
	return true, err
}

// sendRest sends the rest of a stream. It returns errEnded when the clone was ended.
func (s *Server) sendRest(ctx context.Context, a *attachment) error {
	for {
		p, err := a.ring.next(ctx, readSize)
		if err != nil || len(p) == 0 {
			return err
		}
		if err := s.Throttle.wait(ctx, len(p)); err != nil {
			return err
		}
		n, err := a.out.Write(p)
		a.ring.take(n)
		if err == nil && !a.ring.ready() {
			err = a.out.Flush() // the joiner gets everything while the tool is silent
		}
		if err != nil {
			return err
		}
	}
}

// sendLane sends the rest of a lane. It returns errEnded when the clone was ended, which may be in
// the middle of a stripe.
func (s *Server) sendLane(ctx context.Context, a *attachment) error {
	for {
		next, err := a.ring.nextStripe(ctx, a.lane)
		if err != nil || next.size() == 0 {
			return err
		}
		if _, err := a.out.Write(next.frame()); err != nil {
			return err
		}
		for _, bytes := range next.bytes {
			for p := range slices.Chunk(bytes, readSize) {
				if err := s.Throttle.wait(ctx, len(p)); err != nil {
					return err
				}
				n, err := a.out.Write(p)
				a.ring.takeLane(a.lane, next, n)
				if err != nil {
					return err
				}
			}
		}
		if err := a.out.Flush(); err != nil { // a stripe is of no use without its last byte
			return err
		}
	}
}

// sender writes to a joiner. The joiner has stall for each piece, and each of its reports extends
// that. Once it has reported, it has to go on reporting.
type sender struct {
	w       http.ResponseWriter
	control *http.ResponseController
	gather  *gatherConn // nil without TLS
	stall   time.Duration
	silent  func()      // called when a joiner stops reporting
	ended   atomic.Bool // the clone was ended
	left    atomic.Bool // the joiner has another connection, or left

	mu      sync.Mutex
	silence *time.Timer // nil before the first report
	stopped bool
}

func newSender(w http.ResponseWriter, stall time.Duration) *sender {
	return &sender{w: w, control: http.NewResponseController(w), stall: stall}
}

// lives notes a report of the joiner.
func (o *sender) lives() {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.stopped:
		return
	case o.silence == nil:
		o.silence = time.AfterFunc(o.stall, o.silent)
	default:
		o.silence.Reset(o.stall)
	}
	_ = o.extend() // the next write fails
}

// stop ends the watch over reports.
func (o *sender) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = true
	if o.silence != nil {
		o.silence.Stop()
	}
}

func (o *sender) Write(p []byte) (int, error) {
	if err := o.extend(); err != nil {
		return 0, err
	}
	n, err := o.gather.during(func() (int, error) { return o.w.Write(p) })
	return n, o.explain(err)
}

// Flush sends what net/http has buffered.
func (o *sender) Flush() error {
	if err := o.extend(); err != nil {
		return err
	}
	return o.explain(o.control.Flush())
}

func (o *sender) explain(err error) error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case o.left.Load():
		return fmt.Errorf("the joiner has another connection, or left: %w", err)
	}
	return fmt.Errorf("the joiner took no byte for %v: %w", o.stall, err)
}

// interrupt ends a write: at once when the joiner has another connection or left; after endGrace
// when the clone was ended.
func (o *sender) interrupt(cause error) {
	if errors.Is(cause, errEnded) {
		o.ended.Store(true)
		_ = o.control.SetWriteDeadline(time.Now().Add(endGrace))
		return
	}
	o.left.Store(true)
	_ = o.control.SetWriteDeadline(time.Now())
}

// extend gives the joiner stall for the next piece. interrupt sets the last deadline, also when it
// is called between the two looks here.
func (o *sender) extend() error {
	if o.ended.Load() || o.left.Load() {
		return nil
	}
	err := o.control.SetWriteDeadline(time.Now().Add(o.stall))
	switch {
	case err != nil:
		return fmt.Errorf("set the write deadline: %w", err)
	case o.left.Load():
		return o.control.SetWriteDeadline(time.Now())
	case o.ended.Load():
		return o.control.SetWriteDeadline(time.Now().Add(endGrace))
	}
	return nil
}

func setHeader(h http.Header, v Header, at place) {
	h.Set("Content-Type", contentType)
	if at.lane != noLane {
		h.Set("Content-Type", contentTypeLane)
		h.Set(headerConnections, strconv.Itoa(v.Connections))
		h.Set(headerLane, strconv.Itoa(at.lane))
	}
	h.Set("Trailer", trailerStatus+", "+trailerBytes+", "+trailerDigest+", "+trailerError)
	h.Set(headerStream, v.StreamID)
	h.Set(headerEngine, v.Engine)
	h.Set(headerServerVersion, v.ServerVersion)
	h.Set(headerToolVersion, v.ToolVersion)
	h.Set(headerRole, string(v.Role))
	h.Set(headerOrigin, string(v.Origin))
	h.Set(headerEstimate, strconv.FormatInt(v.EstimatedBytes, 10))
	h.Set(headerNeeded, strconv.FormatInt(v.NeededBytes, 10))
	h.Set(headerEncoding, string(v.Encoding))
	h.Set(headerOffset, strconv.FormatInt(at.offset, 10))
}

// choose returns the first known encoding of a joiner's list.
func choose(list string) Encoding {
	for name := range strings.SplitSeq(list, ",") {
		switch e := Encoding(strings.TrimSpace(name)); e {
		case None, Zstd:
			return e
		}
	}
	return None
}

// oneLine makes an error fit into a header. Of a long error it keeps the beginning, which says what
// failed, and the end, which has the tool's last lines.
func oneLine(err error) string {
	if err == nil {
		return "it has ended"
	}
	const most = 2000
	text := []byte(err.Error())
	if len(text) > most {
		text = append(text[:most/2], text[len(text)-most/2:]...)
	}
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = ' '
		}
	}
	return string(text)
}

func newStreamID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}
