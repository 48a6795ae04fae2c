package xbstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExtract(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 3*bufferSize/16) + "tail"
	var s stream
	s.data("./ibdata1", 0, "first").data("shop/a.ibd", 0, big).data("ibdata1", 5, "second")
	s.end("mysql/slow_log.CSV").end("shop/a.ibd").data("late", 3, "def").data("late", 6, "ghi").data("late", 0, "abc")
	s.end("late").end("ibdata1").file("a/b/c/d", "deep").chunk(FlagIgnorable, '?', "x", body(0, 0, 0))
	s.file("xtrabackup_info", "last")
	want := map[string]string{
		"ibdata1": "firstsecond", "shop/a.ibd": digest([]byte(big)), "mysql/slow_log.CSV": "", "late": "abcdefghi",
		"a/b/c/d": "deep", "xtrabackup_info": "last",
	}
	var progress []Progress
	opts := Options{Progress: func(p Progress) { progress = append(progress, p) }}
	for workers := range 4 {
		opts.Workers = workers
		got, summary, err := extract(t, s.b, opts)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		wantSummary := Summary{
			Files: 6, Bytes: int64(len(big) + 28), LastFile: "xtrabackup_info", Captured: map[string][]byte{},
		}
		if diff := cmp.Diff(wantSummary, summary); diff != "" {
			t.Error(diff)
		}
		checked, err := check(t, s.b, opts)
		if diff := cmp.Diff(summary, checked); diff != "" || err != nil {
			t.Error(diff, err)
		}
	}
	last := Progress{Pos: int64(len(s.b)), Files: 6, File: "xtrabackup_info"}
	if diff := cmp.Diff(last, progress[len(progress)-1]); diff != "" {
		t.Error(diff)
	}
}

func TestExtractModes(t *testing.T) {
	umask := syscall.Umask(0o022)
	t.Cleanup(func() { syscall.Umask(umask) })
	for _, tt := range []struct {
		opts      Options
		dir, file fs.FileMode
	}{
		{Options{}, 0o750, 0o640},
		{Options{DirMode: 0o700, FileMode: 0o600}, 0o700, 0o600},
	} {
		dir := t.TempDir()
		if _, err := Extract(t.Context(), bytes.NewReader(new(stream).file("d/f", "x").b), openRoot(t, dir), tt.opts); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{"d": tt.dir, "d/f": tt.file} {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode is %v, want %v (%v)", name, info.Mode(), want, err)
			}
		}
	}
}

// TestRefuses has the streams that break a rule. Check and Extract say the same.
func TestRefuses(t *testing.T) {
	manyOpen, shuffled := new(stream), new(stream)
	for i := range maxOpen + 1 {
		manyOpen.data("f"+strings.Repeat("x", i%100)+string(rune('a'+i/100)), 0, "x")
	}
	for i := range int64(maxPieces + 1) {
		shuffled.data("f", 1+2*i, "x")
	}
	tests := []struct {
		name string
		s    *stream
		kind error
		file string
		want string
	}{
		{"nothing", &stream{}, ErrTruncated, "", "no file"},
		{"only what is ignored", new(stream).chunk(FlagIgnorable, 'X', "f", body(0, 0, 0)), ErrTruncated, "", "no file"},
		{"not closed", new(stream).data("b", 0, "x").data("a", 0, "xyz").file("c", "x"), ErrTruncated, "a", "offset 3: the stream ends before"},
		{"gap at the start", new(stream).data("f", 7, "x").end("f"), ErrTruncated, "f", "offset 0: file is ended at 8 bytes"},
		{"gap", new(stream).data("f", 0, "abc").data("f", 4, "x").end("f"), ErrTruncated, "f", "offset 3: file is ended at 5 bytes"},
		{"gap at the end", new(stream).data("f", 0, "abc").data("f", 4, "").end("f"), ErrTruncated, "f", "offset 3: file is ended at 4 bytes"},
		{"overlap", new(stream).data("f", 0, "abc").data("f", 2, "x"), ErrCorrupt, "f", "offset 2: chunk overlaps"},
		{"written again", new(stream).data("f", 0, "abc").data("f", 0, "abc"), ErrCorrupt, "f", "offset 0: chunk overlaps"},
		{"overlap ahead", new(stream).data("f", 5, "abc").data("f", 3, "xxx"), ErrCorrupt, "f", "offset 3: chunk overlaps"},
		{"overlap with a hole", new(stream).sparse("f", 0, []Extent{{9, 1}}, "x").data("f", 4, "x"), ErrCorrupt, "f", "overlaps"},
		{"second end", new(stream).file("f", "x").end("f"), ErrCorrupt, "f", "in the stream already"},
		{"data after the end", new(stream).file("f", "x").data("./f", 1, "x"), ErrCorrupt, "f", "in the stream already"},
		{"packed twin", new(stream).file("f", "x").data("f.zst", 0, "x"), ErrCorrupt, "f.zst", "in the stream already"},
		{"file below a file", new(stream).data("d", 0, "x").end("d/f"), ErrCorrupt, "d/f", "another file of the stream as its directory"},
		{"file below a closed file", new(stream).end("a/d").end("a/d/e/f"), ErrCorrupt, "a/d/e/f", "as its directory"},
		{"file above a file", new(stream).end("a/d/e/f").end("a/d"), ErrCorrupt, "a/d", "as its directory"},
		{"absolute", new(stream).end("/f"), ErrCorrupt, "/f", "absolute"},
		{"up", new(stream).file("../f", "x"), ErrCorrupt, "../f", "element .."},
		{"empty without its suffix", new(stream).end("d/.zst"), ErrCorrupt, "d/.zst", "empty element"},
		{"up without its suffix", new(stream).end("d/...lz4"), ErrCorrupt, "d/...lz4", "element .."},
		{"open files", manyOpen, ErrCorrupt, "fxxxxxxxxxxxxf", "too many files open"},
		{"out of order", shuffled, ErrCorrupt, "f", "too many chunks out of order"},
		{"quicklz", new(stream).file("a", "x").data("d/t.ibd.qp", 0, "x"), ErrUnsupported, "d/t.ibd.qp", "--compress=zstd"},
		{"encrypted", new(stream).data("t.ibd.zst.xbcrypt", 0, "x"), ErrUnsupported, "t.ibd.zst.xbcrypt", "without --encrypt"},
		{"encrypted quicklz", new(stream).data("t.qp.xbcrypt", 0, "x"), ErrUnsupported, "t.qp.xbcrypt", "without --encrypt"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, summary, err := extract(t, tt.s.b, Options{Capture: func(string) bool { return true }})
			_, checked := check(t, tt.s.b, Options{})
			for _, err := range []error{err, checked} {
				wantError(t, err, tt.kind, tt.file)
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error is %q, want %q in it", err, tt.want)
				}
			}
			if summary.Captured != nil {
				t.Error("content was captured from a stream that is refused")
			}
		})
	}
}

