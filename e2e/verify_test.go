//go:build full

package e2e

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

func TestVerifyMariaDB(t *testing.T) {
	t.Parallel()
	verifies(t, install(t), `0-101-\d+`)
}

func TestVerifyMySQL(t *testing.T) {
	t.Parallel()
	verifies(t, mySQL(t), `[-0-9a-f]{36}:1`)
}

// Under a writer status --verify finds the GTIDs of all members right, although they are from
// different moments, and so are the clones of clones. It names a transaction that a replica wrote.
func verifies(t *testing.T, in testserver.Installation, errant string) {
	t.Helper()
	ctx, s := newSet(t, in, nil)
	m0, m1, m2 := primary(ctx, t, s, 0), s.Member(1), s.Member(2)
	w, finish := write(ctx, t, m0)
	up(ctx, t, m1)
	up(ctx, t, m2)
	clone := func(m *set.Member) string {
		t.Helper()
		j, err := m.Journal()
		if err != nil {
			t.Fatal(err)
		}
		return j.Donor + `  \S+  [1-9]\d*  xxh64:[0-9a-f]{16}  ` + regexp.QuoteMeta(j.Origin.GTID)
	}
	for range 5 {
		begin := w.Mark()
		verify(ctx, t, s, 0, "MEMBER  BEHIND  DONOR  ENGINE  BYTES  DIGEST  ORIGIN", "db-0  -  -  -  -  -  -", `db-1  \d+  `+clone(m1), `db-2  \d+  `+clone(m2))
		if w.Since(begin).Commits == 0 {
			t.Error("nothing was written meanwhile")
		}
	}
	finish(m1, m2)

	if err := m1.StopSidecar(ctx); err != nil { // it would fence the server again at once
		t.Fatal(err)
	}
	execute(ctx, t, m1, "SET GLOBAL read_only = OFF", "CREATE DATABASE errant", "SET GLOBAL read_only = ON")
	if err := m1.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	ready(ctx, t, m1)
	lacks := "db-1 has transactions that db-0 lacks: "
	verify(ctx, t, s, 1, lacks+"(within )?"+errant+`(\.\.\d+)?`)
	// MariaDB's numbers still show it once the primary writes on. Replication stops then, and the
	// member searches its binary logs.
	execute(ctx, t, m0, "CREATE DATABASE onwards", "CREATE DATABASE further")
	if in.Flavor == testserver.MariaDB {
		eventually(t, time.Minute, "the member names the errant transaction", func() bool {
			return regexp.MustCompile(`"errant": "` + errant + `"`).MatchString(callStatus(ctx, t, s, "-o", "json").Stdout)
		})
	}
	r := verify(ctx, t, s, 1, lacks+errant)
	if !strings.HasSuffix(r.LastLine(), "findings of --verify: 1") {
		t.Errorf("its last word is %q", r.LastLine())
	}
	r = callStatus(ctx, t, s, "--verify", "-o", "json")
	var all []struct {
		Verify struct {
			Behind   *int
			Findings []string
		}
	}
	if err := json.Unmarshal([]byte(r.Stdout), &all); err != nil || len(all) != 3 || r.Code != 1 {
		t.Fatalf("it ended with %d (%v), and printed %s", r.Code, err, r.Stdout)
	}
	for i, want := range []int{0, 1, 0} {
		if v := all[i].Verify; len(v.Findings) != want || (v.Behind == nil) != (i == 0) {
			t.Errorf("of db-%d it says %+v", i, v)
		}
	}
	if text := strings.Join(all[1].Verify.Findings, ""); !regexp.MustCompile("^" + lacks + errant + "$").MatchString(text) {
		t.Errorf("of db-1 it finds %q", text)
	}
}

// verify is status with --verify.
func verify(ctx context.Context, t *testing.T, s *set.Set, code int, wants ...string) set.Run {
	t.Helper()
	r := callStatus(ctx, t, s, "--verify")
	checkStatus(t, r, code, wants...)
	return r
}
