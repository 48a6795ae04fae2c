//go:build full

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// reseedOn are the servers on which a reseed is tested.
var reseedOn = map[string]func(*testing.T) testserver.Installation{"mariadb": install, "mysql": mySQL}

// replaced are the directories that a reseed moved aside, and their reasons.
func replaced(t *testing.T, m *set.Member) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(m.Volume, ".understudy", "replaced-*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// writtenHere makes a transaction on a member that its source lacks, and restarts replication.
func writtenHere(ctx context.Context, t *testing.T, in testserver.Installation, m *set.Member) {
	t.Helper()
	open, stop := "SET GLOBAL super_read_only = 0", "STOP REPLICA"
	if in.Flavor == "mariadb" {
		open = "SET GLOBAL read_only = 0"
	}
	execute(ctx, t, m, open, "CREATE DATABASE errant", stop)
}

func hasErrant(ctx context.Context, t *testing.T, m *set.Member) bool {
	t.Helper()
	var n int
	if err := m.Server.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'errant'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func sidecarSaid(t *testing.T, m *set.Member, words string) bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "sidecar.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), words)
}

// down stops a member's server and sidecar, as the end of its pod does.
func down(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	if err := m.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
}

// A replica with a transaction that its source lacks requests a reseed by itself. It is reseeded
// under a writer, and is equal to the source then. Its old data stay, with the transactions that
// the source lacked, until the new copy has replicated for --keep-replaced.
func TestReseed(t *testing.T) {
	for name, of := range reseedOn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := of(t)
			const keep = 3 * time.Second
			ctx, s := newSet(t, in, func(c *set.Config) { c.SidecarFlags = []string{"--reseed=auto", "--keep-replaced=" + keep.String()} })
			m0, m1 := primary(ctx, t, s, 8<<20), s.Member(1)
			up(ctx, t, m1)
			first, err := m1.Journal()
			if err != nil {
				t.Fatal(err)
			}
			_, finish := write(ctx, t, m0)
			writtenHere(ctx, t, in, m1)
			request := filepath.Join(m1.Volume, ".understudy", "reseed")
			eventually(t, time.Minute, "it asks for a reseed", func() bool {
				_, err := os.Stat(request)
				return err == nil && sidecarSaid(t, m1, "stop the server and the sidecar, run init")
			})
			// While a server runs on the data, nothing is replaced.
			if err := m1.StopSidecar(ctx); err != nil {
				t.Fatal(err)
			}
			if r := initCode(ctx, t, m1, 3); !strings.Contains(r.LastLine(), "a server runs on the data directory") {
				t.Errorf("last line %q", r.LastLine())
			}
			down(ctx, t, m1)
			up(ctx, t, m1)
			if j, err := m1.Journal(); err != nil || j.ID == first.ID || hasErrant(ctx, t, m1) {
				t.Errorf("it is not a new copy: %+v, %v", j, err)
			}
			reason := replacedFor(t, m1)
			if reason.Errant == "" || !strings.Contains(reason.Reason, reason.Errant) || !reason.Automatic || reason.Donor != "db-0" {
				t.Errorf("%+v", reason)
			}
			t.Logf("%+v", reason)
			finish(m1)
			eventually(t, time.Minute, "the old data are removed", func() bool { return len(replaced(t, m1)) == 0 })

			// At most one reseed an hour.
			writtenHere(ctx, t, in, m1)
			eventually(t, time.Minute, "it does not ask again", func() bool { return sidecarSaid(t, m1, "the limit is one an hour") })
			if _, err := os.Stat(request); err == nil {
				t.Error("it asks again")
			}
		})
	}
}

type reason struct {
	By, Reason, Errant, State, Donor string
	Automatic                        bool
}

