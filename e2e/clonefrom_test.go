package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/network"
	"understudy/e2e/process"
	"understudy/e2e/testserver"
)

func TestCloneFrom(t *testing.T) {
	t.Parallel()
	in := install(t)
	ctx, s := newSet(t, in, nil)
	m0 := primary(ctx, t, s, 8<<20)
	dir := t.TempDir()
	call := func(code int, args ...string) string {
		t.Helper()
		args = append([]string{"clone-from", m0.Host, "--set=db", "--secret-file=" + s.SecretFile()}, args...)
		r, err := s.Call(ctx, nil, args...)
		if err != nil || r.Code != code {
			t.Fatalf("%v: %d, %v\n%s", args, r.Code, err, r.Stderr)
		}
		return r.Stdout + r.LastLine()
	}
	gone := func(path string) {
		t.Helper()
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was left", path)
		}
	}

	t.Run("into a directory, prepared, and a server starts on it", func(t *testing.T) {
		to := filepath.Join(dir, "prepared")
		out := call(0, "--to", to, "--prepare")
		for _, want := range []string{"SET GLOBAL gtid_slave_pos = '0-100-", "CHANGE MASTER TO", `-- origin: {"mode":"gtid","of":"donor"`} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in the output:\n%s", want, out)
			}
		}
		server, err := in.Start(ctx, testserver.Config{DataDir: to, RootPassword: s.RootPassword()})
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("into an empty directory, not prepared", func(t *testing.T) {
		to := filepath.Join(dir, "raw")
		if err := os.Mkdir(to, 0o750); err != nil {
			t.Fatal(err)
		}
		call(0, "--to", to)
		text, err := os.ReadFile(filepath.Join(to, "xtrabackup_checkpoints"))
		if err != nil || !strings.Contains(string(text), "full-backuped") {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("into a file that mbstream unpacks", func(t *testing.T) {
		to := filepath.Join(dir, "copy.xbstream")
		if out := call(0, "--to", to); !strings.Contains(out, `"mode":"gtid"`) {
			t.Errorf("no origin:\n%s", out)
		}
		unpack(ctx, t, in.Mbstream, to)
		if out := call(3, "--to", to); !strings.Contains(out, "refused to overwrite") {
			t.Errorf("last line %q", out)
		}
	})
	t.Run("to standard output", func(t *testing.T) {
		r, err := s.Call(ctx, nil, "clone-from", m0.Host, "--to", "-", "--set=db", "--secret-file="+s.SecretFile())
		if err != nil || r.Code != 0 {
			t.Fatalf("%d, %v\n%s", r.Code, err, r.Stderr)
		}
		file := filepath.Join(dir, "stdout.xbstream")
		if err := os.WriteFile(file, []byte(r.Stdout), 0o600); err != nil {
			t.Fatal(err)
		}
		unpack(ctx, t, in.Mbstream, file)
	})
	t.Run("refusals", func(t *testing.T) {
		full := filepath.Join(dir, "full")
		if err := os.MkdirAll(filepath.Join(full, "x"), 0o750); err != nil {
			t.Fatal(err)
		}
		call(3, "--to", full)
		call(2, "--to", filepath.Join(dir, "a.xbstream"), "--prepare")
		call(2)
		call(2, "--to", filepath.Join(dir, "a"), "--secret-file="+filepath.Join(dir, "no-secret"))
	})
	t.Run("another set's name opens nothing", func(t *testing.T) {
		to := filepath.Join(dir, "stranger")
		if out := call(1, "--to", to, "--set=other"); !strings.Contains(out, "does not hold this set's secret") {
			t.Errorf("last line %q", out)
		}
		gone(to)
	})
	t.Run("Ctrl-C leaves nothing", func(t *testing.T) {
		p := network.New(t, m0.Host+":3317", m0.Host+":3307")
		p.Rate.Store(4 << 20)
		to := filepath.Join(dir, "interrupted")
		cmd := exec.CommandContext(ctx, program, "clone-from", m0.Host+":3317", "--to", to, "--set=db", "--secret-file="+s.SecretFile())
		child, err := process.Start(cmd, false)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "bytes flow", func() bool { return p.Passed.Load() > 2<<20 })
		child.Signal(syscall.SIGINT)
		if err := child.Err(); err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("it ended with %v", err)
		}
		gone(to)
		gone(to + ".partial")
	})
	eventually(t, 20*time.Second, "no backup is left", func() bool { return len(backups(t, m0)) == 0 })
}

func unpack(ctx context.Context, t *testing.T, mbstream, file string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, mbstream, "-x", "-C", dir)
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mbstream: %v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "xtrabackup_info")); err != nil {
		t.Error(err)
	}
}

// With a wrong secret no byte of a clone is sent, and both sides say why.
func TestWrongSecret(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m0 := primary(ctx, t, s, 0)
	m1 := s.Member(1)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte(strings.Repeat("w", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	r := initCode(ctx, t, m1, 4, "--wait=6s", "--secret-file="+wrong)
	if !strings.Contains(r.LastLine(), "does not hold this set's secret") {
		t.Errorf("last line %q", r.LastLine())
	}
	nothingBootable(t, m1)
	nothingLeft(t, m1)
	if err := os.WriteFile(wrong, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := initCode(ctx, t, m1, 2, "--secret-file="+wrong); !strings.Contains(r.LastLine(), "/dev/urandom") {
		t.Errorf("last line %q", r.LastLine())
	}
	// No donor listens.
	if err := m0.StopSidecar(ctx); err != nil {
		t.Error(err)
	}
	if r := initCode(ctx, t, m1, 4, "--wait=1s"); !strings.Contains(r.LastLine(), "connection refused") {
		t.Errorf("last line %q", r.LastLine())
	}
}
