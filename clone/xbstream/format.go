package xbstream

import (
	"bytes"
	"errors"
	"math"
	"strings"
)

const (
	magic = "XBSTCK01"

	headLen    = len(magic) + 1 + 1 + 4 // up to and with the path's length
	payloadLen = 8 + 8 + 4              // length, offset, checksum
	entryLen   = 4 + 4                  // one entry of a sparse map
)

// Bounds on what a stream may claim. They keep memory flat whatever arrives.
const (
	// MaxPath is the longest name of a file in bytes. mbstream and xbstream refuse 512 and more, so
	// that the Writer stays below it; the Reader lets 512 itself pass.
	MaxPath = 512

	// MaxPayload is the longest payload of one chunk in bytes. The tools write 10 MiB, or what
	// their --read-buffer-size says, which ends at 1 GiB.
	MaxPayload = 1 << 30

	// MaxMap is the largest number of entries in the map of one sparse chunk: 8 MiB of map. A 10
	// MiB chunk of 4 KiB blocks, each with its own hole, has 2560.
	MaxMap = 1 << 20
)

// ChunkType is the type byte of a chunk.
type ChunkType byte

// The chunk types that are known. A chunk of any other type is skipped if it carries FlagIgnorable,
// and an error if not.
const (
	Payload ChunkType = 'P' // data
	Sparse  ChunkType = 'S' // data with holes; written by XtraBackup 8.0 and later, refused by mbstream
	End     ChunkType = 'E' // the file is complete
)

// The flag bits that are known. The format text reserves the others and has readers ignore them.
const (
	// FlagIgnorable marks a chunk that a reader may skip if it does not know its type.
	FlagIgnorable = 0x01

	// FlagSingleObject asks an object store to keep the file in one piece. It changes nothing here.
	FlagSingleObject = 0x02
)

// Extent is one entry in the map of a sparse chunk: a hole, and the payload bytes that follow it.
type Extent struct {
	Skip   uint32 // bytes of hole
	Length uint32 // bytes of payload after the hole; 0 for a hole at the end, which extends the file
}

// Chunk is the header of one chunk.
type Chunk struct {
	Type  ChunkType
	Flags byte

	// Path names the file, relative and with slashes; it has passed CleanPath.
	Path string

	// Offset says where in the file the chunk belongs, in bytes. Chunks of one file may come in any
	// order (the format text: the offset is authoritative), though every tool so far writes them
	// one after the other.
	Offset int64

	// Length is the number of payload bytes, which Reader.Read delivers.
	Length int64

	// Span is the number of bytes of the file that the chunk stands for: Length and, in a Sparse
	// chunk, the holes.
	Span int64

	// Map says how payload and holes alternate in a Sparse chunk, and is nil in others. It is valid
	// until the next call of Reader.Next.
	Map []Extent

	// Start is the position of the chunk in the stream, in bytes.
	Start int64
}

// CleanPath returns name in the form in which this package uses it, without a leading "./", or an
// error that says why it cannot name a file below a directory. Names are bytes: no encoding is
// asked for. Slashes that follow one another are one, as they are to a file system: XtraBackup up
// to 8.0 streams an empty schema x as x//db.opt, and copies the name of InnoDB's dump of its buffer
// pool as the server's configuration has it.
func CleanPath(name string) (string, error) {
	if len(name) > MaxPath {
		return "", errors.New("name is too long")
	}
	for strings.Contains(name, "//") {
		name = strings.ReplaceAll(name, "//", "/")
	}
	name = strings.TrimPrefix(name, "./")
	switch {
	case name == "":
		return "", errors.New("name is empty")
	case name[0] == '/':
		return "", errors.New("name is absolute")
	case strings.IndexByte(name, 0) >= 0:
		return "", errors.New("name has a NUL in it")
	}
	for element := range strings.SplitSeq(name, "/") {
		switch element {
		case "":
			return "", errors.New("name has an empty element")
		case ".", "..":
			return "", errors.New("name has the element " + element)
		}
	}
	return name, nil
}

// span adds up a sparse map: the bytes of payload it speaks of, and those with the holes. MaxMap
// keeps both far from an overflow.
func span(m []Extent) (length, total int64) {
	for _, e := range m {
		length += int64(e.Length)
		total += int64(e.Skip) + int64(e.Length)
	}
	return length, total
}

// fits says whether a chunk of n bytes at offset ends within what an int64 can name.
func fits(offset, n int64) bool { return offset >= 0 && n >= 0 && offset <= math.MaxInt64-n }

// hasMagic says whether b begins with a chunk's magic.
func hasMagic(b []byte) bool { return bytes.HasPrefix(b, []byte(magic)) }
