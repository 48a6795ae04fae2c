//go:build full

package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// semiSyncRounds is how often the primary's server is killed.
const semiSyncRounds = 5

// Every commit that the primary has acknowledged is on a replica, at whatever instant its server is
// killed.
func TestSemiSyncLosesNothing(t *testing.T) {
	t.Parallel()
	flavours(t, semiSyncLosesNothing)
}

func semiSyncLosesNothing(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, s := newSet(t, in, func(c *set.Config) {
		c.InitFlags = []string{"--semi-sync=required", "--members=3"}
		c.SidecarFlags = c.InitFlags
	})
	m0, replicas := s.Member(0), []*set.Member{s.Member(1), s.Member(2)}
	up(ctx, t, m0)
	for _, r := range replicas {
		up(ctx, t, r)
	}
	if _, err := m0.Server.DB().ExecContext(ctx, "CREATE DATABASE acked"); err != nil {
		t.Fatal(err)
	}
	if _, err := m0.Server.DB().ExecContext(ctx, "CREATE TABLE acked.t (n BIGINT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	stop := "STOP REPLICA IO_THREAD"
	if in.Flavor == testserver.MariaDB {
		stop = "STOP SLAVE IO_THREAD"
	}
	var l acknowledged
	for round := range semiSyncRounds {
		for _, r := range replicas {
			if err := r.AwaitReady(ctx); err != nil {
				t.Fatal(err)
			}
		}
		// Ready may be its last word from before the kill, and MariaDB's read_only does not bind
		// root.
		poll(ctx, t, func() (bool, string) {
			var open bool
			err := m0.Server.DB().QueryRowContext(ctx, "SELECT @@read_only IN ('0', 'OFF')").Scan(&open)
			return open, fmt.Sprintf("round %d: the primary is not open for writes (%v)", round, err)
		})
		more := l.write(ctx, t, m0)
		more(50)
		if round%2 == 1 { // commits that begin from here on must not be acknowledged, unless the sidecars are quicker
			for _, r := range replicas {
				if _, err := r.Server.DB().ExecContext(ctx, stop); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(50 * time.Millisecond) // time for commits to begin in
		}
		m0.Server.Kill()
		all := more(0)
		most := 0
		poll(ctx, t, func() (bool, string) {
			for _, r := range replicas {
				missing, err := l.missing(ctx, r, all)
				if err == nil && missing == 0 {
					return true, ""
				}
				most = missing
			}
			return false, fmt.Sprintf("round %d: %d of %d acknowledged commits are on no replica", round, most, len(all))
		})
		t.Logf("round %d: %d commits were acknowledged, and are on one replica", round, len(all))
		if err := m0.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		if err := m0.AwaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range append(replicas, m0) {
		poll(ctx, t, func() (bool, string) {
			missing, err := l.missing(ctx, m, l.list())
			return err == nil && missing == 0, fmt.Sprintf("%s lacks %d acknowledged commits (%v)", m.Name(), missing, err)
		})
	}
}

// poll waits until ok, for a minute at most.
func poll(ctx context.Context, t *testing.T, ok func() (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		done, word := ok()
		if done {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(word)
		case <-tick.C:
		}
	}
}

// acknowledged are the numbers whose commits the primary has acknowledged.
type acknowledged struct {
	next    atomic.Int64
	mu      sync.Mutex
	numbers []int64
}

func (l *acknowledged) list() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]int64(nil), l.numbers...)
}

// write starts four sessions that insert numbers until the server is gone. The function that it
// returns waits until that many more were acknowledged, or, with 0, until all sessions have ended,
// and lists them.
func (l *acknowledged) write(ctx context.Context, t *testing.T, m *set.Member) func(int) []int64 {
	t.Helper()
	before, db := len(l.list()), m.Server.DB()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				n := l.next.Add(1)
				if _, err := db.ExecContext(ctx, "INSERT INTO acked.t VALUES (?)", n); err != nil {
					return
				}
				l.mu.Lock()
				l.numbers = append(l.numbers, n)
				l.mu.Unlock()
			}
		})
	}
	return func(more int) []int64 {
		t.Helper()
		if more == 0 {
			group.Wait()
		}
		poll(ctx, t, func() (bool, string) {
			n := len(l.list()) - before
			return n >= more, fmt.Sprintf("only %d commits were acknowledged", n)
		})
		return l.list()
	}
}

// missing counts the numbers that a member does not have.
func (l *acknowledged) missing(ctx context.Context, m *set.Member, numbers []int64) (int, error) {
	rows, err := m.Server.DB().QueryContext(ctx, "SELECT n FROM acked.t")
	if err != nil {
		return len(numbers), err
	}
	defer func() { _ = rows.Close() }()
	have := map[int64]bool{}
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return len(numbers), err
		}
		have[n] = true
	}
	missing := 0
	for _, n := range numbers {
		if !have[n] {
			missing++
		}
	}
	return missing, rows.Err()
}
