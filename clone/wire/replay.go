package wire

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// errGone is returned for a position that is not, or no longer, in the replay buffer.
var errGone = errors.New("the position is not in the replay buffer")

// replay is a ring of the last bytes of one encoded stream. Bytes stay for a while after they were
// read, so that a reader whose connection broke can begin again a little earlier. There is one
// writer and at most one reader at a time.
//
// The writer waits when it would overwrite bytes less than keep behind the reader.
//
// A ring of lanes has one reader for each lane, and the joiner reports from the beginning. Its
// writer waits when it would overwrite bytes that the joiner has not reported, or that a lane has
// yet to send.
type replay struct {
	buf  []byte
	keep int64

	mu    sync.Mutex
	moved chan struct{} // closed and replaced when a field below changes
	head  int64         // bytes written
	read  int64         // position of the reader
	have  int64         // bytes that the joiner has reported, for a moment more than read; -1 before the first report
	ended bool          // the writer has finished
	lanes []int64       // the position of each lane's reader, see takeLane; nil without lanes
}

// newReplay makes a ring that keeps keep bytes behind its reader and lets the writer be ahead bytes
// before it. The system provides the memory when it is first used.
func newReplay(keep, ahead int64) *replay {
	return &replay{buf: make([]byte, keep+ahead), keep: keep, have: -1, moved: make(chan struct{})}
}

// change wakes all who wait. r.mu is held.
func (r *replay) change() {
	close(r.moved)
	r.moved = make(chan struct{})
}

// space waits for free room and returns it, at most limit bytes. The writer fills it and calls
// commit.
func (r *replay) space(ctx context.Context, limit int) ([]byte, error) {
	for {
		r.mu.Lock()
		room := int64(len(r.buf)) - (r.head - r.kept())
		at, moved := r.head%int64(len(r.buf)), r.moved
		r.mu.Unlock()
		if room > 0 {
			return r.buf[at:min(at+min(room, int64(limit)), int64(len(r.buf)))], nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// commit adds n bytes that were written to space.
func (r *replay) commit(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.head += int64(n)
	r.change()
}

// end marks the end of the stream.
func (r *replay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.change()
}

// kept is the position before which the writer may overwrite. r.mu is held.
func (r *replay) kept() int64 {
	if r.lanes != nil {
		return min(r.have, slices.Min(r.lanes))
	}
	return max(r.read-r.keep, 0)
}

// seek moves the reader to a position, or fails with errGone. A ring of lanes becomes one without.
func (r *replay) seek(at int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at > r.head || at < max(r.head-int64(len(r.buf)), 0) || at < r.kept() {
		return errGone
	}
	if r.lanes != nil && r.have == 0 { // no report has come, and perhaps none can
		r.have = -1
	}
	r.read, r.lanes = at, nil
	if r.have >= 0 {
		r.have = at
	}
	r.change()
	return nil
}

// confirm notes that the joiner has all bytes before a position. From the first call on, the reader
// gets at most keep bytes beyond it. further says that the joiner has more than before, all that it
// has everything that the reader has taken.
//
// The position may be ahead of the reader: a report can arrive before take is called.
func (r *replay) confirm(at int64) (further, all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if further = at > r.have && at <= r.head; further {
		r.have = at
		r.change()
	}
	return further, r.have >= r.read
}

// reported says whether the joiner reports.
func (r *replay) reported() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.have >= 0
}

// split makes a new ring one of n lanes.
func (r *replay) split(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.have, r.lanes = 0, make([]int64, n)
	for i := range r.lanes {
		r.lanes[i] = int64(i) * stripeSize
	}
}

// positions are those of the lanes; none without lanes.
func (r *replay) positions() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lanes)
}

// seekLane moves a lane's reader to the beginning of one of its stripes, or fails with errGone.
func (r *replay) seekLane(lane int, at int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.inLane(lane, at) {
		return errGone
	}
	r.lanes[lane] = at
	r.change()
	return nil
}

