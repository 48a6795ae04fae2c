package xbstream

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrCorrupt says that the bytes are not a sound stream: fetching the same bytes again cannot
	// help.
	ErrCorrupt = errors.New("stream is corrupt")

	// ErrTruncated says that the stream ended, or ended a file, before all of the file's bytes were
	// there.
	ErrTruncated = errors.New("stream is truncated")

	// ErrUnsupported says that the stream is sound but holds what this package cannot unpack; the
	// text says what to change at the donor.
	ErrUnsupported = errors.New("stream is not supported")
)

// Error says what is wrong with a stream, and where. errors.Is finds its Kind. Errors of the source
// that the stream is read from are never of this type, nor are those of the file system: they are
// passed on with context added.
type Error struct {
	Kind   error  // ErrCorrupt, ErrTruncated or ErrUnsupported
	File   string // name of the file in the stream; empty if the trouble comes before a name
	Offset int64  // position in the file in bytes; -1 if there is none to tell
	Pos    int64  // position in the stream in bytes: how far it was read, or where the chunk or file at fault begins
	Reason string // what is wrong, in a few words
}

// Error returns one line with all that is known.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Kind.Error())
	if e.File != "" {
		fmt.Fprintf(&b, ": file %q", e.File)
		if e.Offset >= 0 {
			fmt.Fprintf(&b, " at offset %d", e.Offset)
		}
	}
	fmt.Fprintf(&b, ": %s (position %d of the stream)", e.Reason, e.Pos)
	return b.String()
}

// Unwrap returns the Kind.
func (e *Error) Unwrap() error { return e.Kind }
