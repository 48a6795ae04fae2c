package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// A volume that is a copy of another member's (a CSI clone, a restored claim) is treated as a clone
// of that member: of the primary's, of a replica's, and of a replica's on the first ordinal.
func TestCopiedVolumes(t *testing.T) {
	for _, in := range []func(*testing.T) testserver.Installation{install, mySQL} {
		in := in(t)
		t.Run(in.Flavor, func(t *testing.T) {
			t.Parallel()
			testCopiedVolumes(t, in)
		})
	}
}

func testCopiedVolumes(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, s := newSet(t, in, nil)
	m0, m1, m2 := s.Member(0), s.Member(1), s.Member(2)
	up(ctx, t, m0)
	if err := load.Create(ctx, m0.Server.DB()); err != nil {
		t.Fatal(err)
	}
	down := func(m *set.Member) {
		t.Helper()
		if err := errors.Join(m.StopSidecar(ctx), m.StopServer(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	// more writes rows, and compares the members when these have arrived.
	more := func(replicas ...*set.Member) {
		t.Helper()
		w, finish := write(ctx, t, m0)
		eventually(t, 3*time.Minute, "rows are written", func() bool { return w.Since(load.Mark{}).Commits > 20 })
		finish(replicas...)
	}
	more() // which no other member gets by replication

	down(m0)
	copyVolume(ctx, t, m0, m1)
	up(ctx, t, m0)
	inherits(ctx, t, m1, "db-0")
	more(m1)

	down(m1)
	copyVolume(ctx, t, m1, m2)
	up(ctx, t, m1)
	inherits(ctx, t, m2, "db-1")
	more(m1, m2)
	if in.Flavor == testserver.MySQL {
		uuids := map[string]bool{}
		for _, m := range []*set.Member{m0, m1, m2} {
			var uuid string
			if err := m.Server.DB().QueryRowContext(ctx, "SELECT @@server_uuid").Scan(&uuid); err != nil {
				t.Fatal(err)
			}
			uuids[uuid] = true
		}
		if len(uuids) != 3 {
			t.Errorf("three servers have %d identities", len(uuids))
		}
	}

	// The first ordinal's volume is lost, and replaced by a copy of a replica's.
	down(m2)
	down(m0)
	if err := os.RemoveAll(m0.Volume); err != nil {
		t.Fatal(err)
	}
	copyVolume(ctx, t, m2, m0)
	inherits(ctx, t, m0, "db-2")
	up(ctx, t, m2)
	more(m1, m2)
}

// copyVolume makes to's volume a copy of from's, which is down.
func copyVolume(ctx context.Context, t *testing.T, from, to *set.Member) {
	t.Helper()
	if err := to.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", from.Volume+"/.", to.Volume).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// inherits brings up a member on a copy of another one's volume.
func inherits(ctx context.Context, t *testing.T, m *set.Member, of string) {
	t.Helper()
	up(ctx, t, m)
	log, err := os.ReadFile(filepath.Join(m.Dir, "init.log"))
	if err != nil || !strings.Contains(string(log), `the volume is a copy of that member's`) {
		t.Errorf("%v\n%s", err, log)
	}
	if j, err := m.Journal(); err != nil || j.Donor != of || j.Phase != "attached" {
		t.Errorf("journal %+v, %v", j, err)
	}
}
