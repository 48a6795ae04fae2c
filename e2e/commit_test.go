package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/network"
	"understudy/e2e/process"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// maxCommitBlock is the sidecar's default.
const maxCommitBlock = 5 * time.Second

// Whatever the joiner does while the tool holds locks, no commit on the donor waits for
// it. MariaDB 10.11 and 11.8 lock in the same steps, with other words around them.
func TestCommitsComeFirst(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"mariadb-10.11", "mariadb-11.8"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, err := testserver.All[name](t.Context())
			if err != nil {
				t.Skip(err)
			}
			commitsComeFirst(t, in)
		})
	}
}

func commitsComeFirst(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, s := newSet(t, in, func(c *set.Config) {
		insecure(c)
		c.InitFlags = append(c.InitFlags, "--clone-port=3317", "--members=1")
		c.SidecarFlags = append(c.SidecarFlags, "--max-commit-block="+maxCommitBlock.String())
	})
	m0 := primary(ctx, t, s, 48<<20)
	p := network.New(t, s.Host(0)+":3317", s.Host(0)+":3307")
	w, finish := write(ctx, t, m0)
	mark := w.Mark()
	time.Sleep(3 * time.Second) // what a commit takes without a clone
	usual := w.Since(mark).Worst
	t.Logf("without a clone the worst of %d commits took %v", w.Since(mark).Commits, usual)
	m1 := s.Member(1)
	if err := m1.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		rate    int64
		disturb func(*testing.T, *process.Process)
		lives   bool // whether the clone survives it
	}{
		{"an undisturbed clone", 0, func(*testing.T, *process.Process) {}, true},
		{"a joiner that is frozen while the tool copies", 16 << 20, func(t *testing.T, joiner *process.Process) {
			t.Helper()
			awaitStage(ctx, t, m0, "copying")
			freeze(joiner, maxCommitBlock+time.Second)
		}, true},
		{"a joiner that is frozen while the tool holds off DDL", 0, func(t *testing.T, joiner *process.Process) {
			t.Helper()
			awaitStage(ctx, t, m0, "holding off")
			freeze(joiner, maxCommitBlock+time.Second)
		}, true},
		{"a slow joiner", 8 << 20, func(*testing.T, *process.Process) {}, true},
		{"a tool that is frozen while it holds off commits", 0, func(t *testing.T, _ *process.Process) {
			t.Helper()
			awaitStage(ctx, t, m0, "holding off commits")
			for _, pid := range backups(t, m0) {
				_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended
			}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.Rate.Store(tt.rate)
			mark := w.Mark()
			joiner, err := m1.StartInit()
			if err != nil {
				t.Fatal(err)
			}
			tt.disturb(t, joiner)
			if !tt.lives {
				await(ctx, t, m0, "the donor gives the backup up", func(member) bool { return len(backups(t, m0)) == 0 })
				joiner.Kill()
			} else if err := joiner.Err(); err != nil {
				t.Errorf("the clone did not survive: %v", err)
			}
			during := w.Since(mark)
			t.Logf("the worst of %d commits took %v", during.Commits, during.Worst)
			if during.Worst > maxCommitBlock+usual || during.Commits == 0 {
				t.Errorf("a commit took %v, without a clone %v, and the clone may cost %v", during.Worst, usual, maxCommitBlock)
			}
			forget(t, m1)
		})
	}
	finish()
}

// freeze stops a process for a while.
func freeze(p *process.Process, d time.Duration) {
	p.Signal(syscall.SIGSTOP)
	time.Sleep(d) // what the test is about
	p.Signal(syscall.SIGCONT)
}

// member holds the fields of /v1/member that the tests read.
type member struct {
	Phase   string `json:"phase"`
	NoOffer string `json:"no_offer"`
	Busy    int    `json:"clone_slots_busy"`
	Giving  []struct {
		Joiner string  `json:"joiner"`
		Phase  string  `json:"phase"`
		Bytes  int64   `json:"bytes"`
		Sent   int64   `json:"sent"`
		Total  int64   `json:"total"`
		Rate   float64 `json:"bytes_per_second"`
	} `json:"giving"`
	Cloning *struct {
		Donor   string `json:"donor"`
		Percent int64  `json:"percent"`
	} `json:"cloning"`
}

// await polls a member's /v1/member.
func await(ctx context.Context, t *testing.T, m *set.Member, what string, is func(member) bool) member {
	t.Helper()
	var last member
	for {
		if err := facts(ctx, m, &last); err == nil && is(last) {
			return last
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s: %+v", what, last)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func facts(ctx context.Context, m *set.Member, to *member) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:3307/v1/member", m.Host), http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	*to = member{}
	return json.NewDecoder(res.Body).Decode(to)
}

func awaitStage(ctx context.Context, t *testing.T, m *set.Member, stage string) {
	t.Helper()
	await(ctx, t, m, "the backup to be "+stage, func(f member) bool {
		return len(f.Giving) > 0 && f.Giving[0].Bytes > 0 && strings.HasPrefix(f.Giving[0].Phase, stage)
	})
}

// forget empties a member's volume.
func forget(t *testing.T, m *set.Member) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(m.Volume), m.MakeDirs()); err != nil {
		t.Fatal(err)
	}
}