// inLane says whether a position is the beginning of a stripe of a lane that is kept, or that comes
// next. r.mu is held.
func (r *replay) inLane(lane int, at int64) bool {
	n := int64(len(r.lanes))
	return lane >= 0 && int64(lane) < n && at%stripeSize == 0 && at/stripeSize%n == int64(lane) &&
		at >= r.kept() && at <= r.head+n*stripeSize
}

// hasInLane is inLane for others.
func (r *replay) hasInLane(lane int, at int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inLane(lane, at)
}

// nextStripe waits until the stripe at a lane's position is whole, and returns it; its bytes stay
// valid until takeLane has taken them all. It returns no bytes at the end of the stream.
func (r *replay) nextStripe(ctx context.Context, lane int) (stripe, error) {
	for {
		r.mu.Lock()
		if lane >= len(r.lanes) {
			r.mu.Unlock()
			return stripe{}, errGone
		}
		s := stripe{at: r.lanes[lane]}
		whole := r.head >= s.at+stripeSize || r.ended
		if whole && r.head > s.at {
			size := int64(len(r.buf))
			from, n := s.at%size, min(r.head-s.at, stripeSize)
			first := min(n, size-from)
			s.bytes = [2][]byte{r.buf[from : from+first], r.buf[:n-first]}
		}
		moved := r.moved
		r.mu.Unlock()
		if whole {
			return s, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return stripe{}, context.Cause(ctx)
		}
	}
}

// takeLane moves a lane's reader forward by n bytes of the stripe s; behind its last byte it is at
// the beginning of the lane's next stripe.
func (r *replay) takeLane(lane int, s stripe, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if lane >= len(r.lanes) {
		return // the lanes are over
	}
	at := r.lanes[lane] + int64(n)
	r.read = max(r.read, at)
	if at == s.at+int64(s.size()) {
		at = s.at + int64(len(r.lanes))*stripeSize
	}
	r.lanes[lane] = at
	r.change()
}

// available is how many bytes the reader may take now. r.mu is held.
func (r *replay) available() int64 {
	n := r.head - r.read
	if r.have >= 0 {
		n = min(n, r.have+r.keep-r.read)
	}
	return n
}

// next waits for bytes at the reader's position and returns at most limit of them, none at the end
// of the stream. They stay valid until the reader has taken keep more.
func (r *replay) next(ctx context.Context, limit int) ([]byte, error) {
	for {
		r.mu.Lock()
		n := r.available()
		at, ended, moved := r.read%int64(len(r.buf)), r.ended && r.read == r.head, r.moved
		r.mu.Unlock()
		if n > 0 {
			return r.buf[at:min(at+min(n, int64(limit)), int64(len(r.buf)))], nil
		}
		if ended {
			return nil, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// begins waits for the first byte. It returns false for a stream without one.
func (r *replay) begins(ctx context.Context) (bool, error) {
	for {
		r.mu.Lock()
		head, ended, moved := r.head, r.ended, r.moved
		r.mu.Unlock()
		if head > 0 || ended {
			return head > 0, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// ready says whether next returns without waiting.
func (r *replay) ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.available() > 0 || r.ended && r.read == r.head
}

// take moves the reader forward by n bytes.
func (r *replay) take(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read += int64(n)
	r.change()
}

// awaited says that the joiner has all that was written, but for what waits for the rest of a stripe:
// it waits for the writer.
func (r *replay) awaited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	has := r.have
	if has < 0 { // it does not report
		has = r.read
	}
	return !r.ended && r.head-has <= int64(len(r.lanes))*stripeSize
}

// position is how many bytes the reader has taken.
func (r *replay) position() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read
}

// replayWriter is the ring as an io.Writer, for encoders.
type replayWriter struct {
	space func(limit int) ([]byte, error)
	r     *replay
}

// Write copies p into the ring and waits for room.
func (w replayWriter) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		room, err := w.space(len(p) - done)
		if err != nil {
			return done, err
		}
		n := copy(room, p[done:])
		w.r.commit(n)
		done += n
	}
	return done, nil
}
