package xbstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// output is a file that is being written.
//
// Its bytes go past the page cache where the file system lets them: nothing reads them soon,
// whoever publishes the copy waits for the disk anyway, and the cache would count as memory of the
// container.
type output struct {
	file   *os.File
	kept   *capture // nil if the content is not wanted
	name   string
	end    int64 // where the last byte written so far ends
	direct bool  // the file is open with O_DIRECT
}

// directUnit is what O_DIRECT wants addresses, lengths and offsets to be multiples of, on nearly
// every disk: see open(2).
const directUnit = 4 << 10

// create makes the file of m, which must not exist.
func (x *extractor) create(m *member) (*output, error) {
	file, err := x.root.OpenFile(m.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, x.in.opts.FileMode)
	if err != nil {
		return nil, fmt.Errorf("unpack file %q: %w", m.name, err)
	}
	direct := m.codec == plain && setDirect(file, true) == nil
	return &output{file: file, kept: m.kept, name: m.name, direct: direct}, nil
}

func (o *output) writeAt(p []byte, offset int64) error {
	if o.kept != nil {
		if err := o.kept.writeAt(p, offset); err != nil {
			return err
		}
	}
	if err := o.put(p, offset); err != nil {
		return fmt.Errorf("unpack file %q: %w", o.name, err)
	}
	o.end = max(o.end, offset+int64(len(p)))
	return nil
}

// put writes past the page cache as long as it can: a file's end rarely is aligned.
func (o *output) put(p []byte, offset int64) error {
	if o.direct && aligned(p, offset) {
		_, err := o.file.WriteAt(p, offset)
		if !errors.Is(err, unix.EINVAL) {
			return err
		} // its blocks are larger
	}
	if o.direct {
		o.direct = false
		if err := setDirect(o.file, false); err != nil {
			return err
		}
	}
	_, err := o.file.WriteAt(p, offset)
	return err
}

// aligned says whether p can be written to offset with O_DIRECT.
func aligned(p []byte, offset int64) bool {
	address := uintptr(unsafe.Pointer(unsafe.SliceData(p))) //nolint:gosec // it is only looked at
	return address%directUnit == 0 && len(p)%directUnit == 0 && offset%directUnit == 0
}

// setDirect says whether a file's bytes go past the page cache. Not every file system can do that.
func setDirect(file *os.File, on bool) error {
	flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(file.Fd(), unix.F_SETFL, flags)
	return err
}

// Write appends.
func (o *output) Write(p []byte) (int, error) {
	if err := o.writeAt(p, o.end); err != nil {
		return 0, err
	}
	return len(p), nil
}

// finish closes a file that is complete. A hole at its end becomes one on disk.
func (o *output) finish(size int64) error {
	if o.kept != nil {
		if err := o.kept.grow(size); err != nil {
			return err
		}
	}
	var err error
	if size > o.end {
		err = o.file.Truncate(size)
	}
	if err := errors.Join(err, o.file.Close()); err != nil {
		return fmt.Errorf("unpack file %q: %w", o.name, err)
	}
	return nil
}

// work writes the files of one lane until it is closed, and ends early with ctx.
func (x *extractor) work(ctx context.Context, l lane) error {
	open := make(map[*member]*output)
	defer func() {
		for _, o := range open {
			_ = o.file.Close() // incomplete: the run has failed
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case j, ok := <-l:
			if !ok {
				return nil
			}
			if err := x.write(open, j); err != nil {
				return keptError(j.m, err)
			}
		}
	}
}

// write does one job for an uncompressed file.
func (x *extractor) write(open map[*member]*output, j job) error {
	o := open[j.m]
	if o == nil {
		var err error
		if o, err = x.create(j.m); err != nil {
			return err
		}
		open[j.m] = o
	}
	if j.buf == nil {
		delete(open, j.m)
		return o.finish(j.offset)
	}
	err := o.writeAt(j.buf, j.offset)
	x.release(j.buf)
	return err
}

// unpack writes one compressed file.
func (x *extractor) unpack(ctx context.Context, m *member) error {
	o, err := x.create(m)
	if err != nil {
		return err
	}
	src := &source{x: x, lane: m.lane, done: ctx.Done()}
	reason, err := m.codec.inflate(o, src)
	switch {
	case ctx.Err() != nil && !src.ended:
		err = context.Cause(ctx) // the decoder's complaint is but a consequence
	case reason != "":
		err = m.corrupt(src.taken, reason)
	}
	if err != nil {
		_ = o.file.Close() // incomplete: the run has failed
		return keptError(m, err)
	}
	return keptError(m, o.finish(o.end))
}

// keptError says of which file the content was too long to be kept.
func keptError(m *member, err error) error {
	if errors.Is(err, errCapture) {
		return m.corrupt(-1, err.Error())
	}
	return err
}

// source is the payload of one compressed file, as its decoder reads it.
type source struct {
	x     *extractor
	lane  lane
	done  <-chan struct{}
	buf   []byte // of the job in hand; nil if there is none
	rest  []byte // of buf
	taken int64
	ended bool
}

var errStopped = errors.New("run has ended")

func (s *source) Read(p []byte) (int, error) {
	if s.ended {
		return 0, io.EOF
	}
	if len(s.rest) == 0 {
		if s.buf != nil {
			s.x.release(s.buf)
			s.buf = nil
		}
		select {
		case <-s.done:
			return 0, errStopped
		case j := <-s.lane:
			if j.buf == nil {
				s.ended = true
				return 0, io.EOF
			}
			s.buf, s.rest = j.buf, j.buf
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	s.taken += int64(n)
	return n, nil
}
