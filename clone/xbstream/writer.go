package xbstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"
)

const (
	writeLen   = 1 << 20 // payload of the chunks that are written; the tools' limit is 10 MiB
	writeMap   = 4096    // entries after which a sparse chunk is written though its payload has room
	headRoom   = headLen + MaxPath + payloadLen
	bufferLen  = headRoom + writeLen
	maxBuffers = 8 // idle buffers kept for the next file
)

// Writer writes one stream. Its files may be open at the same time, and used by different
// goroutines.
//
// There is nothing to close: an archive has no end mark. A stream in which a file was never closed
// is truncated, and readers see that it is, so do not Close what could not be written whole.
type Writer struct {
	mu    sync.Mutex
	dst   io.Writer
	names *names
	err   error    // of dst
	idle  [][]byte // each bufferLen
}

// NewWriter returns a Writer to w. Each chunk without holes is one call of w.Write, of a little
// over 1 MiB at most.
func NewWriter(w io.Writer) *Writer {
	return &Writer{dst: w, names: newNames()}
}

// Create begins the file path. It fails if the tools could not unpack a file of this name (see
// CleanPath; they also refuse MaxPath bytes), or if the stream has a file or a directory of this
// name.
func (w *Writer) Create(path string) (*FileWriter, error) {
	name, err := CleanPath(path)
	if err == nil && len(name) >= MaxPath {
		err = errors.New("name is too long")
	}
	if err != nil {
		return nil, fmt.Errorf("add file %q to stream: %w", path, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if err := w.names.add(name, nil); err != nil {
		return nil, fmt.Errorf("add file %q to stream: %w", path, err)
	}
	return &FileWriter{w: w, name: name}, nil
}

// write sends parts as they are; the first error of the destination is the answer to all that
// follows.
func (w *Writer) write(parts ...[]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range parts {
		if w.err != nil {
			break
		}
		if _, err := w.dst.Write(p); err != nil {
			w.err = fmt.Errorf("write stream: %w", err)
		}
	}
	return w.err
}

func (w *Writer) buffer() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		b := w.idle[n-1]
		w.idle = w.idle[:n-1]
		return b
	}
	return make([]byte, bufferLen)
}

func (w *Writer) release(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b != nil && len(w.idle) < maxBuffers {
		w.idle = append(w.idle, b)
	}
}

// FileWriter writes one file of a stream, from its first byte to its last. It holds back up to 1
// MiB. It must not be used by two goroutines at once.
type FileWriter struct {
	w      *Writer
	name   string
	buf    []byte   // headRoom, then payload; nil before the first byte
	n      int      // payload in buf
	m      []Extent // not empty if there is a hole in the chunk
	size   int64    // bytes of the file so far, those held back included
	offset int64    // where the chunk in buf begins
	closed bool
}

var errClosed = errors.New("file of the stream is closed")

// Write adds p to the file.
func (f *FileWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		room, err := f.room()
		if err != nil {
			return written, err
		}
		n := copy(room, p)
		f.grow(n)
		written += n
		p = p[n:]
	}
	return written, nil
}

// ReadFrom adds what r delivers up to io.EOF, without another copy; io.Copy uses it. An error of r
// is returned as it is, and what came before it stays in the file.
func (f *FileWriter) ReadFrom(r io.Reader) (int64, error) {
	var written int64
	for {
		room, err := f.room()
		if err != nil {
			return written, err
		}
		n, end := r.Read(room)
		f.grow(n)
		written += int64(n)
		if end == io.EOF {
			return written, nil
		}
		if end != nil {
			return written, end
		}
	}
}

// WriteHole adds n zero bytes that need no room on disk. They go into the stream as a sparse chunk,
// which xbstream unpacks and mbstream refuses.
func (f *FileWriter) WriteHole(n int64) error {
	switch {
	case f.closed:
		return errClosed
	case n < 0 || !fits(f.size, n):
		return fmt.Errorf("hole of %d bytes at offset %d of %q", n, f.size, f.name)
	}
	for n > 0 {
		if len(f.m) >= writeMap {
			if err := f.flush(); err != nil {
				return err
			}
		}
		if len(f.m) == 0 && f.n > 0 {
			f.m = append(f.m, Extent{Length: u32(f.n)})
		}
		skip := min(n, math.MaxUint32)
		f.m = append(f.m, Extent{Skip: uint32(skip)})
		f.size += skip
		n -= skip
	}
	return nil
}

