package engine

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"understudy/clone/mysqlwire"
	"understudy/clone/xbstream"

	"github.com/google/go-cmp/cmp"
)

type nopCloser struct{ *bytes.Buffer }

func (nopCloser) Close() error { return nil }

// changed are files with changes beside them.
func changed(t *testing.T, files map[string]string, changes []byte) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, changesName), changes, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// contents are those of all files.
func contents(t *testing.T, root *os.Root) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := root.ReadFile(name)
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// someChanges are one of each kind, and two files that change places.
func someChanges(tb testing.TB) []byte {
	tb.Helper()
	var b bytes.Buffer
	c := &changes{w: nopCloser{&b}}
	err := errors.Join(
		c.write("shop/a", 2, []byte("XY")), c.write("shop/a", 6, []byte("Z")), c.write("#redo/0", 1, []byte("r")),
		c.size("shop/b", 5), c.size("shop/a", 1), c.size("made", 2), c.delete("shop/c"),
		c.rename("shop/a", "shop/b"), c.rename("shop/b", "shop/a"), c.rename("made", "new/made"), c.end(),
	)
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

var before = map[string]string{"shop/a": "aaaaa", "shop/b": "bbb", "shop/c": "c"}

func TestChanges(t *testing.T) {
	root := changed(t, before, someChanges(t))
	if err := applyChanges(root); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"shop/b": "aaXYa\x00Z", "shop/a": "bbb\x00\x00", "new/made": "\x00\x00", "#redo/0": "\x00r"}
	if d := cmp.Diff(want, contents(t, root)); d != "" {
		t.Error(d)
	}
	if err := applyChanges(root); !errors.Is(err, errChanges) {
		t.Errorf("without changes: %v", err)
	}
}

// Changes that are cut short, or not ours, are never taken for whole.
func TestChangesBroken(t *testing.T) {
	whole := someChanges(t)
	for n := range whole {
		root := changed(t, before, whole[:n])
		if err := applyChanges(root); err == nil {
			t.Fatalf("the first %d bytes are taken for all", n)
		}
		if _, err := root.Stat(changesName); err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
	record := func(kind byte, name string, rest ...byte) []byte {
		return append(appendName([]byte{kind}, name), rest...)
	}
	for name, b := range map[string][]byte{
		"more":     append(bytes.Clone(whole), 0),
		"kind":     record(7, "a"),
		"outside":  record(changeSize, "../a", 1, 0, 0, 0, 0, 0, 0, 0),
		"absolute": record(changeDelete, "/etc/passwd"),
		"itself":   record(changeSize, changesName, 255, 0, 0, 0, 0, 0, 0, 0),
		"aside":    record(changeRename, "shop/a", appendName(nil, changesName+asideMark+"0")...),
		"long":     record(changeWrite, "a", 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255),
		"far":      record(changeSize, "a", 255, 255, 255, 255, 255, 255, 255, 255),
	} {
		if err := applyChanges(changed(t, before, b)); !errors.Is(err, errChanges) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzChanges: nothing is written outside of the directory.
func FuzzChanges(f *testing.F) {
	f.Add(someChanges(f))
	f.Add(appendName([]byte{changeRename}, "../x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "copy")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, changesName), b, 0o600)); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = root.Close() }()
		_ = applyChanges(root)
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Fatal(entries, err)
		}
	})
}

// Blocks of zeros become holes, and come back.
func TestFindHoles(t *testing.T) {
	zeros, ones := make([]byte, holeBytes), bytes.Repeat([]byte{1}, holeBytes)
	for name, data := range map[string][]byte{
		"none":  bytes.Repeat(ones, 3),
		"all":   bytes.Repeat(zeros, 3),
		"mixed": slicesOf(ones, zeros, zeros, ones, ones, zeros),
		"short": slicesOf(zeros, ones, zeros[:100]),
	} {
		holes, payload := findHoles(data)
		var back []byte
		for _, h := range holes {
			back = append(back, make([]byte, h.Skip)...)
			back = append(back, payload[:h.Length]...)
			payload = payload[h.Length:]
		}
		if !bytes.Equal(back, data) || len(payload) > 0 {
			t.Errorf("%s: %v", name, holes)
		}
	}
}

func slicesOf(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// The last file of a system tablespace of several files takes what its first page says of all.
func TestSystemTablespaceOfSeveralFiles(t *testing.T) {
	d := &direct{snapshot: &snapshot{}, files: map[fileID]*directFile{
		{index: 0}: {File: mysqlwire.File{Size: 30 * mib}, size: 12 * mib},
		{index: 1}: {File: mysqlwire.File{Index: 1, Size: 8 * mib}, size: 8 * mib},
	}}
	d.spread([]fileID{{index: 0}, {index: 1}})
	if first, last := d.files[fileID{}].Size, d.files[fileID{index: 1}].Size; first != 12*mib || last != 18*mib && last != 8*mib {
		t.Errorf("sizes %d and %d", first/mib, last/mib)
	} else if last != 18*mib {
		t.Errorf("the last file has %d MiB, want 18", last/mib)
	}
}

// How large pages and extents are, by the flags that real tablespaces have.
func TestPageSizes(t *testing.T) {
	tests := []struct {
		flags        uint32
		logical      int64
		page, extent int64
	}{
		{16417, 16 << 10, 16 << 10, 1 << 20}, // DYNAMIC
		{16417 | 4<<1, 16 << 10, 8 << 10, 512 << 10},
		{noTablespace, 16 << 10, 16 << 10, 1 << 20},
		{0, 4 << 10, 4 << 10, 1 << 20},
		{0, 64 << 10, 64 << 10, 4 << 20},
	}
	for _, tt := range tests {
		if p, e := pageSize(tt.flags, tt.logical), extentSize(tt.flags, tt.logical); p != tt.page || e != tt.extent {
			t.Errorf("flags %d, pages of %d: %d and %d", tt.flags, tt.logical, p, e)
		}
	}
	if _, err := xbstream.CleanPath(changesName); err != nil {
		t.Error(err)
	}
}
