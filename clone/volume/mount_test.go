package volume

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// prepared is a volume with a complete copy in staging.
func prepared(t *testing.T, files map[string]string) (*Volume, Journal) {
	t.Helper()
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, files)
	j := Journal{Phase: Prepared, ID: "next"}
	staging, err := v.NewStaging(j.ID)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, staging, map[string]string{"ibdata1": "new"})
	return v, j
}

// A file system's lost+found does not keep a clone from its place. What it holds is kept.
func TestPublishBesideLostAndFound(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"nothing was found": {"mysql/lost+found/": ""}, "something was": {"mysql/lost+found/#12": "precious"},
	} {
		t.Run(name, func(t *testing.T) {
			v, j := prepared(t, files)
			if _, err := v.Publish(j); err != nil {
				t.Fatal(err)
			}
			if got := content(t, v.Live(), "ibdata1"); got != "new" {
				t.Errorf("the live directory holds %q", got)
			}
			kept, err := filepath.Glob(v.meta("replaced-*/lost+found/#12"))
			if want := len(files["mysql/lost+found/#12"]) / len("precious"); err != nil || len(kept) != want {
				t.Errorf("%v, %v; want %d", kept, err, want)
			}
		})
	}
}

// A data directory that is a file system of its own is seen before anything is copied.
func TestMounted(t *testing.T) {
	v, j := prepared(t, map[string]string{"mysql/": ""})
	if err := v.Mounted(); err != nil {
		t.Error(err)
	}
	mount(t, v.Live(), "tmpfs", 0)
	for what, err := range map[string]error{"mounted": v.Mounted(), "replaceable": v.Replaceable(), "publish": second(v.Publish(j))} {
		if !errors.Is(err, ErrMounted) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// So is one that is mounted from the volume's own file system.
func TestMountedFromTheSameFileSystem(t *testing.T) {
	v, _ := prepared(t, map[string]string{"mysql/": ""})
	mount(t, v.Live(), t.TempDir(), unix.MS_BIND)
	if err := v.Mounted(); !errors.Is(err, ErrMounted) {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func mount(t *testing.T, dir, source string, flags uintptr) {
	t.Helper()
	err := unix.Mount(source, dir, "tmpfs", flags, "")
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// The directory of the snapshots may be a file system of its own.
func TestClearLeavesLostAndFound(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, map[string]string{"lost+found/": "", "mysql/x": ""})
	if err := Clear(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != lostFound {
		t.Errorf("%v, %v", entries, err)
	}
}
