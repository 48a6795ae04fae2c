package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/process"
	"understudy/e2e/set"
)

// tutorialDonor serves raw clones of a member as the tutorial's container does.
func tutorialDonor(t *testing.T, s *set.Set, m *set.Member, port string) {
	t.Helper()
	ncat(t)
	dir := t.TempDir()
	options := filepath.Join(dir, "client.cnf")
	if err := os.WriteFile(options, fmt.Appendf(nil, "[client]\npassword=%s\n", s.RootPassword()), 0o600); err != nil {
		t.Fatal(err)
	}
	tool := fmt.Sprintf("mariadb-backup --defaults-file=%s --backup --slave-info --stream=xbstream --host=%s --user=root --target-dir=%s/work 2>>%s/log",
		options, m.Host, dir, dir)
	cmd := exec.CommandContext(t.Context(), "ncat", "--listen", "--keep-open", "--send-only", "--max-conns=1", m.Host, port, "-c", tool)
	p, err := process.Start(cmd, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
}

func ncat(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ncat"); err != nil {
		t.Skip(err)
	}
}

// The donor is an ncat, as in the tutorial. A joiner takes its stream only with --protocol=auto or
// raw.
func TestTutorialDonor(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), func(c *set.Config) { c.InitFlags = []string{"--clone-port=3317", "--members=1"} })
	m0, m1 := primary(ctx, t, s, 8<<20), s.Member(1)
	_, finish := write(ctx, t, m0)
	tutorialDonor(t, s, m0, "3317")
	// ncat answers once its tool has started.
	r := initCode(ctx, t, m1, 4, "--wait=30s")
	if !strings.Contains(r.LastLine(), "ncat") {
		t.Errorf("the last line does not say what the donor is: %s", r.LastLine())
	}
	nothingBootable(t, m1)
	// ncat may still be busy with the stream that was refused.
	r = initCode(ctx, t, m1, 0, "--protocol=auto", "--wait=1m")
	if !strings.Contains(r.Stderr, "without trust") {
		t.Errorf("no warning:\n%s", r.Stderr)
	}
	isComplete(t, m1)
	if j, err := m1.Journal(); err != nil || j.Origin.GTID == "" || j.Donor != "db-0" {
		t.Errorf("journal %+v, %v", j, err)
	}
	up(ctx, t, m1)
	finish(m1)
}

// The tutorial's joiner gets a clone from a sidecar with --allow-raw, and only if it connects from
// a member's address.
func TestTutorialJoiner(t *testing.T) {
	t.Parallel()
	ncat(t)
	ctx, s := newSet(t, install(t), func(c *set.Config) { c.SidecarFlags = []string{"--allow-raw"} })
	m0 := primary(ctx, t, s, 8<<20)
	join := func(from string) (string, error) {
		dir := t.TempDir()
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		line := fmt.Sprintf("set -o pipefail; ncat --recv-only -s %s %s 3307 | mbstream -x -C %s", from, m0.Host, dir)
		text, err := exec.CommandContext(ctx, "bash", "-c", line).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return dir, err
	}
	dir, err := join(s.Host(1))
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"xtrabackup_info", "ibdata1"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	dir, _ = join("127.0.0.1") // whatever its exit code: the old one's is no proof
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a stranger got %d files (%v)", len(entries), err)
	}
	eventually(t, 20*time.Second, "the tool has ended", func() bool { return len(backups(t, m0)) == 0 })
	if err := errors.Join(m0.StopSidecar(ctx)); err != nil {
		t.Error(err)
	}
	nothingLeft(t, m0)
}