// Close writes what was held back and the mark that the file is complete. A second call does
// nothing.
func (f *FileWriter) Close() error {
	if f.closed {
		return nil
	}
	if err := f.flush(); err != nil {
		return err
	}
	f.closed = true
	f.w.release(f.buf)
	f.buf = nil
	return f.w.write(f.head(make([]byte, 0, headLen+len(f.name)), End))
}

// Flush writes what was held back.
func (f *FileWriter) Flush() error {
	if f.closed {
		return errClosed
	}
	return f.flush()
}

// room returns the free part of the buffer, which is never empty.
func (f *FileWriter) room() ([]byte, error) {
	if f.closed {
		return nil, errClosed
	}
	if f.buf == nil {
		f.buf = f.w.buffer()
	}
	if f.n == writeLen {
		if err := f.flush(); err != nil {
			return nil, err
		}
	}
	return f.buf[headRoom+f.n:], nil
}

// grow counts n bytes that were put into the room.
func (f *FileWriter) grow(n int) {
	f.n += n
	f.size += int64(n)
	if len(f.m) > 0 {
		f.m[len(f.m)-1].Length += u32(n)
	}
}

// head appends the part of a header that all chunks have.
func (f *FileWriter) head(b []byte, t ChunkType) []byte {
	b = append(b, magic...)
	b = append(b, 0, byte(t))
	b = binary.LittleEndian.AppendUint32(b, u32(len(f.name)))
	return append(b, f.name...)
}

// flush writes the chunk that is held back, if there is one.
func (f *FileWriter) flush() error {
	if f.n == 0 && len(f.m) == 0 {
		return nil
	}
	var err error
	if len(f.m) == 0 {
		// The header goes right before the payload, so that one write does.
		begin := headRoom - (headLen + len(f.name) + payloadLen)
		sum := crc32.ChecksumIEEE(f.buf[headRoom : headRoom+f.n])
		f.tail(f.head(f.buf[begin:begin], Payload), sum)
		err = f.w.write(f.buf[begin : headRoom+f.n])
	} else {
		err = f.flushSparse()
	}
	f.offset, f.n, f.m = f.size, 0, f.m[:0]
	return err
}

func (f *FileWriter) flushSparse() error {
	var payload []byte
	if f.n > 0 {
		payload = f.buf[headRoom : headRoom+f.n]
	}
	return f.writeSparse(make([]byte, 0, headRoom+4), f.m, payload)
}

// writeSparse writes a chunk with holes at f.offset. head is empty, and has room.
func (f *FileWriter) writeSparse(head []byte, holes []Extent, payload []byte) error {
	m := make([]byte, 0, len(holes)*entryLen)
	for _, e := range holes {
		m = binary.LittleEndian.AppendUint32(m, e.Skip)
		m = binary.LittleEndian.AppendUint32(m, e.Length)
	}
	sum := crc32.Update(crc32.ChecksumIEEE(m), crc32.IEEETable, payload)
	b := f.head(head, Sparse)
	b = binary.LittleEndian.AppendUint32(b, u32(len(holes)))
	f.n = len(payload)
	return f.w.write(f.tail(b, sum), m, payload)
}

// tail appends length, offset and checksum.
func (f *FileWriter) tail(b []byte, sum uint32) []byte {
	b = binary.LittleEndian.AppendUint64(b, u64(int64(f.n)))
	b = binary.LittleEndian.AppendUint64(b, u64(f.offset))
	return binary.LittleEndian.AppendUint32(b, sum)
}

// u32 is for what the constants of this package bound: lengths of names, maps and buffers.
func u32(n int) uint32 {
	return uint32(n) //nolint:gosec // see above
}

// u64 is for places in files, which are never negative.
func u64(n int64) uint64 {
	return uint64(n) //nolint:gosec // see above
}
