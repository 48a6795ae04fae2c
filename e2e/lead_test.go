//go:build full

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// flavours runs a test of the first ordinal on a server of each flavour.
func flavours(t *testing.T, test func(*testing.T, testserver.Installation)) {
	t.Helper()
	for name, find := range map[string]func(*testing.T) testserver.Installation{"mariadb": install, "mysql": mySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, find(t))
		})
	}
}

// comes starts a member whose init may not start it empty.
func comes(ctx context.Context, t *testing.T, m *set.Member) set.Run {
	t.Helper()
	r := initCode(ctx, t, m, 0, "--bootstrap=false")
	starts(ctx, t, m)
	return r
}

func starts(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	if err := m.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	if err := m.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// statusOf calls status --verify for a set whose members' addresses end in their ordinals.
func statusOf(ctx context.Context, t *testing.T, s *set.Set, more ...string) set.Run {
	t.Helper()
	first := s.Host(0)
	args := []string{"status", "--verify", "--set=db", "--peer-host=" + first[:len(first)-1] + "{ordinal}", "--secret-file=" + s.SecretFile()}
	r, err := s.Call(ctx, nil, append(args, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dies ends a member as a power cut does.
func dies(m *set.Member) {
	m.KillSidecar()
	m.KillServer()
}

// goesOn writes to the first ordinal and compares all members with it.
func goesOn(ctx context.Context, t *testing.T, m0 *set.Member, replicas ...*set.Member) {
	t.Helper()
	_, finish := write(ctx, t, m0)
	time.Sleep(2 * time.Second)
	finish(replicas...)
	for _, m := range replicas {
		if err := m.AwaitReady(ctx); err != nil {
			t.Error(err)
		}
		if text := sidecarLog(t, m); strings.Contains(text, "manual action required") || strings.Contains(text, "errant") {
			t.Errorf("%s asked for help:\n%s", m.Name(), text)
		}
	}
}

// three is a set of three equal members; the writer has ended.
func three(ctx context.Context, t *testing.T, s *set.Set) (w *load.Load, m0, m1, m2 *set.Member) {
	t.Helper()
	return threeOf(ctx, t, s, 2)
}

// threeOf is three with another ordinal for the last member.
func threeOf(ctx context.Context, t *testing.T, s *set.Set, last int) (w *load.Load, m0, m1, m2 *set.Member) {
	t.Helper()
	m0, m1, m2 = primary(ctx, t, s, 1<<20), s.Member(1), s.Member(last)
	up(ctx, t, m1)
	up(ctx, t, m2)
	w, finish := write(ctx, t, m0)
	time.Sleep(time.Second)
	finish(m1, m2)
	return w, m0, m1, m2
}

// The first ordinal's volume is deleted in a set of three: it comes back with all data, and
// replication goes on.
func TestFirstVolumeLost(t *testing.T) {
	t.Parallel()
	flavours(t, func(t *testing.T, in testserver.Installation) {
		t.Helper()
		ctx, s := newSet(t, in, nil)
		w, m0, m1, m2 := three(ctx, t, s)
		dies(m0)
		if err := os.RemoveAll(m0.Volume); err != nil {
			t.Fatal(err)
		}
		r := comes(ctx, t, m0)
		if !strings.Contains(r.Stderr, "comes back from the most advanced member") {
			t.Errorf("init says\n%s", r.Stderr)
		}
		if err := w.VerifyLedger(ctx, m0.Server.DB()); err != nil {
			t.Error(err)
		}
		goesOn(ctx, t, m0, m1, m2)
	})
}

// The most advanced member gives the clone, whichever ordinal it has, also beyond --members.
func TestFirstVolumeLostUnderLag(t *testing.T) {
	t.Parallel()
	flavours(t, func(t *testing.T, in testserver.Installation) {
		t.Helper()
		ctx, s := newSet(t, in, func(c *set.Config) {
			network := testserver.Address()
			c.Hosts = network[:strings.LastIndexByte(network, '.')] + ".{ordinal}"
			c.InitFlags = []string{"--members=2"}
			c.SidecarFlags = c.InitFlags
		})
		w, m0, m1, m2 := threeOf(ctx, t, s, 11)
		if r := statusOf(ctx, t, s, "--members=2"); r.Code != 0 || !strings.Contains(r.Stdout, m2.Name()+" ") {
			t.Errorf("the status ends with %d, and says\n%s", r.Code, r.Stdout)
		}
		dies(m1)
		more, finish := write(ctx, t, m0)
		time.Sleep(time.Second)
		finish(m2)
		dies(m0)
		if err := os.RemoveAll(m0.Volume); err != nil {
			t.Fatal(err)
		}
		// It lags and cannot catch up without the first ordinal, but it is ready.
		starts(ctx, t, m1)
		comes(ctx, t, m0)
		if j, err := m0.Journal(); err != nil || j.Donor != m2.Name() {
			t.Errorf("the donor was %s, %v", j.Donor, err)
		}
		for _, l := range []*load.Load{w, more} {
			if err := l.VerifyLedger(ctx, m0.Server.DB()); err != nil {
				t.Error(err)
			}
		}
	})
}

// The first ordinal is restored from an old copy of its volume: it opens only when it has
// everything that the others have.
func TestFirstRestored(t *testing.T) {
	t.Parallel()
	flavours(t, func(t *testing.T, in testserver.Installation) {
		t.Helper()
		ctx, s := newSet(t, in, nil)
		w, m0, m1, m2 := three(ctx, t, s)
		if err := m0.StopSidecar(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m0.StopServer(ctx); err != nil {
			t.Fatal(err)
		}
		saved := t.TempDir()
		if err := os.CopyFS(saved, os.DirFS(m0.Live())); err != nil {
			t.Fatal(err)
		}
		initCode(ctx, t, m0, 0)
		starts(ctx, t, m0)
		more, finish := write(ctx, t, m0)
		time.Sleep(2 * time.Second)
		finish(m1, m2)
		dies(m0)
		if err := os.RemoveAll(m0.Live()); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(m0.Live(), os.DirFS(saved)); err != nil {
			t.Fatal(err)
		}
		if in.Flavor == testserver.MySQL { // TempDir made the copy's directories, which the server wants for itself alone
			if err := os.Chmod(m0.Live(), 0o750); err != nil { //nolint:gosec // a directory's
				t.Fatal(err)
			}
		}
		comes(ctx, t, m0)
		if text := sidecarLog(t, m0); !strings.Contains(text, "follow the member that has more") {
			t.Errorf("it opened without a member's help:\n%s", text)
		}
		for _, l := range []*load.Load{w, more} {
			if err := l.VerifyLedger(ctx, m0.Server.DB()); err != nil {
				t.Error(err)
			}
		}
		goesOn(ctx, t, m0, m1, m2)
	})
}

// No member has data: the first ordinal waits, and says how to allow an empty start.
func TestFirstWaits(t *testing.T) {
	t.Parallel()
	_, s := newSet(t, install(t), nil)
	m := s.Member(0)
	begun := time.Now()
	r := initCode(t.Context(), t, m, 3, "--bootstrap=false", "--wait=9s")
	if took := time.Since(begun); took < 9*time.Second {
		t.Errorf("it waited for %v only", took)
	}
	if !strings.Contains(r.LastLine(), "no member has data to clone") || !strings.Contains(r.LastLine(), "--bootstrap") {
		t.Error(fmt.Sprint("its last word is ", r.LastLine()))
	}
	nothingBootable(t, m)
}