// replacedFor is the reason for which the one directory was replaced, which still has its content.
func replacedFor(t *testing.T, m *set.Member) reason {
	t.Helper()
	all := replaced(t, m)
	if len(all) != 2 {
		t.Fatalf("moved aside: %v", all)
	}
	if _, err := os.Stat(filepath.Join(all[0], "errant")); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(all[1])
	if err != nil {
		t.Fatal(err)
	}
	var r reason
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A reseed by hand. init is killed at every failpoint: the live directory is then the old one or
// the new one, complete, and the next init finishes the reseed. Without a donor the old data start
// as before.
func TestReseedKilled(t *testing.T) {
	t.Parallel()
	in := install(t)
	ctx, s := newSet(t, in, nil)
	primary(ctx, t, s, 1<<20)
	m := s.Member(1)
	up(ctx, t, m)
	writtenHere(ctx, t, in, m)
	eventually(t, time.Minute, "it is reported", func() bool { return sidecarSaid(t, m, "manual action required") })
	ask := func() set.Run {
		r, err := s.Call(
			ctx, []string{"UNDERSTUDY_VOLUME=" + m.Volume}, "reseed", "--pod-name="+m.Name(), "--kube=off", "--reason=rehearsal", "--health=http://"+m.Host+":9307",
		)
		if err != nil || r.Code != 0 {
			t.Fatalf("reseed: %d, %v\n%s", r.Code, err, r.Stderr)
		}
		return r
	}
	if r := ask(); !strings.Contains(r.Stdout, "run init") {
		t.Errorf("it says %q", r.Stdout)
	}
	down(ctx, t, m)
	before := filepath.Join(t.TempDir(), "volume")
	if err := os.CopyFS(before, os.DirFS(m.Volume)); err != nil {
		t.Fatal(err)
	}
	isOld := func() bool {
		_, err := os.Stat(filepath.Join(m.Live(), "errant"))
		return err == nil
	}
	for _, point := range []string{
		"transferring", "preparing", "before-journal-swapping", "after-journal-swapping", "before-exchange", "after-exchange", "after-aside",
		"before-journal-published", "after-journal-published",
	} {
		t.Run(point, func(t *testing.T) {
			if err := os.RemoveAll(m.Volume); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(m.Volume, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			r, err := m.Init(ctx, []string{"UNDERSTUDY_FAILPOINT=" + point})
			if err != nil || r.Code != killed {
				t.Fatalf("init ended with %d, %v:\n%s", r.Code, err, r.Stderr)
			}
			if !isOld() {
				preparedCopy(t, m)
			}
			if _, err := os.Stat(filepath.Join(m.Live(), "ibdata1")); err != nil {
				t.Error(err)
			}
			initCode(ctx, t, m, 0)
			if isOld() {
				t.Error("it is not a new copy")
			}
			preparedCopy(t, m)
			if why := replacedFor(t, m); why.Reason != "rehearsal" || why.By != "understudy reseed" || !strings.Contains(why.State, "the source lacks transactions") {
				t.Errorf("%+v", why)
			}
		})
	}
	up(ctx, t, m)
	m0 := s.Member(0)
	equalAll(ctx, t, m0, m)

	ask()
	down(ctx, t, m)
	if err := m0.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	r := initCode(ctx, t, m, 0, "--wait=1s")
	if !strings.Contains(r.Stderr, "starts on its old data") || !strings.Contains(r.Stderr, "no usable donor") {
		t.Errorf("it says\n%s", r.Stderr)
	}
	up(ctx, t, m)
	equalAll(ctx, t, m0, m)
}

// equalAll compares two members that nobody writes to.
func equalAll(ctx context.Context, t *testing.T, m0, m *set.Member) {
	t.Helper()
	want, err := load.Checksums(ctx, m0.Server.DB())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "they are equal", func() bool {
		got, err := load.Checksums(ctx, m.Server.DB())
		return err == nil && fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// The primary is never reseeded, not on request either.
func TestReseedPrimary(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m := primary(ctx, t, s, 0)
	r, err := s.Call(ctx, nil, "reseed", "--pod-name="+m.Name(), "--kube=off", "--volume="+m.Volume)
	if err != nil || r.Code != 3 || !strings.Contains(r.LastLine(), "is the primary") {
		t.Errorf("reseed: %d, %v: %s", r.Code, err, r.LastLine())
	}
}
