package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What is installed is this program, also over one that was there; nothing else is left.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "understudy")
	if err := os.WriteFile(path, []byte("an earlier version"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := install(dir); err != nil {
		t.Fatal(err)
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	installed, err := os.Stat(path)
	if err != nil || installed.Size() != self.Size() || installed.Mode() != 0o755 {
		t.Errorf("%+v: %v", installed, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
	if err := install(filepath.Join(dir, "absent")); err == nil {
		t.Error("it installs into a directory that is not there")
	}
}
