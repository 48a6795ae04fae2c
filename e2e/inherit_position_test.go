//go:build full

package e2e

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// In a set without GTIDs nothing tells where in the primary's binary log a copied volume ends. The
// member reports that and does not replicate, although a channel came with the copy.
func TestCopiedVolumesWithoutGTID(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, mySQL(t), nil)
	m0, m1, m2, m3 := s.Member(0), s.Member(1), s.Member(2), s.Member(3)
	for _, m := range []*set.Member{m0, m1, m2, m3} {
		withoutGTID(t, m)
	}
	adoptable(ctx, t, m0)
	primary(ctx, t, s, 1<<20)
	up(ctx, t, m1)
	execute(ctx, t, m0, "CREATE TABLE shop.before_copy (a INT PRIMARY KEY)")
	arrived := func(m *set.Member, table string) bool {
		_, err := m.Server.DB().ExecContext(ctx, "DO (SELECT COUNT(*) FROM "+table+")")
		return err == nil
	}
	eventually(t, time.Minute, "the replica has what the primary has", func() bool { return arrived(m1, "shop.before_copy") })

	down(ctx, t, m1)
	copyVolume(ctx, t, m1, m2)
	down(ctx, t, m0)
	copyVolume(ctx, t, m0, m3)
	for _, m := range []*set.Member{m0, m1} {
		if sidecarSaid(t, m, "manual action required") {
			t.Errorf("%s asked for help when its server shut down", m.Name())
		}
	}
	starts(ctx, t, m0)
	starts(ctx, t, m1)
	execute(ctx, t, m0, "CREATE TABLE shop.after_copy (a INT PRIMARY KEY)")
	eventually(t, time.Minute, "the replica goes on", func() bool { return arrived(m1, "shop.after_copy") })
	for _, m := range []*set.Member{m2, m3} {
		initCode(ctx, t, m, 0)
		if err := errors.Join(m.StartSidecar(), m.StartServer(ctx)); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, m.Name()+" says what is wrong", func() bool {
			return sidecarSaid(t, m, "without GTIDs nothing says where in the primary's binary log it ends: reseed this member")
		})
	}
	time.Sleep(3 * time.Second)
	for _, m := range []*set.Member{m2, m3} {
		if code, body, err := m.Get(ctx, "/readyz"); code == http.StatusOK || err != nil {
			t.Errorf("%s is ready: %s (%v)", m.Name(), body, err)
		}
		if !arrived(m, "shop.before_copy") || arrived(m, "shop.after_copy") {
			t.Errorf("%s is not as it was copied", m.Name())
		}
	}

	// The first ordinal could not find out what its members have that such a copy lacks.
	down(ctx, t, m0)
	down(ctx, t, m1)
	if err := os.RemoveAll(m0.Volume); err != nil {
		t.Fatal(err)
	}
	copyVolume(ctx, t, m1, m0)
	r := initCode(ctx, t, m0, 3)
	if !strings.Contains(r.LastLine(), "restore a copy of the first ordinal's volume") {
		t.Error(r.LastLine())
	}
	if j, err := m0.Journal(); err != nil || j.Phase != "attached" {
		t.Errorf("it left the journal %+v, %v", j, err)
	}
}

// A MariaDB server has GTIDs also where its channel goes by file and position: a copy of its volume
// begins there.
func TestCopiedVolumesByPosition(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m0, m1, m2 := primary(ctx, t, s, 1<<20), s.Member(1), s.Member(2)
	up(ctx, t, m1)
	execute(ctx, t, m1, "STOP SLAVE", "CHANGE MASTER TO MASTER_USE_GTID = no", "START SLAVE")
	replicates(ctx, t, m1)
	_, finish := write(ctx, t, m0)
	time.Sleep(2 * time.Second)
	down(ctx, t, m1)
	copyVolume(ctx, t, m1, m2)
	up(ctx, t, m1)
	inherits(ctx, t, m2, "db-1")
	finish(m1, m2)
}
