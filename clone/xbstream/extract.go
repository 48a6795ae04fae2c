package xbstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
)

const (
	bufferSize  = 1 << 20 // one piece of payload on its way to a worker: large enough for a disk that is given one at a time
	laneDepth   = 4       // pieces that may wait for one worker
	spare       = 4       // buffers beyond those that fill the workers' lanes
	packedDepth = 2       // pieces that may wait for one decoder
)

// Extract unpacks the stream that r delivers into root. It succeeds only if every chunk is sound,
// every file is closed and without a gap, and there is at least one file. It cannot see that whole
// files are missing at the end: that takes an end mark outside of the stream.
//
// Files that end in .zst or .lz4, as the tools' --compress makes them, are decompressed and lose
// the suffix. Files in quicklz's format and encrypted ones are refused with ErrUnsupported. Holes
// in sparse chunks stay holes. Nothing is ever written over: root should be an empty directory, and
// what exists in it is an error that is fs.ErrExist. Directories may exist, if they are not links.
// Nothing is synced.
//
// An error about the stream is an *Error and ErrCorrupt, ErrTruncated or ErrUnsupported. An error
// of r, or of the file system (syscall.ENOSPC), is neither and comes wrapped. What was unpacked up
// to then stays behind, for the caller to delete. Whatever the outcome, no goroutine is left and no
// file open.
//
// When ctx ends, so do the workers, and the error wraps its cause. But a Read of r that blocks is
// not woken up, by ctx as little as by a full disk: have ctx close the source, with
// context.AfterFunc for one, and give the source a deadline.
func Extract(ctx context.Context, r io.Reader, root *os.Root, opts Options) (Summary, error) {
	if opts.Workers <= 0 {
		opts.Workers = min(max(runtime.GOMAXPROCS(0), 2), 4)
	}
	if opts.DirMode == 0 {
		opts.DirMode = 0o750
	}
	if opts.FileMode == 0 {
		opts.FileMode = 0o640
	}
	in := newIntake(r, opts)
	g, gctx := errgroup.WithContext(ctx)
	x := &extractor{in: in, root: root, start: func(f func(context.Context) error) {
		g.Go(func() error { return f(gctx) })
	}}
	in.taker = x
	buffers := opts.Workers*laneDepth + spare
	x.free = make(chan []byte, buffers)
	for range buffers {
		x.free <- nil // allocated when it is needed
	}
	for range opts.Workers {
		l := make(lane, laneDepth)
		x.lanes = append(x.lanes, l)
		x.start(func(ctx context.Context) error { return x.work(ctx, l) })
	}
	x.start(func(ctx context.Context) error {
		for _, l := range x.lanes {
			defer close(l)
		}
		return in.run(ctx)
	})
	err := withCause(ctx, g.Wait())
	return in.result(err), err
}

// withCause adds the reason why ctx ended to an error that may be its consequence.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// job is a piece of payload for a file, or its end.
type job struct {
	m      *member
	buf    []byte // nil: the file ends
	offset int64  // place of the piece; size of the file at its end
}

// lane leads jobs to a worker, or to the decoder of one file.
type lane chan job

// extractor is the taker of Extract.
type extractor struct {
	in    *intake
	root  *os.Root
	start func(func(context.Context) error)
	free  chan []byte // buffers, bufferSize each or nil
	lanes []lane
	next  int // lane of the next file
}

// mkdir makes a directory of which the stream has just spoken for the first time.
func (x *extractor) mkdir(name string) error {
	err := x.root.Mkdir(name, x.in.opts.DirMode)
	if errors.Is(err, fs.ErrExist) {
		var info fs.FileInfo
		if info, err = x.root.Lstat(name); err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
		}
	}
	if err != nil {
		return fmt.Errorf("unpack stream: %w", err)
	}
	return nil
}

// begin finds a lane. Decoders pull their input, so that each compressed file has a goroutine and a
// lane to itself.
func (x *extractor) begin(m *member) error {
	if m.codec == plain {
		m.lane = x.lanes[x.next%len(x.lanes)]
		x.next++
		return nil
	}
	m.lane = make(lane, packedDepth)
	x.start(func(ctx context.Context) error { return x.unpack(ctx, m) })
	return nil
}

func (x *extractor) payload(ctx context.Context, m *member, c Chunk) error {
	return pieces(c, bufferSize, func(offset, n int64) error {
		buf, err := x.buffer(ctx)
		if err != nil {
			return err
		}
		buf = buf[:n]
		if _, err := io.ReadFull(x.in.r, buf); err != nil {
			return err
		}
		x.in.progress(m)
		return send(ctx, m, job{m, buf, offset})
	})
}

func (x *extractor) end(ctx context.Context, m *member) error {
	return send(ctx, m, job{m, nil, m.extents.size})
}

func send(ctx context.Context, m *member, j job) error {
	select {
	case m.lane <- j:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (x *extractor) buffer(ctx context.Context) ([]byte, error) {
	select {
	case buf := <-x.free:
		if buf == nil {
			buf = make([]byte, bufferSize)
		}
		return buf, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// release gives a buffer back. There are no more of them than x.free has room for.
func (x *extractor) release(buf []byte) { x.free <- buf[:cap(buf)] }
