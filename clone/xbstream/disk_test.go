package xbstream

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExtractIntoUsed has things in the way. None is followed or changed.
func TestExtractIntoUsed(t *testing.T) {
	outside := t.TempDir()
	tests := []struct {
		name string
		make func(dir string) error
		file string
		ok   bool
	}{
		{"file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "d"), nil, 0o600) }, "d", false},
		{"file for directory", func(dir string) error { return os.WriteFile(filepath.Join(dir, "d"), nil, 0o600) }, "d/f", false},
		{"link", func(dir string) error { return os.Symlink(filepath.Join(outside, "f"), filepath.Join(dir, "d")) }, "d", false},
		{"link inside", func(dir string) error { return os.Symlink("other", filepath.Join(dir, "d")) }, "d", false},
		{"directory is a link", func(dir string) error { return os.Symlink(outside, filepath.Join(dir, "d")) }, "d/f", false},
		{
			"directory is a link inside", func(dir string) error {
				return errors.Join(os.Mkdir(filepath.Join(dir, "e"), 0o750), os.Symlink("e", filepath.Join(dir, "d")))
			}, "d/f", false,
		},
		{"directory", func(dir string) error { return os.Mkdir(filepath.Join(dir, "d"), 0o750) }, "d/f", true},
		{"directory for file", func(dir string) error { return os.Mkdir(filepath.Join(dir, "d"), 0o750) }, "d", false},
	}
	for _, tt := range tests {
		for _, file := range []string{tt.file, tt.file + ".zst"} {
			t.Run(tt.name+" "+file, func(t *testing.T) {
				dir := t.TempDir()
				if err := tt.make(dir); err != nil {
					t.Fatal(err)
				}
				s := new(stream).file(file, string(zstdFrame(t, "content")))
				_, err := Extract(t.Context(), bytes.NewReader(s.b), openRoot(t, dir), Options{})
				switch {
				case tt.ok && err != nil:
					t.Error(err)
				case !tt.ok && (!errors.Is(err, fs.ErrExist) || errors.Is(err, ErrCorrupt)):
					t.Errorf("error is %v, want one about what exists", err)
				}
				if left := tree(t, outside); len(left) > 0 {
					t.Errorf("written outside: %v", left)
				}
			})
		}
	}
}

// TestExtractDiskFull mounts a small file system, which takes root.
func TestExtractDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a small file system: ", err)
	}
	root := openRoot(t, dir)
	t.Cleanup(func() {
		_ = root.Close()
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err) // a file is still open
		}
	})
	content := strings.Repeat("0123456789abcdef", 4<<20/16)
	for _, s := range []*stream{
		new(stream).file("d/t.ibd", content),
		new(stream).file("d/u.ibd.zst", string(zstdFrame(t, content))),
	} {
		_, err := Extract(t.Context(), bytes.NewReader(s.b), root, Options{})
		if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), ".ibd") {
			t.Errorf("error is %v", err)
		}
	}
}

func TestExtractClosedRoot(t *testing.T) {
	root := openRoot(t, t.TempDir())
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f", "d/f", "f.lz4"} {
		_, err := Extract(t.Context(), bytes.NewReader(new(stream).file(name, "x").b), root, Options{})
		if !errors.Is(err, os.ErrClosed) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestSparse unpacks holes by the format text: before, between and after data, over several chunks.
func TestSparse(t *testing.T) {
	const hole = 8 << 20
	var s stream
	s.sparse("t.ibd", 0, []Extent{{hole, 3}, {hole, 2}}, "abcde").data("t.ibd", 2*hole+5, "fg")
	s.sparse("t.ibd", 2*hole+7, []Extent{{0, 1}, {hole, 0}}, "h").end("t.ibd")
	s.sparse("hole", 0, []Extent{{hole, 0}, {hole, 0}}, "").end("hole")
	s.sparse("data", 0, []Extent{{0, 2}, {0, 1}}, "xyz").end("data")
	s.sparse("nothing", 0, nil, "").end("nothing")
	dir := t.TempDir()
	summary, err := Extract(t.Context(), bytes.NewReader(s.b), openRoot(t, dir), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if summary.Bytes != 5+2+1+3 {
		t.Errorf("payload is %d bytes", summary.Bytes)
	}
	want := make([]byte, 3*hole+8)
	copy(want[hole:], "abc")
	copy(want[2*hole+3:], "defgh")
	wantTree := map[string]string{
		"t.ibd": digest(want), "hole": digest(make([]byte, 2*hole)), "data": "xyz", "nothing": "",
	}
	if diff := cmp.Diff(wantTree, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	for name, limit := range map[string]int64{"t.ibd": 128 << 10, "hole": 0} {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		if used := st.Blocks * 512; used > limit {
			t.Errorf("%s: %d bytes on disk, want at most %d of its %d", name, used, limit, st.Size)
		}
	}
}

// TestSparseLong splits pieces that are longer than a buffer.
func TestSparseLong(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 5*bufferSize/32)
	s := new(stream).sparse("f", 0, []Extent{{10, 7}, {10, u32(len(content) - 7)}}, content).end("f")
	got, _, err := extract(t, s.b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("\x00", 10) + content[:7] + strings.Repeat("\x00", 10) + content[7:]
	if diff := cmp.Diff(map[string]string{"f": digest([]byte(want))}, got); diff != "" {
		t.Error(diff)
	}
}
