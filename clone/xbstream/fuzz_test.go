package xbstream

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// seeds are small streams with one of everything.
func seeds(tb testing.TB) [][]byte {
	tb.Helper()
	holes := []Extent{{3, 2}, {4, 1}, {9, 0}}
	all := new(stream).data("./a", 0, "hello").sparse("d/s", 0, holes, "xyz").data("a", 5, "more").end("d/s").end("a")
	all.chunk(FlagIgnorable, 'X', "x", body(0, 0, 0)).end("d/empty").file("z.zst", string(zstdFrame(tb, "content")))
	return [][]byte{
		nil,
		all.b,
		new(stream).file("d/l.lz4", string(lz4Frame(tb, "content"))).b,
		new(stream).data("late", 3, "def").data("late", 0, "abc").end("late").b,
		new(stream).file("../up", "x").b,
		new(stream).file("a", "x").file("a/b", "x").b,
		new(stream).data("tb.qp", 0, "x").end("tb.qp").b,
	}
}

// FuzzReader: what is no stream is refused with the right kind of error, and no more payload comes
// out than went in.
func FuzzReader(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		chunks, payloads, err := drain(r)
		ended := errors.Is(err, io.EOF)
		if !ended && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error is %v", err)
		}
		total := 0
		for i, c := range chunks {
			total += headLen + len(c.Path) + len(payloads[i])
			if name, err := CleanPath(c.Path); err != nil || name != c.Path {
				t.Fatalf("chunk with the path %q", c.Path)
			}
			if len(payloads[i]) != int(c.Length) || c.Span < c.Length || !fits(c.Offset, c.Span) {
				t.Fatalf("chunk %+v with %d bytes", c, len(payloads[i]))
			}
		}
		if total > len(b) || ended && r.InputOffset() != int64(len(b)) {
			t.Fatalf("%d bytes out of %d, input offset %d", total, len(b), r.InputOffset())
		}
	})
}

// FuzzExtract: nothing is written outside of the root, Check takes what Extract takes, and every
// file that is counted is there.
func FuzzExtract(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "root"), 0o750); err != nil {
			t.Fatal(err)
		}
		summary, err := Extract(t.Context(), bytes.NewReader(b), openRoot(t, filepath.Join(dir, "root")), Options{})
		entries, readErr := os.ReadDir(dir)
		if readErr != nil || len(entries) != 1 {
			t.Fatalf("outside of the root: %v, %v", entries, readErr)
		}
		var e *Error
		var errno syscall.Errno
		if err != nil && !errors.As(err, &e) && !errors.As(err, &errno) {
			t.Fatalf("error is %v", err)
		}
		checked, checkErr := check(t, b, Options{})
		if err != nil {
			return // Check does not unpack, and has no file system to object
		}
		if diff := cmp.Diff(summary, checked); diff != "" || checkErr != nil {
			t.Fatal(diff, checkErr)
		}
		files := 0
		err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				files++
			}
			return err
		})
		if err != nil || files != summary.Files {
			t.Fatalf("%d files on disk, %d in the summary, %v", files, summary.Files, err)
		}
	})
}
