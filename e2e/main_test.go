// Package e2e tests the built binary against real servers, by its exit codes, HTTP and SQL. It
// imports nothing of the program.
package e2e

import (
	"context"
	"os"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// program is the program under test, built with the race detector and with failpoints, at which it
// can be killed.
var program string

func TestMain(m *testing.M) {
	os.Exit(set.WithProgram(func(built string) int {
		program = built
		return m.Run()
	}, "-race", "-tags=failpoint"))
}

// timeout ends a test that hangs, clean-up included.
const timeout = 8 * time.Minute

// install finds the server, and skips the test when the machine does not have it.
func install(t *testing.T) testserver.Installation {
	t.Helper()
	in, err := testserver.MariaDB1011(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return in
}

// newSet makes a set that ends with the test. If the test fails, its logs are shown.
func newSet(t *testing.T, in testserver.Installation, change func(*set.Config)) (context.Context, *set.Set) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	cfg := set.Config{Binary: program, Install: in, Dir: t.TempDir()}
	if change != nil {
		change(&cfg)
	}
	s, err := set.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := s.End(ctx); err != nil {
			t.Error(err)
		}
		checkLogs(t, s)
	})
	return ctx, s
}

// up starts a member, and fails the test when it does not get ready.
func up(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	if err := m.Up(ctx); err != nil {
		t.Fatal(err)
	}
}

// primary starts member 0 with about that many bytes of data.
func primary(ctx context.Context, t *testing.T, s *set.Set, bytes int64) *set.Member {
	t.Helper()
	m := s.Member(0)
	up(ctx, t, m)
	if err := load.Create(ctx, m.Server.DB()); err != nil {
		t.Fatal(err)
	}
	if bytes > 0 {
		if err := load.Fill(ctx, m.Server.DB(), 1, bytes); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// write starts a writer on the primary. The function it returns ends it, waits until
// every replica has its last commit, and compares all members with the primary.
func write(ctx context.Context, t *testing.T, m *set.Member) (*load.Load, func(replicas ...*set.Member)) {
	t.Helper()
	w := load.New(m.Server.DB(), load.Config{Seed: 1, Rate: 200})
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(w.Stop)
	return w, func(replicas ...*set.Member) {
		t.Helper()
		w.Stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := w.Since(load.Mark{}).Commits; n == 0 {
			t.Fatal("the writer made no commit")
		}
		equal(ctx, t, w, m, replicas...)
	}
}

// equal waits until the replicas have the writer's last commit, and compares.
func equal(ctx context.Context, t *testing.T, w *load.Load, m *set.Member, replicas ...*set.Member) {
	t.Helper()
	for _, r := range replicas {
		if _, err := w.CompareReplica(ctx, m.Server.DB(), r.Server.DB()); err != nil {
			t.Errorf("%s: %v", r.Name(), err)
		}
	}
}
