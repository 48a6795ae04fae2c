package xbstream

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
)

const (
	readAhead = 64 << 10 // headers are parsed in this buffer; larger reads of payload go past it
	maxNames  = 4096     // names remembered so that a chunk of a known file costs no allocation
	maxIdle   = 100      // reads without a byte or an error after which the source is given up, as in bufio
)

// Reader parses one stream, chunk after chunk. It is used like tar.Reader: Next moves to a chunk,
// Read gives its payload. Memory stays flat whatever the chunks' lengths. A Reader must not be used
// by two goroutines at once.
//
// A Reader looks at chunks one by one. That the chunks of a file fit together, that every file is
// closed, and that names do not clash is what Extract and Check add.
type Reader struct {
	src     *bufio.Reader
	pos     int64 // bytes of the stream taken so far
	chunk   Chunk
	payload bool   // the chunk's offset has been parsed
	left    int64  // payload bytes not yet given out
	crc     uint32 // of the map and the payload so far
	want    uint32 // the crc that the header promises
	names   map[string]string
	entries []Extent
	err     error // what ended the stream
}

// NewReader returns a Reader of the stream that r delivers. It reads ahead, by at most 64 KiB.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: bufio.NewReaderSize(r, readAhead), names: make(map[string]string)}
}

// InputOffset returns how many bytes of the stream have been taken, headers included.
func (r *Reader) InputOffset() int64 { return r.pos }

// Next moves to the next chunk and returns its header. What was left unread of the payload before
// is read and checked first. Chunks of unknown type that may be ignored are passed over, though not
// without a check.
//
// The error is io.EOF if the stream ends at the border of a chunk, which says nothing about its
// files. If it ends inside a chunk, or is wrong in another way, the error is an *Error of the kind
// ErrCorrupt. If the source fails, even with io.ErrUnexpectedEOF, the error wraps the source's and
// is no *Error. Compare with io.EOF by ==: a source may have wrapped one in an error of its own.
// Every error is final.
func (r *Reader) Next() (Chunk, error) {
	if err := r.discard(); err != nil {
		return Chunk{}, err
	}
	for {
		known, err := r.header()
		if err != nil {
			r.err = err
			return Chunk{}, err
		}
		if known {
			return r.chunk, nil
		}
		if err := r.discard(); err != nil {
			return Chunk{}, err
		}
	}
}

// Read gives the payload of the current chunk. At its end the error is io.EOF; before that the
// checksum has been compared, and if it is wrong the error is an *Error of the kind ErrCorrupt
// instead, which may come with the last bytes. Other errors are those of Next.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.left)]
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.fill(p)
	r.take(p[:n])
	if r.err = err; r.err == nil && r.left == 0 {
		r.err = r.checksum()
	}
	return n, r.err
}

// fill is one read of the source that gives a byte or an error.
func (r *Reader) fill(p []byte) (int, error) {
	for range maxIdle {
		n, err := r.src.Read(p)
		switch {
		case err == nil && n == 0:
			continue
		case err == nil, err == io.EOF && n > 0: // a source that ends says so again
			return n, nil
		case err == io.EOF:
			return 0, r.cut(0)
		}
		return n, r.broken(err)
	}
	return 0, r.broken(io.ErrNoProgress)
}

// take counts p as payload given out.
func (r *Reader) take(p []byte) {
	r.crc = crc32.Update(r.crc, crc32.IEEETable, p)
	r.left -= int64(len(p))
	r.pos += int64(len(p))
}

// discard reads and checks what is left of the payload.
func (r *Reader) discard() error {
	if r.err != nil {
		return r.err
	}
	if r.left == 0 {
		return nil
	}
	for r.left > 0 {
		if _, r.err = r.peek(1); r.err != nil {
			return r.err
		}
		b, _ := r.src.Peek(int(min(int64(r.src.Buffered()), r.left)))
		r.take(b)
		_, _ = r.src.Discard(len(b))
	}
	r.err = r.checksum()
	return r.err
}

// header parses the next header up to the payload. It says whether the chunk is of a known type.
func (r *Reader) header() (known bool, err error) {
	r.chunk, r.payload, r.crc = Chunk{Start: r.pos}, false, 0
	if _, err := r.src.Peek(1); err == io.EOF {
		return false, io.EOF
	} else if err != nil {
		return false, r.broken(err)
	}
	b, err := r.peek(headLen)
	if err != nil {
		return false, err
	}
	if !hasMagic(b) {
		return false, r.corrupt("no chunk begins here")
	}
	r.chunk.Flags, r.chunk.Type = b[len(magic)], ChunkType(b[len(magic)+1])
	size := binary.LittleEndian.Uint32(b[len(magic)+2:])
	if size == 0 || size > MaxPath {
		return false, r.corrupt(fmt.Sprintf("name of %d bytes, want 1 to %d", size, MaxPath))
	}
	n := headLen + int(size)
	if b, err = r.peek(n); err != nil {
		return false, err
	}
	switch r.chunk.Type {
	case End:
		if err := r.name(b[headLen:]); err != nil {
			return false, err
		}
		delete(r.names, string(b[headLen:]))
		r.skip(n)
		return true, nil
	case Payload, Sparse:
		if err := r.name(b[headLen:]); err != nil {
			return false, err
		}
		return true, r.body(n)
	}
	r.chunk.Path = string(b[headLen:])
	if r.chunk.Flags&FlagIgnorable == 0 {
		return false, r.corrupt(fmt.Sprintf("unknown chunk type 0x%02x", byte(r.chunk.Type)))
	}
	// The format text does not say what such a chunk looks like after its name. The tools parse it
	// like a payload chunk, so that is the only form a writer could have tested.
	return false, r.body(n)
}

