package xbstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

const (
	maxOpen    = 512     // files open at the same time; the tools open one per thread and one for the redo log
	maxPacked  = 64      // compressed ones among them, each with a decoder of up to maxWindow and a little more
	maxCapture = 1 << 20 // bytes kept of one file; the longest content of interest is a GTID set
)

// Options say how a stream is unpacked or checked. The zero value is fine.
type Options struct {
	// Workers is the number of goroutines that write files: 0 means one per CPU, though 2 at least
	// and 4 at most. A file stays with one of them. Check needs none.
	Workers int

	// Capture says of a file, by the name that it has when unpacked, whether its content is to be
	// returned in Summary.Captured. It is for the small files in which a backup tool says what it
	// did: one of more than 1 MiB ends the run with ErrCorrupt. All that it chooses is in memory
	// until the end. It is called once a file, by the goroutine that reads the stream.
	Capture func(name string) bool

	// Progress is called after every chunk, and in Extract after every MiB, by the goroutine that
	// reads the stream.
	Progress func(Progress)

	// DirMode and FileMode are the permissions of what Extract creates, before umask: 0 means 0750
	// and 0640, as the servers have them.
	DirMode, FileMode fs.FileMode
}

// Progress says how far a run has come.
type Progress struct {
	Pos   int64  // bytes of the stream read
	Files int    // files complete
	File  string // the file that the last bytes were of, by its name when unpacked
}

// Summary says what a stream held. After an error it tells how far the run had come.
type Summary struct {
	Files    int               // files complete
	Bytes    int64             // payload, as it is in the stream: compressed if the files are, and without holes
	LastFile string            // the file that was completed last, by its name when unpacked
	Captured map[string][]byte // contents of the files that Options.Capture chose, unpacked; nil after an error
}

// member is a file of the stream, from its first chunk to its End.
type member struct {
	path    string // in the stream
	name    string // when unpacked
	start   int64  // where its first chunk begins in the stream
	codec   codec
	extents extents
	kept    *capture // nil if Options.Capture does not want it
	lane    lane     // Extract only
}

// taker is what becomes of the files: Extract writes them, Check does not. All methods are called
// by the goroutine that reads the stream.
type taker interface {
	mkdir(name string) error
	begin(m *member) error
	payload(ctx context.Context, m *member, c Chunk) error // reads the chunk's payload
	end(ctx context.Context, m *member) error
}

// intake reads a stream and holds it to the rules that go beyond single chunks.
type intake struct {
	r       *Reader
	opts    Options
	taker   taker
	names   *names
	open    map[string]*member // by path
	packed  int                // compressed ones in open
	chosen  []*member          // what Options.Capture chose
	summary Summary
}

func newIntake(r io.Reader, opts Options) *intake {
	return &intake{r: NewReader(r), opts: opts, names: newNames(), open: make(map[string]*member)}
}

// run reads the stream to its end.
func (in *intake) run(ctx context.Context) error {
	for ctx.Err() == nil {
		c, err := in.r.Next()
		if err == io.EOF { //nolint:errorlint // one that the source has wrapped is a failure
			return in.finish()
		}
		if err != nil {
			return err
		}
		m := in.open[c.Path]
		if m == nil {
			if m, err = in.begin(c); err != nil {
				return err
			}
		}
		if c.Type == End {
			err = in.end(ctx, m, c)
		} else {
			err = in.payload(ctx, m, c)
		}
		if err != nil {
			return err
		}
		in.progress(m)
	}
	return context.Cause(ctx)
}

// begin takes up the file of which c is the first chunk.
func (in *intake) begin(c Chunk) (*member, error) {
	name, codec, reason := codecOf(c.Path)
	if reason != "" {
		return nil, &Error{Kind: ErrUnsupported, File: c.Path, Offset: -1, Pos: c.Start, Reason: reason}
	}
	name, err := CleanPath(name)
	if err != nil {
		return nil, corrupt(c, err.Error())
	}
	switch {
	case len(in.open) >= maxOpen, codec != plain && in.packed >= maxPacked:
		return nil, corrupt(c, "too many files open at the same time")
	}
	var broken error
	err = in.names.add(name, func(dir string) error {
		broken = in.taker.mkdir(dir)
		return broken
	})
	if broken != nil {
		return nil, broken
	}
	if err != nil {
		return nil, corrupt(c, err.Error())
	}
	m := &member{path: c.Path, name: name, start: c.Start, codec: codec}
	if in.opts.Capture != nil && in.opts.Capture(name) {
		m.kept = new(capture)
		in.chosen = append(in.chosen, m)
	}
	in.open[c.Path] = m
	if codec != plain {
		in.packed++
	}
	return m, in.taker.begin(m)
}

