package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"

	"github.com/google/go-cmp/cmp"
)

// withoutGTID configures a member's server without GTIDs, as its operator would.
func withoutGTID(t *testing.T, m *set.Member) {
	t.Helper()
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	text := []byte("[mysqld]\ngtid_mode = OFF\nenforce_gtid_consistency = OFF\n")
	if err := os.WriteFile(filepath.Join(m.Config, "operator.cnf"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A chain under a writer: m1 clones the primary, m2 clones m1.
func TestMySQLChain(t *testing.T) {
	t.Parallel()
	for _, m := range chained(t, mySQL(t), 24<<20) {
		nothingLeft(t, m)
	}
}

// The same without GTIDs, in an adopted set: m1 finds its coordinate in its copy. While m2 clones
// it, its applier is stopped, and its sidecar leaves it stopped.
func TestMySQLChainWithoutGTID(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, mySQL(t), nil)
	m0, m1, m2 := s.Member(0), s.Member(1), s.Member(2)
	for _, m := range []*set.Member{m0, m1, m2} {
		withoutGTID(t, m)
	}
	adoptable(ctx, t, m0)
	primary(ctx, t, s, 24<<20)
	_, finish := write(ctx, t, m0)
	up(ctx, t, m1)
	up(ctx, t, m2)
	for m, mode := range map[*set.Member]string{m1: "first-boot", m2: "position"} {
		if j, err := m.Journal(); err != nil || j.Origin.Mode != mode {
			t.Errorf("%s: journal %+v, %v", m.Name(), j, err)
		}
	}
	finish()
	want, err := load.Checksums(ctx, m0.Server.DB())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*set.Member{m1, m2} {
		eventually(t, 3*time.Minute, m.Name()+" is equal to the primary", func() bool {
			got, err := load.Checksums(ctx, m.Server.DB())
			return err == nil && cmp.Equal(want, got)
		})
	}

	// The primary's volume is lost: it comes back from a replica, with all data. The replicas'
	// positions in its old binary log mean nothing any more.
	m0.KillSidecar()
	m0.Server.Kill()
	if err := os.RemoveAll(m0.Volume); err != nil {
		t.Fatal(err)
	}
	withoutGTID(t, m0)
	if r := initCode(ctx, t, m0, 0, "--bootstrap=false"); !strings.Contains(r.Stderr, "comes back from the most advanced member") {
		t.Errorf("init says\n%s", r.Stderr)
	}
	if err := errors.Join(m0.StartSidecar(), m0.StartServer(ctx), m0.AwaitReady(ctx)); err != nil {
		t.Fatal(err)
	}
	if got, err := load.Checksums(ctx, m0.Server.DB()); err != nil || !cmp.Equal(want, got) {
		t.Errorf("it came back with %v, %v; want %v", got, err, want)
	}
	for _, m := range []*set.Member{m1, m2} {
		eventually(t, time.Minute, m.Name()+" asks for a reseed", func() bool {
			return strings.Contains(sidecarLog(t, m), "reseed this member")
		})
	}
}

// adoptable makes a member's data directory with its server, and removes the journal, so that init
// adopts it.
func adoptable(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	up(ctx, t, m)
	err := errors.Join(m.StopSidecar(ctx), m.StopServer(ctx), os.Remove(filepath.Join(m.Volume, ".understudy", "journal")))
	if err != nil {
		t.Fatal(err)
	}
}

// A sidecar is killed while its server hands over its data. For minutes the server stays ready to
// go on with that clone; the next clone ends it, and the joiner, which has waited, gets its clone.
func TestMySQLKillDonor(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, mySQL(t), nil)
	m0 := primary(ctx, t, s, 192<<20)
	_, finish := write(ctx, t, m0)
	m1 := s.Member(1)
	done := make(chan set.Run, 1)
	go func() {
		r, err := m1.Init(ctx, nil)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	eventually(t, time.Minute, "the server is cloned", func() bool {
		var n int
		err := m0.Server.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_command = 'Clone'").Scan(&n)
		return err == nil && n > 0
	})
	m0.KillSidecar()
	if err := m0.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.Code != 0 {
		t.Fatalf("init ended with %d:\n%s", r.Code, r.Stderr)
	}
	if j, err := m1.Journal(); err != nil || j.Phase != "published" {
		t.Fatalf("journal %+v, %v", j, err)
	}
	up(ctx, t, m1)
	finish(m1)
}

// The server hands over its data over its socket, to an account that is made for that, where that is
// asked for.
func TestMySQLBySocket(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, mySQL(t), nil)
	m0 := primary(ctx, t, s, 8<<20)
	_, finish := write(ctx, t, m0)
	if err := errors.Join(m0.StopSidecar(ctx), m0.StartSidecar("--server-socket="+m0.Server.Socket())); err != nil {
		t.Fatal(err)
	}
	db := m0.Server.DB()
	eventually(t, time.Minute, "there is an account for it", func() bool {
		var n int
		err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM mysql.user WHERE user = 'understudy_clone' AND host = 'localhost'").Scan(&n)
		return err == nil && n == 1
	})
	m1 := s.Member(1)
	up(ctx, t, m1)
	if log := sidecarLog(t, m0); !strings.Contains(log, `"over_socket":true`) && !strings.Contains(log, "over_socket=true") {
		t.Errorf("the sidecar says\n%s", log)
	}
	finish(m1)
}
