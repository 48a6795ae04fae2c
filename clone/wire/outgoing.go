package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	// readSize is how much is taken from a tool, and sent, at a time.
	readSize = 256 << 10
	// aheadSize is how far a backup may run ahead of the network.
	aheadSize = 12 << 20
	// keepSlack is what the replay buffer holds beyond both kernels' socket buffers: what lies in the two programs.
	keepSlack = 2 << 20
	// minKeep and maxKeep bound the replay buffer: whatever the kernels say, memory stays flat.
	minKeep = 8 << 20
	maxKeep = 48 << 20
	// zstdWindow is how far back a donor's encoder looks, and zstdMaxWindow what a joiner's decoder has memory for.
	zstdWindow    = 1 << 20
	zstdMaxWindow = 8 << 20
	// promptSize is how much of the beginning of a stream leaves at once, whatever the encoding
	// would rather gather: the first bytes may be all for hours, and a joiner that has none is
	// told that it waits, and cannot come back.
	promptSize = 64 << 10
)

// outgoing is one clone that is being given. It outlives the connections on which it travels.
type outgoing struct {
	id, member string
	begun      time.Time
	cancel     context.CancelCauseFunc
	onEnd      func(func()) (stop func() bool) // calls it once somebody has ended the clone
	pumped     chan struct{}                   // closed when the backup has ended
	done       chan struct{}                   // closed when it takes no slot any more
	encoding   Encoding

	mu      sync.Mutex
	replay  *replay // nil before the backup began, and when nobody can come back for it
	backup  Backup
	raw     int64  // bytes of the xbstream made so far
	digest  string // of all of it, once it is whole
	err     error  // why it is not whole
	settled bool
	serving *attachment // the connection on which it travels now
	grace   *time.Timer // runs while there is none
	arrived time.Time   // when a report last said that bytes arrive, or that all did which were sent
}

// attachment is one connection's turn at a stream.
type attachment struct {
	out   *sender
	leave context.CancelCauseFunc
	left  chan struct{}
}

func (o *outgoing) isSettled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.settled
}

// isEnded says whether somebody has ended the clone.
func (o *outgoing) isEnded() bool { return !o.onEnd(func() {})() }

func (o *outgoing) ring() *replay {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.replay
}

// turn is the connection on which the stream travels now, or nil.
func (o *outgoing) turn() *attachment {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.serving
}

// progress is how much of the xbstream has been made, and of how much.
func (o *outgoing) progress() (raw, total int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw, o.backup.Header.EstimatedBytes
}

// pump brings the backup's bytes into the replay buffer until its end, and finishes it.
func (o *outgoing) pump(ctx context.Context) {
	defer close(o.pumped)
	digest := newDigest()
	ring := o.ring()
	err := o.encode(ctx, ring, func(p []byte) {
		_, _ = digest.Write(p) // never fails, see hash.Hash
		o.mu.Lock()
		o.raw += int64(len(p))
		o.mu.Unlock()
	})
	err = errors.Join(err, o.backup.Finish())
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	o.mu.Lock()
	o.err, o.digest = err, digestString(digest)
	o.mu.Unlock()
	ring.end()
}

// encode moves the stream, and shows each piece of it to see.
func (o *outgoing) encode(ctx context.Context, ring *replay, see func([]byte)) error {
	space := func(limit int) ([]byte, error) { return ring.space(ctx, limit) }
	if o.encoding == Zstd {
		return compress(replayWriter{space, ring}, o.backup.Stream, see)
	}
	for {
		p, err := space(readSize)
		if err != nil {
			return err
		}
		n, err := o.backup.Stream.Read(p)
		see(p[:n])
		ring.commit(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func compress(to io.Writer, from io.Reader, see func([]byte)) error {
	z, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderCRC(false)) // it would be the trailer's digest once more: xxh64 of the same bytes
	if err != nil {
		return fmt.Errorf("start zstd: %w", err)
	}
	buf := make([]byte, readSize)
	total := int64(0)
	for {
		n, err := from.Read(buf)
		see(buf[:n])
		if _, err := z.Write(buf[:n]); err != nil {
			return errors.Join(err, z.Close())
		}
		if total += int64(n); n > 0 && total <= promptSize && err == nil {
			if err := z.Flush(); err != nil {
				return errors.Join(err, z.Close())
			}
		}
		if errors.Is(err, io.EOF) {
			return z.Close()
		}
		if err != nil {
			return errors.Join(err, z.Close())
		}
	}
}

// trailers are what the end of the stream proves, or why it came early.
func (o *outgoing) trailers() (status string, raw int64, digest string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	status = "0"
	if o.err != nil {
		status = "1"
	}
	return status, o.raw, o.digest, o.err
}

// attach makes the caller the one who sends the stream, once the one before has left.
func (o *outgoing) attach(ctx context.Context, out *sender) (context.Context, *attachment) {
	ctx, leave := context.WithCancelCause(ctx)
	a := &attachment{out: out, leave: leave, left: make(chan struct{})}
	out.silent = func() { leave(errSilent) }
	for {
		o.mu.Lock()
		before := o.serving
		if before == nil {
			o.serving = a
			if o.grace != nil {
				o.grace.Stop()
				o.grace = nil
			}
			o.mu.Unlock()
			return ctx, a
		}
		o.mu.Unlock()
		before.leave(errTakenOver)
		<-before.left
	}
}

// detach ends the caller's turn. If nobody else has one within grace, the stream ends.
func (o *outgoing) detach(a *attachment, grace time.Duration, expired func()) {
	a.leave(nil)
	a.out.stop()
	o.mu.Lock()
	o.serving = nil
	o.grace = time.AfterFunc(grace, expired)
	o.mu.Unlock()
	close(a.left)
}

// report takes the joiner's word that it lives and has all bytes before offset: its connection gets
// time for the next piece, or it gets grace for another one. A report changes nothing when no byte has
// arrived for longer than patience although there were some. It is false when the stream has ended.
func (o *outgoing) report(offset int64, patience, grace time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.replay == nil || o.settled {
		return false
	}
	further, all := o.replay.confirm(offset)
	if further || o.arrived.IsZero() || all && o.serving != nil {
		o.arrived = time.Now()
	}
	switch {
	case time.Since(o.arrived) > patience:
	case o.serving != nil:
		o.serving.out.lives()
	case o.grace != nil:
		o.grace.Reset(grace)
	}
	return true
}

// forget lets go of the memory. Nobody may serve the stream any more.
func (o *outgoing) forget() {
	o.mu.Lock()
	if o.grace != nil {
		o.grace.Stop()
	}
	o.replay = nil
	o.mu.Unlock()
	debug.FreeOSMemory()
}

// giving describes the stream to others.
func (o *outgoing) giving() Giving {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := Giving{
		Stream: o.id, Joiner: o.member, Bytes: o.raw, Total: o.backup.Header.EstimatedBytes,
		Seconds: time.Since(o.begun).Seconds(), Connected: o.serving != nil,
	}
	if o.replay != nil {
		g.Sent = o.replay.position()
	}
	if o.backup.Phase != nil {
		g.Phase = o.backup.Phase()
	}
	if g.Seconds > 0 {
		g.BytesPerSecond = float64(g.Bytes) / g.Seconds
	}
	return g
}
