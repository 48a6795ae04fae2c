package lead

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Wall clocks jump. What decides about terms reads CLOCK_BOOTTIME (fence.Now): time.Now is only for
// the deadlines of sockets, which Go counts on its monotonic clock.
func TestClock(t *testing.T) {
	wall := regexp.MustCompile(`\btime\.(Now|Since|Until)\b`)
	deadline := regexp.MustCompile(`time\.Now\(\)\.Add\((patience|firstRequest)\)`)
	files := 0
	for _, pattern := range []string{"*.go", "../failover/*.go", "../fence/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			files++
			for i, line := range strings.Split(string(text), "\n") {
				if wall.MatchString(deadline.ReplaceAllString(line, "")) {
					t.Errorf("%s:%d reads the wall clock: %s", path, i+1, line)
				}
			}
		}
	}
	if files < 20 {
		t.Errorf("%d files were read", files)
	}
}
