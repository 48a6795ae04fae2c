package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Whoever writes the same file at once (the sidecar, and people who run understudy reseed
// beside it) leaves one text, whole, and nothing else.
func TestRacingWriters(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	long := strings.Repeat("x", 64<<10)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 8 {
				r := Request{By: fmt.Sprint(i), Reason: long[:8<<10*(i%4)], At: time.Unix(0, 0)}
				if err := WriteRequest(root, r); err != nil {
					t.Error(err)
				}
				if r, err := ReadRequest(root); err != nil || r == nil {
					t.Errorf("%v, %v", r, err)
				}
			}
		})
	}
	wg.Wait()
	if left, err := filepath.Glob(v.meta("*" + newSuffix)); err != nil || left != nil {
		t.Errorf("%v, %v", left, err)
	}
	if info, err := os.Stat(v.meta(requestName)); err != nil || info.Mode().Perm() != ownerReads {
		t.Errorf("%v, %v", info, err)
	}
}

// What a writer that was killed has left is swept; what one writes now is not.
func TestSweepAbandoned(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, map[string]string{".understudy/journal.1.new": "", ".understudy/paused.1.new": "", ".understudy/paused.2.new": ""})
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(v.meta("paused.1.new"), past, past); err != nil {
		t.Fatal(err)
	}
	if err := v.Sweep(""); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(v.meta("*" + newSuffix)); err != nil || len(left) != 1 || left[0] != v.meta("paused.2.new") {
		t.Errorf("%v, %v", left, err)
	}
}
