package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/network"
	"understudy/e2e/process"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// Clones under a writer over several connections, a replica's, too: every member is equal to the
// primary, which `finish` of chained compares.
func TestChainOverConnections(t *testing.T) {
	t.Parallel()
	for name, find := range map[string]func(*testing.T) testserver.Installation{"MariaDB": install, "MySQL": mySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, s := newSet(t, find(t), func(c *set.Config) { c.InitFlags = []string{"--connections=4", "--compress=zstd"} })
			m0 := primary(ctx, t, s, 24<<20)
			w, finish := write(ctx, t, m0)
			m1, m2 := s.Member(1), s.Member(2)
			chain(ctx, t, w, m1, m2)
			finish(m1, m2)
			for _, donor := range []*set.Member{m0, m1} {
				gaveOver(t, donor, 4)
			}
		})
	}
}

// gaveOver says whether a donor gave a clone over so many connections.
func gaveOver(t *testing.T, donor *set.Member, connections int) {
	t.Helper()
	if want := fmt.Sprintf(`"connections":%d`, connections); !strings.Contains(sidecarLog(t, donor), want) {
		t.Errorf("%s gave no clone with %s:\n%s", donor.Name(), want, sidecarLog(t, donor))
	}
}

// Connections of a clone break one by one, and all at once, and the network lets none through for a
// while: the copy is one that a server starts on. Ctrl-C ends all of them.
func TestCloneFromOverConnections(t *testing.T) {
	t.Parallel()
	in := install(t)
	ctx, s := newSet(t, in, nil)
	m0 := primary(ctx, t, s, 48<<20)
	p := network.New(t, m0.Host+":3318", m0.Host+":3307")
	dir := t.TempDir()
	flags := func(to string, more ...string) []string {
		return append([]string{"clone-from", m0.Host + ":3318", "--to", to, "--connections=4", "--set=db", "--secret-file=" + s.SecretFile()}, more...)
	}
	var struck atomic.Int64
	for name, f := range map[string]struct {
		at, times int64
		strike    func(*network.Link)
	}{
		"undisturbed":       {0, 0, (*network.Link).Cut},
		"one cut":           {5 << 20, 1, (*network.Link).Cut},
		"one reset":         {100_000, 1, (*network.Link).Reset},
		"every one, often":  {3 << 20, 12, (*network.Link).Reset},
		"before any stripe": {500_000, 9, (*network.Link).Cut},
		"all at once":       {4 << 20, 1, (*network.Link).Away},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			struck.Store(0)
			p.Strike(f.at, f.times, func(l *network.Link) {
				struck.Add(1)
				f.strike(l)
			})
			r, err := s.Call(ctx, nil, flags(to, "--prepare")...)
			if err != nil || r.Code != 0 {
				t.Fatalf("%d, %v\n%s", r.Code, err, r.Stderr)
			}
			if struck.Load() != f.times {
				t.Errorf("%d of %d faults", struck.Load(), f.times)
			}
			server, err := in.Start(ctx, testserver.Config{DataDir: to, RootPassword: s.RootPassword()})
			if err != nil {
				t.Fatal(err)
			}
			var got, want int64
			const count = "SELECT COUNT(*) FROM shop.documents"
			err = errors.Join(
				m0.Server.DB().QueryRowContext(ctx, count).Scan(&want), server.DB().QueryRowContext(ctx, count).Scan(&got), server.Stop(ctx),
				os.RemoveAll(to),
			)
			if err != nil || want == 0 || got != want {
				t.Errorf("%d rows of %d, %v", got, want, err)
			}
		})
	}
	gaveOver(t, m0, 4)
	t.Run("Ctrl-C leaves nothing", func(t *testing.T) {
		p.Strike(0, 0, (*network.Link).Cut)
		p.Rate.Store(2 << 20)
		passed := p.Passed.Load()
		to := filepath.Join(dir, "interrupted")
		cmd := exec.CommandContext(ctx, program, flags(to)...)
		child, err := process.Start(cmd, false)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, "bytes flow", func() bool { return p.Passed.Load() > passed+4<<20 })
		begun := time.Now()
		child.Signal(syscall.SIGINT)
		if err := child.Err(); err == nil || cmd.ProcessState.ExitCode() != 1 || time.Since(begun) > 30*time.Second {
			t.Errorf("it ended after %v with %v", time.Since(begun), err)
		}
		for _, path := range []string{to, to + ".partial"} {
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%s was left", path)
			}
		}
	})
	eventually(t, 20*time.Second, "no backup is left", func() bool { return len(backups(t, m0)) == 0 })
}
