package volume

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSinceLinux(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0-generic": true, "5.10": true, "6.1.0-18-amd64": true, "10.0": true, "5.8-rc1": true,
		"5.7.19": false, "4.18.0-553.el8_10.x86_64": false, "": false, "plan9": false,
	} {
		if got := sinceLinux(release, 5, 8); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

// Both ways reach all of a tree, and tell of what they cannot reach. What they sync is seen in the
// end-to-end tests.
func TestSyncTree(t *testing.T) {
	dir := t.TempDir()
	before, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = before.Close() }()
	tree := filepath.Join(dir, "tree")
	for _, name := range []string{"ibdata1", "shop/t.ibd", "shop/deep/er/t.ibd"} {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), DirMode); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nonexistent", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{before, nil} {
		if err := syncTree(tree, f); err != nil {
			t.Error(err)
		}
		if err := syncTree(filepath.Join(dir, "absent"), f); err == nil {
			t.Error("a tree that is not there was synced")
		}
	}
}
