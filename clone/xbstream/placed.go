package xbstream

import (
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrPlace is returned for bytes of a file that have been written already, or that come too far out
// of order.
var ErrPlace = errors.New("bytes cannot be placed in the file of the stream")

// PlacedWriter writes one file of a stream whose bytes come in any order. Its methods may be called
// by several goroutines, though not at once. mbstream refuses such a file, unless its bytes come in
// order and have no holes.
type PlacedWriter struct {
	f       FileWriter
	extents extents
}

// CreatePlaced is Create for a file whose bytes come in any order.
func (w *Writer) CreatePlaced(path string) (*PlacedWriter, error) {
	f, err := w.Create(path)
	if err != nil {
		return nil, err
	}
	return &PlacedWriter{f: *f}, nil
}

// Size is where the last of the bytes so far ends, or of the holes.
func (p *PlacedWriter) Size() int64 { return p.extents.size }

// Whole says whether everything before Size has been written.
func (p *PlacedWriter) Whole() bool { return p.extents.whole() }

// WriteAt adds a chunk. It fails with ErrPlace, and writes nothing, where something has been
// written before.
func (p *PlacedWriter) WriteAt(b []byte, offset int64) (int, error) {
	return p.WriteSparseAt(nil, b, offset)
}

// WriteSparseAt adds a chunk with holes: payload has the bytes between them, which holes places.
// Without holes it is WriteAt.
func (p *PlacedWriter) WriteSparseAt(holes []Extent, payload []byte, offset int64) (int, error) {
	n := int64(len(payload))
	if len(holes) > 0 {
		var length int64
		if length, n = span(holes); length != int64(len(payload)) || len(holes) > MaxMap {
			return 0, fmt.Errorf("%w: %d bytes for a map of %d", ErrPlace, len(payload), length)
		}
	}
	switch {
	case p.f.closed:
		return 0, errClosed
	case len(payload) > MaxPayload || !fits(offset, n):
		return 0, fmt.Errorf("%w: %d bytes at offset %d of %q", ErrPlace, n, offset, p.f.name)
	}
	if reason := p.extents.add(offset, n); reason != "" {
		return 0, fmt.Errorf("%w: %q at offset %d: %s", ErrPlace, p.f.name, offset, reason)
	}
	p.f.offset = offset
	defer func() { p.f.n = 0 }() // nothing is held back
	head := make([]byte, 0, headRoom+4)
	if len(holes) > 0 {
		return len(payload), p.f.writeSparse(head, holes, payload)
	}
	p.f.n = len(payload)
	head = p.f.tail(p.f.head(head, Payload), crc32.ChecksumIEEE(payload))
	return len(payload), p.f.w.write(head, payload)
}

// Close makes holes of what has not been written, up to size at least, and marks the file as
// complete. A second call does nothing.
func (p *PlacedWriter) Close(size int64) error {
	if p.f.closed {
		return nil
	}
	for !p.extents.whole() || p.extents.size < size {
		end := max(size, p.extents.size)
		if len(p.extents.ahead) > 0 {
			end = p.extents.ahead[0].from
		}
		skip := min(end-p.extents.end, maxHole)
		if _, err := p.WriteSparseAt([]Extent{{Skip: uint32(skip)}}, nil, p.extents.end); err != nil { //nolint:gosec // maxHole
			return err
		}
	}
	return p.f.Close()
}

// maxHole is what one entry of a map skips at most.
const maxHole = 1 << 30
