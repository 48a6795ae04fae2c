package wire

import (
	"context"
	"errors"
	"sync"
)

// errGone is returned for a position that is not, or no longer, in the replay buffer.
var errGone = errors.New("the position is not in the replay buffer")

// replay is a ring of the last bytes of one encoded stream. Bytes stay for a while after they were
// read, so that a reader whose connection broke can begin again a little earlier. There is one
// writer and at most one reader at a time.
//
// The writer waits when it would overwrite bytes less than keep behind the reader.
type replay struct {
	buf  []byte
	keep int64

	mu    sync.Mutex
	moved chan struct{} // closed and replaced when a field below changes
	head  int64         // bytes written
	read  int64         // position of the reader
	have  int64         // bytes that the joiner has reported, for a moment more than read; -1 before the first report
	ended bool          // the writer has finished
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
		room := int64(len(r.buf)) - (r.head - max(r.read-r.keep, 0))
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

// seek moves the reader to a position, or fails with errGone.
func (r *replay) seek(at int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at > r.head || at < max(r.head-int64(len(r.buf)), 0) || at < r.read-r.keep {
		return errGone
	}
	r.read = at
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