func (in *intake) payload(ctx context.Context, m *member, c Chunk) error {
	if m.codec != plain && (c.Type != Payload || c.Offset != m.extents.end) {
		return corrupt(c, "chunks of a compressed file do not follow one another")
	}
	if reason := m.extents.add(c.Offset, c.Span); reason != "" {
		return corrupt(c, reason)
	}
	if err := in.taker.payload(ctx, m, c); err != nil {
		return err
	}
	in.summary.Bytes += c.Length
	return nil
}

func (in *intake) end(ctx context.Context, m *member, c Chunk) error {
	if e := &m.extents; !e.whole() {
		return &Error{
			Kind: ErrTruncated, File: m.path, Offset: e.end, Pos: c.Start,
			Reason: fmt.Sprintf("file is ended at %d bytes, and has a gap", e.size),
		}
	}
	delete(in.open, m.path)
	if m.codec != plain {
		in.packed--
	}
	if err := in.taker.end(ctx, m); err != nil {
		return err
	}
	in.summary.Files++
	in.summary.LastFile = m.name
	return nil
}

// finish judges the end of a stream.
func (in *intake) finish() error {
	e := &Error{Kind: ErrTruncated, Offset: -1, Pos: in.r.InputOffset(), Reason: "the stream holds no file"}
	if len(in.open) == 0 && in.summary.Files > 0 {
		return nil
	}
	for path, m := range in.open {
		if e.File == "" || path < e.File {
			e.File, e.Offset = path, m.extents.end
		}
	}
	if n := len(in.open); n > 0 {
		e.Reason = fmt.Sprintf("the stream ends before this file does; files open: %d", n)
	}
	return e
}

// result is the Summary after a run that ended with err.
func (in *intake) result(err error) Summary {
	if err == nil {
		in.summary.Captured = make(map[string][]byte, len(in.chosen))
		for _, m := range in.chosen {
			in.summary.Captured[m.name] = m.kept.content
		}
	}
	return in.summary
}

func (in *intake) progress(m *member) {
	if in.opts.Progress != nil {
		in.opts.Progress(Progress{Pos: in.r.InputOffset(), Files: in.summary.Files, File: m.name})
	}
}

// corrupt makes the error for a chunk that does not fit.
func corrupt(c Chunk, reason string) *Error {
	e := &Error{Kind: ErrCorrupt, File: c.Path, Offset: -1, Pos: c.Start, Reason: reason}
	if c.Type != End {
		e.Offset = c.Offset
	}
	return e
}

// corrupt makes the error for a file that does not fit as a whole.
func (m *member) corrupt(offset int64, reason string) *Error {
	return &Error{Kind: ErrCorrupt, File: m.path, Offset: offset, Pos: m.start, Reason: reason}
}

// pieces calls f for the runs of payload in the chunk, with the place of each in the file; none is
// longer than limit.
func pieces(c Chunk, limit int64, f func(offset, n int64) error) error {
	at := c.Offset
	run := func(left int64) error {
		for left > 0 {
			n := min(left, limit)
			if err := f(at, n); err != nil {
				return err
			}
			at += n
			left -= n
		}
		return nil
	}
	if c.Type != Sparse {
		return run(c.Length)
	}
	for _, e := range c.Map {
		at += int64(e.Skip)
		if err := run(int64(e.Length)); err != nil {
			return err
		}
	}
	return nil
}

// capture keeps the content of one file in memory.
type capture struct{ content []byte }

var errCapture = errors.New("file is too long to be one of those whose content is kept")

// grow makes the content size bytes long at least, with zeros.
func (c *capture) grow(size int64) error {
	if size > maxCapture {
		return errCapture
	}
	if n := size - int64(len(c.content)); n > 0 {
		c.content = append(c.content, make([]byte, n)...)
	}
	return nil
}

func (c *capture) writeAt(p []byte, offset int64) error {
	if offset > maxCapture {
		return errCapture
	}
	if err := c.grow(offset + int64(len(p))); err != nil {
		return err
	}
	copy(c.content[offset:], p)
	return nil
}

// Write appends.
func (c *capture) Write(p []byte) (int, error) {
	return len(p), c.writeAt(p, int64(len(c.content)))
}
