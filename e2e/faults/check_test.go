//go:build faults

package faults

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// within polls, and counts a leak when the error has not gone after limit.
func within(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			total.leak()
			t.Errorf("left over: %v", err)
			return
		}
		<-tick.C
	}
}

// processes are the ids of the processes whose command line contains text.
func processes(text string) ([]int, error) {
	names, err := fs.Glob(os.DirFS("/proc"), "[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		line, err := os.ReadFile(filepath.Join("/proc", name))
		if err != nil || !bytes.Contains(line, []byte(text)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Dir(name)); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// sameAsRecorded compares a directory with what mbstream made of the recorded stream. What
// was prepared has changed, and can be looked at from outside only.
func sameAsRecorded(dir string, prepared bool) error {
	if prepared {
		return copyIn(dir, "log-applied")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	seen := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return err
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != manifest()[name] {
			return fmt.Errorf("%s has the digest %s instead of %q", name, got, manifest()[name])
		}
		seen++
		return nil
	})
	if err == nil && seen != len(manifest()) {
		err = fmt.Errorf("%d files came instead of %d", seen, len(manifest()))
	}
	return err
}

// copyIn checks what the tool says of a copy.
func copyIn(dir, kind string) error {
	text, err := os.ReadFile(filepath.Join(dir, "xtrabackup_checkpoints"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "backup_type = "+kind) {
		return fmt.Errorf("not %s: %s", kind, text)
	}
	for _, name := range []string{"ibdata1", "xtrabackup_info"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
