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
	"understudy/e2e/set"
)

// killed is the exit code of a process that a signal ended.
const killed = -1

// init is killed twice at every failpoint, and then succeeds.
func TestKillInit(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	primary(ctx, t, s, 1<<20)
	for _, point := range []struct {
		name string
		// once: a second run resumes after it, and is not killed there.
		once bool
	}{
		{"before-journal-transferring", false},
		{"after-journal-transferring", false},
		{"transferring", false},
		{"before-journal-extracted", false},
		{"after-journal-extracted", false},
		{"before-journal-preparing", false},
		{"after-journal-preparing", false},
		{"preparing", false},
		{"before-journal-prepared", false},
		{"after-journal-prepared", true},
		{"before-rmdir", false},
		{"before-rename", false},
		{"after-rename", true},
		{"before-journal-published", false},
		{"after-journal-published", true},
	} {
		t.Run(point.name, func(t *testing.T) {
			m := s.Member(1)
			if err := os.RemoveAll(m.Volume); err != nil {
				t.Fatal(err)
			}
			for run := range 2 {
				r, err := m.Init(ctx, []string{"UNDERSTUDY_FAILPOINT=" + point.name})
				if err != nil {
					t.Fatal(err)
				}
				if run == 1 && point.once && r.Code == 0 {
					break
				}
				if r.Code != killed {
					t.Fatalf("init ended with %d:\n%s", r.Code, r.Stderr)
				}
				emptyOrComplete(t, m)
			}
			initCode(ctx, t, m, 0)
			isComplete(t, m)
		})
	}
	// The last one left a real copy: the member starts from it.
	up(ctx, t, s.Member(1))
}

// emptyOrComplete fails the test when the live directory is neither empty nor a copy that the
// journal records as prepared.
func emptyOrComplete(t *testing.T, m *set.Member) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(m.Live(), "ibdata1")); err != nil {
		nothingBootable(t, m)
		return
	}
	if j, err := m.Journal(); err != nil || j.Phase != "prepared" && j.Phase != "published" {
		t.Errorf("the live directory has data, and the journal says %+v, %v", j, err)
	}
	preparedCopy(t, m)
}

// isComplete checks the files of a prepared and published clone, and that nothing else is on the
// volume.
func isComplete(t *testing.T, m *set.Member) {
	t.Helper()
	if j, err := m.Journal(); err != nil || j.Phase != "published" || j.Origin.Mode != "gtid" {
		t.Errorf("journal %+v, %v", j, err)
	}
	preparedCopy(t, m)
	nothingLeft(t, m)
}

func preparedCopy(t *testing.T, m *set.Member) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Live(), "xtrabackup_checkpoints"))
	if err != nil || !strings.Contains(string(text), "backup_type = log-applied") {
		t.Errorf("checkpoints %q, %v", text, err)
	}
}

// init is killed from outside in the middle of the long phases: while bytes arrive, and while the
// tool prepares. The tool must end with it.
func TestKillInitInThePhase(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), func(c *set.Config) { c.InitFlags = []string{"--clone-port=3317"} })
	primary(ctx, t, s, 24<<20)
	p := network.New(t, s.Host(0)+":3317", s.Host(0)+":3307")
	m := s.Member(1)
	for _, phase := range []string{"transferring", "preparing"} {
		for range 2 {
			if phase == "transferring" {
				p.Rate.Store(8 << 20)
			} else {
				p.Rate.Store(0)
			}
			killIn(ctx, t, m, phase, p)
			eventually(t, 10*time.Second, "the prepare dies with init", func() bool {
				return len(processes(t, filepath.Join(m.Volume, ".understudy", "staging-"))) == 0
			})
			nothingBootable(t, m)
		}
	}
	p.Rate.Store(0)
	initCode(ctx, t, m, 0)
	isComplete(t, m)
}

// killIn starts init and kills it once the phase has begun and work is under way.
func killIn(ctx context.Context, t *testing.T, m *set.Member, phase string, p *network.Proxy) {
	t.Helper()
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	before := p.Passed.Load()
	cmd := exec.CommandContext(ctx, program, m.InitFlags()...)
	child, err := process.Start(cmd, false)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "init is "+phase, func() bool {
		select {
		case <-child.Exited():
			t.Fatalf("init ended before it could be killed: %v", child.Err())
		default:
		}
		j, err := m.Journal()
		if err != nil || j.Phase != phase {
			return false
		}
		if phase == "preparing" {
			return len(processes(t, filepath.Join(m.Volume, ".understudy", "staging-"))) > 0
		}
		return p.Passed.Load()-before > 2<<20
	})
	child.Kill()
}

