package xbstream

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// recorded are the streams in testdata that can be unpacked, each with its last file.
var recorded = map[string]string{
	"mariadb-10.11.19-primary":  "xtrabackup_info",
	"pxb-8.0.6-primary-gtid":    "xtrabackup_tablespaces",
	"pxb-8.0.6-primary-filepos": "xtrabackup_tablespaces",
	"pxb-8.0.6-replica-gtid":    "xtrabackup_tablespaces",
	"pxb-8.0.6-replica-filepos": "xtrabackup_tablespaces",
}

// openRecorded opens a stream in testdata. The zstd around it is only there to save space.
func openRecorded(tb testing.TB, name string) io.Reader {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".xbstream.zst"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(z.Close)
	return z
}

// digests reads the list of what the tool's own unpacker made of a stream.
func digests(tb testing.TB, name string) map[string]string {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".sha256"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	files := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		sum, file, ok := strings.Cut(lines.Text(), "  ")
		if !ok {
			tb.Fatalf("line %q", lines.Text())
		}
		files[strings.TrimPrefix(file, "./")] = sum
	}
	if lines.Err() != nil || len(files) == 0 {
		tb.Fatal(lines.Err(), len(files))
	}
	return files
}

// digested is tree with digests throughout.
func digested(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	files := tree(tb, dir)
	for name, content := range files {
		if len(content) != 64 {
			files[name] = digest([]byte(content))
		}
	}
	return files
}

// TestRecorded unpacks what the real tools streamed, and compares it with what their own unpackers
// made of it.
func TestRecorded(t *testing.T) {
	info := func(name string) bool { return strings.HasPrefix(name, "xtrabackup_") }
	for name, last := range recorded {
		t.Run(name, func(t *testing.T) {
			dir, want := t.TempDir(), digests(t, name)
			var seen int64
			summary, err := Extract(t.Context(), openRecorded(t, name), openRoot(t, dir), Options{
				Capture: info, Progress: func(p Progress) { seen = p.Pos },
			})
			if err != nil {
				t.Fatal(err)
			}
			got := digested(t, dir)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if summary.Files != len(want) || summary.LastFile != last || seen < summary.Bytes {
				t.Errorf("%d files, last %q, want %d and %q", summary.Files, summary.LastFile, len(want), last)
			}
			for name, content := range summary.Captured {
				if got[name] != digest(content) {
					t.Errorf("%s: captured %q", name, content)
				}
				delete(got, name)
			}
			maps.DeleteFunc(got, func(name, _ string) bool { return !info(name) })
			if len(got) > 0 {
				t.Errorf("not captured: %v", got)
			}
			checked, err := Check(t.Context(), openRecorded(t, name), Options{Capture: info})
			if diff := cmp.Diff(summary, checked); diff != "" || err != nil {
				t.Error(diff, err)
			}
		})
	}
}

// TestRecordedEmptySchema has a schema without tables in the recorded streams, in the words of
// XtraBackup 8.0.6: an empty file whose name has two slashes, before the files with which the tool
// ends a stream.
func TestRecordedEmptySchema(t *testing.T) {
	for _, name := range []string{"mariadb-10.11.19-primary", "pxb-8.0.6-primary-gtid"} {
		t.Run(name, func(t *testing.T) {
			whole, err := io.ReadAll(openRecorded(t, name))
			if err != nil {
				t.Fatal(err)
			}
			at := int64(-1)
			for r := NewReader(bytes.NewReader(whole)); at < 0; {
				c, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(c.Path, "xtrabackup_") {
					at = c.Start
				}
			}
			s := &stream{b: slices.Clone(whole[:at])}
			s.end("x//db.opt")
			s.b = append(s.b, whole[at:]...)
			want := digests(t, name)
			want["x/db.opt"] = digest(nil)
			dir := t.TempDir()
			summary, err := Extract(t.Context(), bytes.NewReader(s.b), openRoot(t, dir), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, digested(t, dir)); diff != "" {
				t.Error(diff)
			}
			if checked, err := Check(t.Context(), bytes.NewReader(s.b), Options{}); err != nil || checked.Files != summary.Files {
				t.Error(checked, err)
			}
			if name == "mariadb-10.11.19-primary" {
				if diff := cmp.Diff(mbstream(t, bytes.NewReader(s.b)), tree(t, dir)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestRecordedQuicklz(t *testing.T) {
	_, err := Extract(t.Context(), openRecorded(t, "pxb-8.0.6-primary-gtid-qp"), openRoot(t, t.TempDir()), Options{})
	wantError(t, err, ErrUnsupported, "ibdata1.qp")
}

// TestRecordedMbstream has the real tool unpack its stream here and now.
func TestRecordedMbstream(t *testing.T) {
	const name = "mariadb-10.11.19-primary"
	dir := t.TempDir()
	if _, err := Extract(t.Context(), openRecorded(t, name), openRoot(t, dir), Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mbstream(t, openRecorded(t, name)), tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}
