package engine

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"understudy/clone/xbstream"
	"understudy/replicate/origin"

	"golang.org/x/sys/unix"
)

// allocated is how many bytes a file takes on disk.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// Files with holes arrive as they were, holes included.
func TestArchiveKeepsHoles(t *testing.T) {
	const size, at = 8 << 20, 3 << 20
	page := bytes.Repeat([]byte("page"), 16<<10)
	for name, content := range map[string]func(f *os.File) error{
		"no holes":           func(f *os.File) error { _, err := f.Write(bytes.Repeat(page, 3)); return err },
		"empty":              func(*os.File) error { return nil },
		"one hole":           func(f *os.File) error { return f.Truncate(size) },
		"data between holes": func(f *os.File) error { _, err := f.WriteAt(page, at); return errors.Join(err, f.Truncate(size)) },
		"a hole between data": func(f *os.File) error {
			_, err := f.WriteAt(page, 0)
			_, err2 := f.WriteAt(page, at)
			return errors.Join(err, err2)
		},
		"a hole and then data": func(f *os.File) error { _, err := f.WriteAt(page, at); return err },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			f, err := os.Create(filepath.Join(from, "t.ibd"))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(content(f), f.Sync(), f.Close()); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			before := allocated(t, f.Name())
			root, err := os.OpenRoot(to)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = root.Close() }()
			p := newProcess(func(w io.Writer) error {
				a := newArchive(w)
				return errors.Join(a.begin("9.7.4"), a.begin("9.7.4"), a.add(t.Context(), from), a.end(origin.Origin{}, "ibdata1:12M:autoextend"))
			})
			if _, err := xbstream.Extract(t.Context(), p.Stdout, root, xbstream.Options{}); err != nil {
				t.Fatal(err)
			}
			if err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			wantEmpty(t, from)
			got, err := os.ReadFile(filepath.Join(to, "t.ibd"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
			}
			if after := allocated(t, filepath.Join(to, "t.ibd")); after != before {
				t.Errorf("%d bytes on disk, want %d", after, before)
			}
		})
	}
}