// init of the first ordinal is killed before and after it gets permission to start empty, and the
// server's image is killed while it makes the data directory.
func TestKillBootstrap(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m := s.Member(0)
	for _, point := range []string{"before-journal-initialising", "after-journal-initialising"} {
		for range 2 {
			r, err := m.Init(ctx, []string{"UNDERSTUDY_FAILPOINT=" + point})
			if err != nil {
				t.Fatal(err)
			}
			if point == "before-journal-initialising" && r.Code != killed {
				t.Fatalf("init ended with %d:\n%s", r.Code, r.Stderr)
			}
			nothingBootable(t, m)
		}
	}
	initCode(ctx, t, m, 0)
	// The image is killed while it makes the data directory.
	half := filepath.Join(m.Live(), "ibdata1")
	if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := initCode(ctx, t, m, 0)
	nothingBootable(t, m)
	aside, err := filepath.Glob(filepath.Join(m.Volume, ".understudy", "replaced-*", "ibdata1"))
	if err != nil || len(aside) != 1 {
		t.Errorf("what was moved aside: %v, %v\n%s", aside, err, r.Stderr)
	}
	up(ctx, t, m)
	// Its volume is lost, but not the journal: it must not start empty again.
	if err := s.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.Live()); err != nil {
		t.Fatal(err)
	}
	if r := initCode(ctx, t, m, 3, "--wait=7s"); !strings.Contains(r.LastLine(), "remove .understudy/journal") {
		t.Errorf("last line %q", r.LastLine())
	}
}

// The donor's sidecar is killed in mid-stream, and then its backup tool. The joiner discards what
// it has and completes with the next stream.
func TestKillDonor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		kill func(t *testing.T, m0 *set.Member)
	}{
		{"sidecar", func(t *testing.T, m0 *set.Member) {
			t.Helper()
			m0.KillSidecar()
			if err := m0.StartSidecar(); err != nil {
				t.Error(err)
			}
		}},
		{"backup tool", func(t *testing.T, m0 *set.Member) {
			t.Helper()
			for _, pid := range backups(t, m0) {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Kill() // it may have ended just now
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, s := newSet(t, install(t), func(c *set.Config) { c.InitFlags = []string{"--clone-port=3317"} })
			m0 := primary(ctx, t, s, 24<<20)
			_, finish := write(ctx, t, m0)
			p := network.New(t, s.Host(0)+":3317", s.Host(0)+":3307")
			p.Rate.Store(64 << 20)
			p.Strike(8<<20, 1, func(*network.Link) { tt.kill(t, m0) })
			m1 := s.Member(1)
			r := initCode(ctx, t, m1, 0)
			if !strings.Contains(r.Stderr, "clone will be tried again") {
				t.Errorf("the first stream was taken for whole:\n%s", r.Stderr)
			}
			isComplete(t, m1)
			eventually(t, 20*time.Second, "no backup tool is left", func() bool { return len(backups(t, m0)) == 0 })
			up(ctx, t, m1)
			finish(m1)
			nothingLeft(t, m0)
		})
	}
}

// A joiner that stops in an orderly way ends the backup at once. One that is killed may come back,
// so its backup ends after --resume-grace.
func TestJoinerLeaves(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), func(c *set.Config) { c.SidecarFlags = []string{"--resume-grace=20s"} })
	m0 := primary(ctx, t, s, 24<<20)
	p := network.New(t, s.Host(0)+":3317", s.Host(0)+":3307")
	p.Rate.Store(4 << 20)
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		within time.Duration
	}{
		{"leaves", syscall.SIGTERM, 10 * time.Second}, // half of that
		{"is killed", syscall.SIGKILL, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := p.Passed.Load()
			to := filepath.Join(t.TempDir(), "copy")
			cmd := exec.CommandContext(ctx, program, "clone-from", s.Host(0)+":3317", "--to", to, "--set=db", "--secret-file="+s.SecretFile())
			child, err := process.Start(cmd, false)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, time.Minute, "bytes flow", func() bool { return p.Passed.Load()-before > 2<<20 })
			child.Signal(tt.signal)
			eventually(t, tt.within, "the backup tool has ended and its working files are gone", func() bool {
				left, err := filepath.Glob(filepath.Join(m0.Volume, ".understudy", "backup-*"))
				return err == nil && len(left) == 0 && len(backups(t, m0)) == 0
			})
		})
	}
}

// SIGTERM while a clone is given: the clone may finish within --drain-timeout, and is ended after
// that. In both cases the sidecar exits with 0, and no joiner takes a truncated stream for a
// complete one.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		drain string
		code  int
	}{
		{"the clone finishes", "60s", 0},
		{"the clone is ended", "300ms", 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, s := newSet(t, install(t), func(c *set.Config) { c.SidecarFlags = []string{"--drain-timeout=" + tt.drain} })
			m0 := primary(ctx, t, s, 24<<20)
			p := network.New(t, s.Host(0)+":3317", s.Host(0)+":3307")
			p.Rate.Store(24 << 20)
			stopped := make(chan error, 1)
			p.Strike(2<<20, 1, func(*network.Link) { go func() { stopped <- m0.StopSidecar(ctx) }() })
			to := filepath.Join(t.TempDir(), "copy")
			r, err := s.Call(ctx, nil, "clone-from", s.Host(0)+":3317", "--to", to, "--set=db", "--secret-file="+s.SecretFile())
			if err != nil || r.Code != tt.code {
				t.Errorf("clone-from ended with %d, %v\n%s", r.Code, err, r.Stderr)
			}
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(to); (err == nil) != (tt.code == 0) {
				t.Errorf("the copy: %v", err)
			}
			nothingLeft(t, m0)
		})
	}
}
