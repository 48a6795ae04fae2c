package xbstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// TestWriterBytes holds a small stream against the format text.
func TestWriterBytes(t *testing.T) {
	var got bytes.Buffer
	w := NewWriter(&got)
	a := create(t, w, "./a")
	create(t, w, "d/empty").close()
	a.write("hello").close()
	h := create(t, w, "h")
	h.write("ab").hole(3).write("c").hole(1 << 33).close()
	var want stream
	want.end("d/empty").data("a", 0, "hello").end("a")
	want.sparse("h", 0, []Extent{{0, 2}, {3, 1}, {math.MaxUint32, 0}, {math.MaxUint32, 0}, {2, 0}}, "abc").end("h")
	if diff := cmp.Diff(want.b, got.Bytes()); diff != "" {
		t.Error(diff)
	}
}

// testFile is a FileWriter that ends the test when it fails.
type testFile struct {
	tb testing.TB
	*FileWriter
}

func create(tb testing.TB, w *Writer, path string) testFile {
	tb.Helper()
	f, err := w.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	return testFile{tb, f}
}

func (f testFile) write(s string) testFile {
	f.tb.Helper()
	if n, err := f.Write([]byte(s)); n != len(s) || err != nil {
		f.tb.Fatal(n, err)
	}
	return f
}

func (f testFile) hole(n int64) testFile {
	f.tb.Helper()
	if err := f.WriteHole(n); err != nil {
		f.tb.Fatal(err)
	}
	return f
}

func (f testFile) close() {
	f.tb.Helper()
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		f.tb.Fatal(err)
	}
}

// writeAll makes a stream of files around the sizes of buffers, several open at a time.
func writeAll(tb testing.TB, dst io.Writer) map[string]string {
	tb.Helper()
	w := NewWriter(dst)
	want := map[string]string{}
	var g errgroup.Group
	g.SetLimit(4)
	for i, n := range []int{0, 1, writeLen - 1, writeLen, writeLen + 1, 3*writeLen + 77, 0, 40_000, 5 * writeLen} {
		name := fmt.Sprintf("d%d/file-%d", i%3, i)
		content := bytes.Repeat([]byte(fmt.Sprintf("%07d\n", i*i)), n/8+1)[:n]
		want[name] = string(content)
		if n > 4096 {
			want[name] = digest(content)
		}
		g.Go(func() error {
			f, err := w.Create(name)
			if err != nil {
				return err
			}
			half := bytes.NewReader(content[:n/2])
			if _, err = io.Copy(f, iotest.DataErrReader(half)); err != nil {
				return err
			}
			if _, err = f.Write(content[n/2:]); err != nil {
				return err
			}
			return f.Close()
		})
	}
	if err := g.Wait(); err != nil {
		tb.Fatal(err)
	}
	return want
}

func TestWriterExtract(t *testing.T) {
	var b bytes.Buffer
	want := writeAll(t, &b)
	got, _, err := extract(t, b.Bytes(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestWriterMbstream has the real tool unpack what the Writer wrote.
func TestWriterMbstream(t *testing.T) {
	var b bytes.Buffer
	want := writeAll(t, &b)
	if diff := cmp.Diff(want, mbstream(t, &b)); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	long := strings.Repeat("n", 255) + "/" + strings.Repeat("n", 255) // the longest that Create takes
	create(t, NewWriter(&b), long).write("x").close()
	if diff := cmp.Diff(map[string]string{long: "x"}, mbstream(t, &b)); diff != "" {
		t.Error(diff)
	}
}

// mbstream returns what mbstream -x unpacks.
func mbstream(tb testing.TB, stream io.Reader) map[string]string {
	tb.Helper()
	tool, err := exec.LookPath("mbstream")
	if err != nil {
		tb.Skip("needs mbstream, of the package mariadb-backup: ", err)
	}
	dir := tb.TempDir()
	cmd := exec.CommandContext(tb.Context(), tool, "-x", "-C", dir)
	cmd.Stdin = stream
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		tb.Fatalf("mbstream -x: %v: %s", err, out)
	}
	return tree(tb, dir)
}

// TestWriterHoles has more holes than a chunk takes, and data beyond a chunk's buffer between them.
func TestWriterHoles(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	f, g := create(t, w, "f"), create(t, w, "g")
	var want bytes.Buffer
	for i := range 2*writeMap + 5 {
		s := strings.Repeat("x", i%7)
		f.hole(int64(i % 3)).write(s)
		want.Write(make([]byte, i%3))
		want.WriteString(s)
	}
	long := strings.Repeat("0123456789abcdef", 3*writeLen/32)
	f.write(long).hole(5).write(long).write(long).hole(0).hole(9)
	want.WriteString(long + "\x00\x00\x00\x00\x00" + long + long + strings.Repeat("\x00", 9))
	g.hole(10).close()
	f.close()
	got, _, err := extract(t, b.Bytes(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantTree := map[string]string{"f": digest(want.Bytes()), "g": strings.Repeat("\x00", 10)}
	if diff := cmp.Diff(wantTree, got); diff != "" {
		t.Error(diff)
	}
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter(io.Discard)
	create(t, w, "a/b")
	for _, name := range []string{"", "/a", "../a", "a//b", "x\x00", "a/b", "./a/b", "a", "a/b/c", strings.Repeat("n", MaxPath)} {
		if _, err := w.Create(name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	f := create(t, w, "c")
	f.size = math.MaxInt64
	if err := f.WriteHole(-1); err == nil {
		t.Error("a hole of negative length was taken")
	}
	if err := f.WriteHole(1); err == nil {
		t.Error("a hole beyond the largest offset was taken")
	}
	f = create(t, w, "d")
	f.close()
	_, err := f.Write([]byte("x"))
	_, errFrom := f.ReadFrom(strings.NewReader("x"))
	if err == nil || errFrom == nil || f.WriteHole(1) == nil {
		t.Error("closed file takes more")
	}
}

func TestWriterErrors(t *testing.T) {
	pr, pw := io.Pipe()
	_ = pr.CloseWithError(os.ErrDeadlineExceeded)
	w := NewWriter(pw)
	f, g := create(t, w, "f"), create(t, w, "g")
	n, err := f.Write(make([]byte, writeLen+1))
	if n != writeLen || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("written %d, %v", n, err)
	}
	if err := g.Close(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if _, err := w.Create("h"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("create: %v", err)
	}

	f = create(t, NewWriter(io.Discard), "f")
	if _, err := f.ReadFrom(iotest.ErrReader(os.ErrClosed)); err != os.ErrClosed { //nolint:errorlint // as it is
		t.Errorf("read from: %v", err)
	}
}
