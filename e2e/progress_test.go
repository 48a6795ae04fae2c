package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// A running clone is shown in every place that reports it, at both ends. It takes no more of the
// network than the limits file allows, also when the file changes.
func TestProgressAndLimits(t *testing.T) {
	t.Parallel()
	limits, limit := limitsFile(t)
	limit("2MiB")
	ctx, s := newSet(t, install(t), func(c *set.Config) {
		insecure(c)
		c.SidecarFlags = append(c.SidecarFlags, "--limits-file="+limits)
	})
	m0 := primary(ctx, t, s, 32<<20)
	m1 := s.Member(1)
	joiner, err := m1.StartInit()
	if err != nil {
		t.Fatal(err)
	}
	first := await(ctx, t, m0, "the clone to be given", func(f member) bool { return len(f.Giving) > 0 && f.Giving[0].Bytes > 4<<20 })
	begun := time.Now()
	taking := await(ctx, t, m1, "the joiner to say how far it is", func(f member) bool { return f.Cloning != nil && f.Cloning.Percent > 0 })
	if taking.Phase != "cloning" || taking.Cloning.Donor != "db-0" || first.Giving[0].Joiner != "db-1" || first.Giving[0].Total == 0 {
		t.Errorf("the joiner says %+v, the donor %+v", taking, first)
	}
	for _, look := range []struct {
		m    *set.Member
		want string
	}{
		{m0, `understudy_clone_giving_bytes{joiner="db-1"} `},
		{m1, `understudy_clone_taking_bytes{donor="db-0"} `},
		{m1, `understudy_clone_taking_eta_seconds{donor="db-0"} `},
	} {
		if _, body, err := look.m.Get(ctx, "/metrics"); err != nil || !strings.Contains(body, look.want) {
			t.Errorf("%s: no %s in /metrics (%v):\n%s", look.m.Name(), look.want, err, body)
		}
	}
	eventually(t, time.Minute, "the progress file is there", func() bool {
		text, err := os.ReadFile(filepath.Join(m1.Volume, ".understudy", "progress.json"))
		return err == nil && strings.Contains(string(text), `"donor":"db-0"`)
	})
	looked := time.Now()
	before, _ := sent(t, m0)
	time.Sleep(3 * time.Second) // a rate needs time
	after, _ := sent(t, m0)
	rate := float64(after-before) / time.Since(looked).Seconds() / (1 << 20)
	t.Logf("%.1f MiB/s of 2 allowed", rate)
	if rate > 2.5 || rate < 0.5 {
		t.Errorf("%.1f MiB a second, and 2 are allowed", rate)
	}
	limit("0")
	eventually(t, 30*time.Second, "the limit is lifted, and the clone has been given", func() bool {
		var f member
		return facts(ctx, m0, &f) == nil && len(f.Giving) == 0
	})
	if err := joiner.Err(); err != nil { // it prepares its copy before it ends
		t.Error(err)
	}
	t.Logf("without the limit it ended %v after it began", time.Since(begun).Round(time.Second))
	isComplete(t, m1)
	nothingLeft(t, m1)
}

// sent is how much of the only clone has left the donor.
func sent(t *testing.T, m *set.Member) (bytes, total int64) {
	t.Helper()
	var f member
	if err := facts(t.Context(), m, &f); err != nil || len(f.Giving) != 1 {
		t.Fatal(fmt.Errorf("the clone is not given any more: %+v, %w", f, err))
	}
	return f.Giving[0].Sent, f.Giving[0].Total
}

// limitsFile is a file for --limits-file, and a function that writes a rate to it.
func limitsFile(t *testing.T) (path string, limit func(rate string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "limits")
	return path, func(rate string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte("max-rate="+rate+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}