// TestCut ends a stream at every byte. Nothing but the border after a closed file passes, and that
// is what an end mark around the stream is for.
func TestCut(t *testing.T) {
	var s stream
	s.data("a", 0, "hello").data("d/b", 0, "ab").data("a", 5, "more").end("a")
	s.end("d/b").end("empty").sparse("s", 0, []Extent{{3, 2}, {4, 0}}, "xy").end("s")
	whole := map[int]int{s.borders[4]: 2, s.borders[5]: 3, s.borders[7]: 4}
	for n := range len(s.b) + 1 {
		_, summary, err := extract(t, s.b[:n], Options{})
		_, checked := check(t, s.b[:n], Options{})
		for _, err := range []error{err, checked} {
			files, ok := whole[n]
			switch {
			case ok && (err != nil || summary.Files != files):
				t.Errorf("cut at %d: %d files, error %v, want %d files", n, summary.Files, err, files)
			case ok:
			case n == 0 || slices.Contains(s.borders, n):
				if !errors.Is(err, ErrTruncated) {
					t.Errorf("cut at the border %d: %v", n, err)
				}
			case !errors.Is(err, ErrCorrupt):
				t.Errorf("cut at %d: %v", n, err)
			}
		}
		source := io.MultiReader(bytes.NewReader(s.b[:n]), broken{})
		if _, err := Check(t.Context(), source, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrCorrupt) {
			t.Errorf("connection cut at %d: %v", n, err)
		}
	}
}

// broken is what net/http makes of a body that is shorter than it should be.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestFlip turns over every bit. No header has a checksum, so all that is asked is that what passes
// is the same. The file system may be the first to object, to an offset.
func TestFlip(t *testing.T) {
	var s stream
	s.data("a", 0, "hello").data("d/b", 0, "ab").data("a", 5, "more").end("a")
	s.end("d/b").sparse("s", 0, []Extent{{3, 2}, {4, 0}}, "xy").end("s")
	want, _, err := extract(t, s.b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(s.b) * 8 {
		b := bytes.Clone(s.b)
		b[i/8] ^= 1 << (i % 8)
		got, _, err := extract(t, b, Options{})
		_, checked := check(t, b, Options{})
		if err == nil {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("bit %d of byte %d: %s", i%8, i/8, diff)
			}
		} else if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTruncated) && !errors.Is(err, syscall.EFBIG) {
			t.Errorf("bit %d of byte %d: %v", i%8, i/8, err)
		}
		if (err == nil) != (checked == nil) {
			t.Errorf("bit %d of byte %d: Extract says %v, Check %v", i%8, i/8, err, checked)
		}
	}
}

func TestExtractCancelled(t *testing.T) {
	cause := errors.New("donor has gone")
	for _, name := range []string{"f", "f.zst"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		pr, pw := io.Pipe()
		stop := context.AfterFunc(ctx, func() { _ = pr.CloseWithError(net("closed")) })
		defer stop()
		result := make(chan error)
		root := openRoot(t, t.TempDir())
		go func() {
			_, err := Extract(ctx, pr, root, Options{})
			result <- err
		}()
		if _, err := pw.Write(new(stream).data(name, 0, "some").data(name, 4, "more").b); err != nil {
			t.Fatal(err)
		}
		cancel(cause)
		if err := <-result; !errors.Is(err, cause) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", name, err)
		}
		if _, err := Extract(ctx, pr, root, Options{}); !errors.Is(err, cause) {
			t.Errorf("cancelled from the start: %v", err)
		}
		if _, err := Check(ctx, pr, Options{}); !errors.Is(err, cause) {
			t.Errorf("check: %v", err)
		}
	}
}

type net string

func (n net) Error() string { return string(n) }