// name sets the chunk's path. It allocates only for a file that it has not seen, or not for long.
func (r *Reader) name(raw []byte) error {
	name, ok := r.names[string(raw)]
	if !ok {
		path := string(raw)
		var err error
		if name, err = CleanPath(path); err != nil {
			r.chunk.Path = path
			return r.corrupt(err.Error())
		}
		if len(r.names) >= maxNames {
			clear(r.names)
		}
		r.names[path] = name
	}
	r.chunk.Path = name
	return nil
}

// body parses what follows the first n bytes of the header of a chunk with a payload.
func (r *Reader) body(n int) error {
	c := &r.chunk
	counted := 0
	if c.Type == Sparse {
		counted = 4
	}
	b, err := r.peek(n + counted + payloadLen)
	if err != nil {
		return err
	}
	b = b[n:]
	var entries uint32
	if counted > 0 {
		entries = binary.LittleEndian.Uint32(b)
		b = b[counted:]
	}
	length, offset := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	r.want = binary.LittleEndian.Uint32(b[16:])
	switch {
	case offset > math.MaxInt64:
		return r.corrupt("offset is too large")
	case length > MaxPayload:
		return r.corrupt(fmt.Sprintf("payload of %d bytes, want at most %d", length, MaxPayload))
	case entries > MaxMap:
		return r.corrupt(fmt.Sprintf("map of %d entries, want at most %d", entries, MaxMap))
	}
	c.Offset, c.Length, c.Span, r.payload = int64(offset), int64(length), int64(length), true
	r.skip(n + counted + payloadLen)
	if c.Type == Sparse {
		if err := r.sparseMap(int(entries)); err != nil {
			return err
		}
	}
	if !fits(c.Offset, c.Span) {
		return r.corrupt("chunk ends beyond the largest offset")
	}
	r.left = c.Length
	if r.left == 0 {
		return r.checksum()
	}
	return nil
}

// sparseMap reads the map of a sparse chunk.
func (r *Reader) sparseMap(n int) error {
	r.entries = r.entries[:0]
	for len(r.entries) < n {
		if _, err := r.peek(entryLen); err != nil {
			return err
		}
		b, _ := r.src.Peek(min(r.src.Buffered()/entryLen, n-len(r.entries)) * entryLen)
		r.crc = crc32.Update(r.crc, crc32.IEEETable, b)
		for ; len(b) > 0; b = b[entryLen:] {
			r.entries = append(r.entries, Extent{
				Skip:   binary.LittleEndian.Uint32(b),
				Length: binary.LittleEndian.Uint32(b[4:]),
			})
			r.skip(entryLen)
		}
	}
	c := &r.chunk
	c.Map = r.entries
	var length int64
	if length, c.Span = span(c.Map); length != c.Length {
		return r.corrupt(fmt.Sprintf("map is about %d bytes of payload, header about %d", length, c.Length))
	}
	return nil
}

// peek returns the next n bytes of the stream, which has to have them.
func (r *Reader) peek(n int) ([]byte, error) {
	b, err := r.src.Peek(n)
	switch err {
	case nil:
		return b, nil
	case io.EOF:
		return nil, r.cut(len(b))
	}
	return nil, r.broken(err)
}

// skip takes n bytes that were peeked at.
func (r *Reader) skip(n int) {
	_, _ = r.src.Discard(n)
	r.pos += int64(n)
}

func (r *Reader) checksum() error {
	if r.crc == r.want {
		return nil
	}
	err := r.corrupt(fmt.Sprintf("checksum is %08x, header says %08x", r.crc, r.want))
	err.Offset = r.chunk.Offset
	return err
}

// corrupt makes the error for something wrong in the current chunk.
func (r *Reader) corrupt(reason string) *Error {
	e := &Error{Kind: ErrCorrupt, File: r.chunk.Path, Offset: -1, Pos: r.chunk.Start, Reason: reason}
	if r.payload {
		e.Offset = r.chunk.Offset
	}
	return e
}

// cut makes the error for a source that ends, without an error of its own, n bytes from here and
// inside a chunk.
func (r *Reader) cut(n int) *Error {
	e := r.corrupt("stream ends inside a chunk")
	e.Pos = r.pos + int64(n)
	if r.payload && r.chunk.Type == Payload {
		e.Offset += r.chunk.Length - r.left
	}
	return e
}

// broken makes the error for a source that fails.
func (r *Reader) broken(err error) error {
	if r.chunk.Path == "" {
		return fmt.Errorf("read stream at position %d: %w", r.pos, err)
	}
	return fmt.Errorf("read stream at position %d, file %q: %w", r.pos, r.chunk.Path, err)
}
