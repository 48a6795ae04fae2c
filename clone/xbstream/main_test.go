package xbstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stream is an archive made by hand, field by field, so that the tests do not lean on the Writer.
type stream struct {
	b       []byte
	borders []int // where chunks end
}

func (s *stream) chunk(flags byte, t ChunkType, path string, rest ...[]byte) *stream {
	s.b = append(s.b, "XBSTCK01"...)
	s.b = append(s.b, flags, byte(t))
	s.b = binary.LittleEndian.AppendUint32(s.b, u32(len(path)))
	s.b = append(s.b, path...)
	for _, r := range rest {
		s.b = append(s.b, r...)
	}
	s.borders = append(s.borders, len(s.b))
	return s
}

func body(length, offset uint64, sum uint32) []byte {
	b := binary.LittleEndian.AppendUint64(nil, length)
	b = binary.LittleEndian.AppendUint64(b, offset)
	return binary.LittleEndian.AppendUint32(b, sum)
}

func (s *stream) data(path string, offset int64, payload string) *stream {
	sum := crc32.ChecksumIEEE([]byte(payload))
	return s.chunk(0, 'P', path, body(uint64(len(payload)), u64(offset), sum), []byte(payload))
}

func (s *stream) end(path string) *stream { return s.chunk(0, 'E', path) }

// file is a whole file in one chunk.
func (s *stream) file(path, payload string) *stream { return s.data(path, 0, payload).end(path) }

func (s *stream) sparse(path string, offset int64, m []Extent, payload string) *stream {
	var raw []byte
	for _, e := range m {
		raw = binary.LittleEndian.AppendUint32(raw, e.Skip)
		raw = binary.LittleEndian.AppendUint32(raw, e.Length)
	}
	sum := crc32.ChecksumIEEE(append(bytes.Clone(raw), payload...))
	return s.chunk(0, 'S', path, binary.LittleEndian.AppendUint32(nil, u32(len(m))),
		body(uint64(len(payload)), u64(offset), sum), raw, []byte(payload))
}

// extract unpacks b into a new directory and returns what is there if it succeeds.
func extract(tb testing.TB, b []byte, opts Options) (map[string]string, Summary, error) {
	tb.Helper()
	dir := tb.TempDir()
	root := openRoot(tb, dir)
	s, err := Extract(tb.Context(), bytes.NewReader(b), root, opts)
	if err != nil {
		return nil, s, err // a file may be of any length, though a sparse one
	}
	return tree(tb, dir), s, nil
}

func openRoot(tb testing.TB, dir string) *os.Root {
	tb.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = root.Close() })
	return root
}

// tree returns the contents of all files below dir, or their digests if they are long.
func tree(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	files := map[string]string{}
	below := os.DirFS(dir)
	err := fs.WalkDir(below, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return errors.New("not a regular file: " + name)
		}
		b, err := fs.ReadFile(below, name)
		if err != nil {
			return err
		}
		if len(b) > 4096 {
			files[name] = digest(b)
		} else {
			files[name] = string(b)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return files
}

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// check runs Check over b.
func check(tb testing.TB, b []byte, opts Options) (Summary, error) {
	tb.Helper()
	return Check(tb.Context(), bytes.NewReader(b), opts)
}

// wantError fails unless err is an *Error of the kind, about the file, and has the reason in its
// text.
func wantError(tb testing.TB, err, kind error, file string) {
	tb.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, kind) {
		tb.Fatalf("error is %v, want one of the kind %q", err, kind)
	}
	if e.File != file {
		tb.Fatalf("error is about the file %q, want %q: %v", e.File, file, err)
	}
}
