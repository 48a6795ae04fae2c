//go:build full

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
)

// Somebody kills a connection over which the server hands over its data, each of them once. The
// clone is lost with it, and the joiner has another one soon.
func TestMySQLKilledConnections(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, mySQL(t), func(c *set.Config) { c.SidecarFlags = append(c.SidecarFlags, "--max-rate=64MiB", "--parallel=2") })
	m0 := primary(ctx, t, s, 192<<20)
	_, finish := write(ctx, t, m0)
	db := m0.Server.DB()
	for i, which := range []string{"the main one", "that of acknowledgements", "a further one"} {
		m := s.Member(i + 1)
		begun, done := time.Now(), make(chan set.Run, 1)
		go func() {
			r, err := m.Init(ctx, nil)
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		var id, n int64
		eventually(t, time.Minute, "the server is cloned over three connections", func() bool {
			const clones = "FROM performance_schema.threads WHERE processlist_command = 'Clone'"
			return db.QueryRowContext(ctx, "SELECT COUNT(*) "+clones).Scan(&n) == nil && n == 3 &&
				db.QueryRowContext(ctx, "SELECT processlist_id "+clones+" ORDER BY 1 LIMIT 1 OFFSET ?", i).Scan(&id) == nil
		})
		execute(ctx, t, m0, fmt.Sprintf("KILL %d", id))
		killed := time.Since(begun)
		r := <-done
		t.Logf("killed: %s after %v; whole after %v", which, killed, time.Since(begun))
		if r.Code != 0 || !strings.Contains(r.Stderr, "clone will be tried again") {
			t.Errorf("killed: %s: init ended with %d:\n%s", which, r.Code, r.Stderr)
		}
		if j, err := m.Journal(); err != nil || j.Phase != "published" {
			t.Errorf("killed: %s: journal %+v, %v", which, j, err)
		}
	}
	m := s.Member(3)
	up(ctx, t, m)
	finish(m)
}
