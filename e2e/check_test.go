package e2e

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// checkLogs looks for secrets and data races in the members' logs, and shows the logs of a test
// that failed.
func checkLogs(t *testing.T, s *set.Set) {
	t.Helper()
	secrets := map[string]string{"the root password": s.RootPassword()}
	for what, path := range map[string]string{
		"the set's secret": s.SecretFile(), "the replication password": s.ReplicationPasswordFile(),
		"the sidecar's password": s.SidecarPasswordFile(), "the clone's password": s.ClonePasswordFile(),
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		secrets[what] = strings.TrimSpace(string(text))
	}
	logs, err := s.Logs()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		for what, secret := range secrets {
			if bytes.Contains(l.Text, []byte(secret)) {
				t.Errorf("%s is in %s", what, l.Path)
			}
		}
		if bytes.Contains(l.Text, []byte("DATA RACE")) {
			t.Errorf("a data race, see %s:\n%s", l.Path, l.Text)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", l.Path, l.Tail())
		}
	}
}

// nothingBootable fails the test unless the live directory is absent or empty.
func nothingBootable(t *testing.T, m *set.Member) {
	t.Helper()
	entries, err := os.ReadDir(m.Live())
	if err == nil && len(entries) > 0 {
		t.Errorf("%s is not empty: it holds %d entries, %s first", m.Live(), len(entries), entries[0].Name())
	}
}

// nothingLeft fails the test when working files lie below .understudy.
func nothingLeft(t *testing.T, m *set.Member) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(m.Volume, ".understudy"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "journal", "lock":
			continue
		case "snapshot": // it stays, for it is a mount point
			if inside, err := os.ReadDir(filepath.Join(m.Volume, ".understudy", "snapshot")); err == nil && len(inside) == 0 {
				continue
			}
		}
		t.Errorf("left behind: .understudy/%s", e.Name())
	}
}

// processes are the ids of the processes whose command line contains text.
func processes(t *testing.T, text string) []int {
	t.Helper()
	lines, err := fs.Glob(os.DirFS("/proc"), "[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, name := range lines {
		line, err := os.ReadFile(filepath.Join("/proc", name))
		if err != nil || !bytes.Contains(line, []byte(text)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Dir(name))
		if err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// backups are the backup tools that run for a member: their working directory names it.
func backups(t *testing.T, m *set.Member) []int {
	t.Helper()
	return processes(t, "--target-dir="+m.Volume)
}

// eventually polls until ok, and fails the test with what after limit: a minute, which a machine takes
// that is busy with other things, but where something else would make it so by then.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", limit, what)
		case <-tick.C:
		}
	}
}

// initOK runs init and fails the test unless it ends with the code.
func initCode(ctx context.Context, t *testing.T, m *set.Member, code int, more ...string) set.Run {
	t.Helper()
	r, err := m.Init(ctx, nil, more...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != code {
		t.Fatalf("init of %s ended with %d, not %d:\n%s", m.Name(), r.Code, code, r.Stderr)
	}
	return r
}
