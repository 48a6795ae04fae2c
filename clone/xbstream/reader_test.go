package xbstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// drain reads all chunks with their payloads.
func drain(r *Reader) (chunks []Chunk, payloads []string, err error) {
	for {
		c, err := r.Next()
		if err != nil {
			return chunks, payloads, err
		}
		p, err := io.ReadAll(r)
		if err != nil {
			return chunks, payloads, err
		}
		c.Map = slices.Clone(c.Map)
		chunks, payloads = append(chunks, c), append(payloads, string(p))
	}
}

func TestReaderChunks(t *testing.T) {
	var s stream
	s.data("./a", 0, "hello").end("empty").data("a", 5, "")
	s.sparse("d/s", 7, []Extent{{3, 2}, {4, 1}, {9, 0}}, "xyz")
	s.chunk(FlagSingleObject|0x80, 'E', "d/s").end("a")
	want := []Chunk{
		{Type: 'P', Path: "a", Length: 5, Span: 5},
		{Type: 'E', Path: "empty", Start: int64(s.borders[0])},
		{Type: 'P', Path: "a", Offset: 5, Start: int64(s.borders[1])},
		{
			Type: 'S', Path: "d/s", Offset: 7, Length: 3, Span: 19, Start: int64(s.borders[2]),
			Map: []Extent{{3, 2}, {4, 1}, {9, 0}},
		},
		{Type: 'E', Flags: 0x82, Path: "d/s", Start: int64(s.borders[3])},
		{Type: 'E', Path: "a", Start: int64(s.borders[4])},
	}
	sources := map[string]func(io.Reader) io.Reader{
		"whole":        func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"halves":       iotest.HalfReader,
		"early end":    iotest.DataErrReader,
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			r := NewReader(source(bytes.NewReader(s.b)))
			chunks, payloads, err := drain(r)
			if !errors.Is(err, io.EOF) {
				t.Fatalf("error is %v, want io.EOF", err)
			}
			if diff := cmp.Diff(want, chunks); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"hello", "", "", "xyz", "", ""}, payloads); diff != "" {
				t.Error(diff)
			}
			if got := r.InputOffset(); got != int64(len(s.b)) {
				t.Errorf("input offset is %d, want %d", got, len(s.b))
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Errorf("error after the end is %v, want io.EOF", err)
			}
		})
	}
}

// TestReaderSkips leaves payloads unread, wholly or in part.
func TestReaderSkips(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 3*readAhead/16)
	var s stream
	s.data("a", 0, long).data("a", 0, long).data("a", 0, "last")
	r := NewReader(bytes.NewReader(s.b))
	for _, n := range []int{0, 1000, 4} {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}

	s.b[len(s.b)-1]++
	s.b[s.borders[0]-1]++
	r = NewReader(bytes.NewReader(s.b))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	_, err := r.Next()
	wantError(t, err, ErrCorrupt, "a")
	if _, again := r.Read(make([]byte, 1)); !errors.Is(again, err) {
		t.Errorf("error is %v after %v", again, err)
	}
}

func TestReaderChecksum(t *testing.T) {
	var s stream
	s.data("t", 100, "payload")
	s.b[len(s.b)-3] ^= 4
	r := NewReader(bytes.NewReader(s.b))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadAll(r)
	wantError(t, err, ErrCorrupt, "t")
	var e *Error
	if errors.As(err, &e); e.Offset != 100 || !strings.Contains(e.Reason, "checksum") {
		t.Errorf("error is %v", err)
	}
}

