package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/clone"

	"golang.org/x/sys/unix"
)

// Where a clone cannot take its name is seen before anybody is asked for it.
func TestCloneFromTarget(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"empty", "full/lost+found", "mounted"} {
		if err := os.MkdirAll(name, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile("file", nil, 0o600), os.Symlink("empty", "link")); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		to, want string
		refused  bool
	}{
		{"-", "", false},
		{"new", "", false},
		{"new.xbstream", "", false},
		{"empty", "", false},
		{"empty/../empty/", "", false},
		{"full", "full is not empty", true},
		{".", "is the working directory, and the clone is made beside it", true},
		{"../" + filepath.Base(dir), "name a directory that does not exist yet, as in --to " + filepath.Join(dir, "clone"), true},
		{"absent/new", filepath.Join(dir, "absent") + " is not a directory", false},
		{"file/new", "is not a directory", false},
		{"file", "it is a file or a link", false},
		{"link", "it is a file or a link", false},
	}
	if err := unix.Mount("tmpfs", "mounted", "tmpfs", 0, ""); err == nil {
		t.Cleanup(func() { _ = unix.Unmount(filepath.Join(dir, "mounted"), unix.MNT_DETACH) })
		tests = append(tests, struct {
			to, want string
			refused  bool
		}{"mounted", "is a mount point, and the clone is made beside it", true})
	}
	for _, tt := range tests {
		t.Run(tt.to, func(t *testing.T) {
			v := &cloneFromVerb{to: tt.to}
			err := v.checkTarget()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || errors.Is(err, clone.ErrRefused) != tt.refused {
				t.Errorf("err = %v", err)
			}
		})
	}
}