func TestReaderRefuses(t *testing.T) {
	u32s := func(n ...byte) []byte { return append(n, make([]byte, 4-len(n))...) }
	tests := []struct {
		name string
		s    *stream
		file string
		want string
	}{
		{"no magic", &stream{b: []byte("this is not an archive")}, "", "no chunk begins here"},
		{"empty name", new(stream).end(""), "", "name of 0 bytes"},
		{"long name", new(stream).end(strings.Repeat("n", 513)), "", "name of 513 bytes"},
		{"unknown type", new(stream).chunk(0, 'X', "f", body(0, 0, 0)), "f", "unknown chunk type 0x58"},
		{"long payload", new(stream).chunk(0, 'P', "f", body(MaxPayload+1, 0, 0)), "f", "payload of"},
		{"offset", new(stream).chunk(0, 'P', "f", body(0, 1<<63, 0)), "f", "offset is too large"},
		{
			"end", new(stream).chunk(0, 'P', "f", body(1, math.MaxInt64, 0), []byte("x")), "f",
			"beyond the largest offset",
		},
		{
			"end of a hole", new(stream).sparse("f", math.MaxInt64-2, []Extent{{3, 0}}, ""), "f",
			"beyond the largest offset",
		},
		{"long map", new(stream).chunk(0, 'S', "f", u32s(1, 0, 16), body(0, 0, 0)), "f", "map of 1048577 entries"},
		{"map too short", new(stream).sparse("f", 0, []Extent{{3, 2}}, "xyz"), "f", "map is about 2 bytes"},
		{"map too long", new(stream).sparse("f", 0, []Extent{{3, 4}}, "xyz"), "f", "map is about 4 bytes"},
		{"checksum of nothing", new(stream).chunk(0, 'P', "f", body(0, 0, 7)), "f", "checksum"},
		{"absolute name", new(stream).end("/etc/passwd"), "/etc/passwd", "absolute"},
		{"name goes up", new(stream).file("a/../b", "x"), "a/../b", "element .."},
		{
			"checksum of what is ignored", new(stream).chunk(FlagIgnorable, 'X', "f", body(1, 0, 7), []byte("x")), "f",
			"checksum",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := drain(NewReader(bytes.NewReader(tt.s.b)))
			wantError(t, err, ErrCorrupt, tt.file)
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestReaderIgnores(t *testing.T) {
	var s stream
	s.data("f", 0, "x").chunk(FlagIgnorable, 'X', "../any name\x00", body(3, 1<<40, 0x352441c2), []byte("abc")).end("f")
	chunks, _, err := drain(NewReader(bytes.NewReader(s.b)))
	if !errors.Is(err, io.EOF) || len(chunks) != 2 {
		t.Errorf("%d chunks and error %v, want 2 and io.EOF", len(chunks), err)
	}
}

// TestReaderNames has more names at once than the Reader remembers, and the longest.
func TestReaderNames(t *testing.T) {
	var s stream
	for i := range maxNames + 10 {
		s.data(fmt.Sprintf("file %d", i), 0, "")
	}
	s.data(strings.Repeat("n", MaxPath), 0, "x")
	chunks, _, err := drain(NewReader(bytes.NewReader(s.b)))
	if !errors.Is(err, io.EOF) || len(chunks) != maxNames+11 {
		t.Fatalf("%d chunks, error %v", len(chunks), err)
	}
}

func TestCleanPath(t *testing.T) {
	for _, name := range []string{"a", "a/b", "./a/b", "..a/b..", "a\\b", "\xff/\xfe", ".a", "shop/t#P#p0.ibd"} {
		got, err := CleanPath(name)
		if want := strings.TrimPrefix(name, "./"); err != nil || got != want {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{"x//db.opt": "x/db.opt", "a///b////c": "a/b/c", ".//a": "a", "..//.a//b": ""} {
		if got, err := CleanPath(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{
		"", ".", "..", "./", "/", "/a", "//a", "///", ".///", "a/", "a//", "a/./b", "a//../b", "././a", "../a", "a/..", "a/../b", "./../a", "a\x00b",
		strings.Repeat("n", MaxPath+1),
	} {
		if got, err := CleanPath(name); err == nil {
			t.Errorf("%q: %q, want an error", name, got)
		}
	}
}

// TestReaderCut ends the source at every byte. Inside a chunk that is corrupt if the source just
// ends, and the source's own error if it has one, io.ErrUnexpectedEOF not excepted.
func TestReaderCut(t *testing.T) {
	var s stream
	s.data("a", 0, "hello").sparse("b", 0, []Extent{{3, 2}, {1, 1}}, "xyz").data("a", 5, "more").end("a").end("b")
	for n := range s.b {
		_, _, err := drain(NewReader(bytes.NewReader(s.b[:n])))
		var e *Error
		switch {
		case n == 0 || slices.Contains(s.borders, n):
			if !errors.Is(err, io.EOF) {
				t.Errorf("cut at the border %d: %v", n, err)
			}
		case !errors.Is(err, ErrCorrupt) || !errors.As(err, &e):
			t.Errorf("cut at %d: %v", n, err)
		case e.Pos != int64(n):
			t.Errorf("cut at %d: error says %d: %v", n, e.Pos, err)
		}
		for _, broken := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe} {
			source := io.MultiReader(bytes.NewReader(s.b[:n]), iotest.ErrReader(broken))
			_, _, err = drain(NewReader(source))
			if !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) || errors.As(err, &e) {
				t.Errorf("%v at %d: %v", broken, n, err)
			}
		}
	}
	idle := iotest.ErrReader(nil)
	if _, err := NewReader(idle).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("idle source: %v", err)
	}
}

func TestReaderCutNamesPlace(t *testing.T) {
	var s stream
	s.data("a", 1000, "hello")
	_, _, err := drain(NewReader(bytes.NewReader(s.b[:len(s.b)-2])))
	want := `stream is corrupt: file "a" at offset 1003: stream ends inside a chunk (position 38 of the stream)`
	if err == nil || err.Error() != want {
		t.Errorf("error is %q, want %q", err, want)
	}
}
