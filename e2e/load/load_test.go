package load_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/testserver"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

const password = "secret"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// found is an installed server. The test is skipped if it is not installed.
func found(t *testing.T, find func(context.Context) (testserver.Installation, error)) testserver.Installation {
	t.Helper()
	in, err := find(t.Context())
	if errors.Is(err, testserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// started starts a server on a fresh data directory with the shop in it.
func started(t *testing.T, in testserver.Installation, options ...string) *testserver.Server {
	t.Helper()
	dir := t.TempDir()
	if err := in.Initialise(t.Context(), dir, password); err != nil {
		t.Fatal(err)
	}
	options = append(options, "--log-bin=binlog")
	if in.Flavor == testserver.MySQL { // it writes rows by itself
		options = append(options, "--gtid-mode=ON", "--enforce-gtid-consistency=ON")
	} else {
		options = append(options, "--binlog-format=ROW")
	}
	s, err := in.Start(t.Context(), testserver.Config{DataDir: dir, RootPassword: password, Extra: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func execute(t *testing.T, s *testserver.Server, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := s.DB().ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// run starts the load. The channel gets how Run ended.
func run(ctx context.Context, l *load.Load) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return ended
}

// await waits until a load that runs has made a number of commits since now.
func await(t *testing.T, l *load.Load, ended <-chan error, commits int) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for mark := l.Mark(); l.Since(mark).Commits < commits; {
		select {
		case err := <-ended:
			t.Fatalf("the load ended: %v", err)
		case <-ticker.C:
		}
	}
}

// replicate makes a replica, and returns a position that it never reaches.
func replicate(t *testing.T, in testserver.Installation, source, replica *testserver.Server) (never string) {
	t.Helper()
	if in.Flavor == testserver.MySQL {
		execute(t, replica, fmt.Sprintf(`CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_USER = 'root',
			SOURCE_PASSWORD = '%s', SOURCE_AUTO_POSITION = 1`, source.Config().Addr, password), "START REPLICA")
		return "11111111-2222-3333-4444-555555555555:99999999"
	}
	execute(t, replica, fmt.Sprintf(`CHANGE MASTER TO MASTER_HOST = '%s', MASTER_USER = 'root', MASTER_PASSWORD = '%s',
		MASTER_USE_GTID = slave_pos`, source.Config().Addr, password), "START REPLICA")
	return "0-1-99999999"
}

func TestRunOnReplicatedServer(t *testing.T) {
	for name, find := range testserver.All {
		t.Run(name, func(t *testing.T) {
			in := found(t, find)
			source := started(t, in, "--server-id=1")
			replica := started(t, in, "--server-id=2")
			never := replicate(t, in, source, replica)

			if err := load.Create(t.Context(), source.DB()); err != nil {
				t.Fatal(err)
			}
			if err := load.Fill(t.Context(), source.DB(), 1, 4<<20); err != nil {
				t.Fatal(err)
			}
			l := load.New(source.DB(), load.Config{Writers: 2, Seed: 1})
			if err := l.VerifyLedger(t.Context(), source.DB()); err != nil {
				t.Errorf("ledger before the first commit: %v", err)
			}
			begin := l.Mark()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := run(ctx, l)
			await(t, l, ended, 20)
			cancel()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			stats := l.Since(begin)
			t.Logf("%+v", stats)
			if stats.Commits == 0 || stats.Worst == 0 || stats.P99 > stats.Worst || stats.Median > stats.P99 || stats.Errors > 0 {
				t.Errorf("stats make no sense: %+v", stats)
			}

			if err := load.WaitGTID(t.Context(), replica.DB(), l.LastGTID()); err != nil {
				t.Fatal(err)
			}
			if err := l.VerifyLedger(t.Context(), replica.DB()); err != nil {
				t.Error(err)
			}
			want, err := load.Checksums(t.Context(), source.DB())
			if err != nil {
				t.Fatal(err)
			}
			got, err := load.Checksums(t.Context(), replica.DB())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("replica differs (-source +replica):\n%s", diff)
			}
			if ledger := want["shop.ledger"].Rows; ledger != int64(stats.Commits) {
				t.Errorf("ledger has %d rows after %d commits", ledger, stats.Commits)
			}

			execute(t, replica, "STOP REPLICA", "DELETE FROM shop.ledger ORDER BY seq LIMIT 1")
			if err := l.VerifyLedger(t.Context(), replica.DB()); err == nil || !strings.Contains(err.Error(), "1 of") {
				t.Errorf("error %v after a row of the ledger was deleted", err)
			}
			// A tenth of it is left for the question how far it came.
			ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := load.WaitGTID(ctx, replica.DB(), never); !errors.Is(err, context.DeadlineExceeded) ||
				!strings.Contains(err.Error(), "replica is at") {
				t.Errorf("error %v for a position that the replica never reaches", err)
			}
			if err := load.WaitGTID(ctx, replica.DB(), ""); err == nil {
				t.Error("no error for no position")
			}
		})
	}
}

func TestRunThroughCrash(t *testing.T) {
	for name, find := range testserver.All {
		t.Run(name, func(t *testing.T) {
			in := found(t, find)
			s := started(t, in)
			if err := load.Create(t.Context(), s.DB()); err != nil {
				t.Fatal(err)
			}
			root, err := s.Open("root", password) // the load's pool outlives the server
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = root.Close() }()
			l := load.New(root, load.Config{Reconnect: true})
			ended := run(t.Context(), l)
			await(t, l, ended, 20)
			s.Kill()
			again, err := in.Start(t.Context(), s.Config())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(again.Kill)
			await(t, l, ended, 20)
			l.Stop()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			stats := l.Since(load.Mark{})
			t.Logf("%+v", stats)
			if stats.ConnectionLosses == 0 {
				t.Error("no lost connection was counted")
			}
			if err := l.VerifyLedger(t.Context(), root); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRun(t *testing.T) {
	in := found(t, testserver.MariaDB1011)
	s := started(t, in)
	if err := load.Create(t.Context(), s.DB()); err != nil {
		t.Fatal(err)
	}
	t.Run("refused write", func(t *testing.T) {
		execute(t, s, "RENAME TABLE shop.documents TO shop.elsewhere")
		defer execute(t, s, "RENAME TABLE shop.elsewhere TO shop.documents")
		l := load.New(s.DB(), load.Config{Reconnect: true})
		err := l.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "shop.documents") || l.Since(load.Mark{}).Errors != 1 {
			t.Errorf("error %v, stats %+v", err, l.Since(load.Mark{}))
		}
		if err := l.VerifyLedger(t.Context(), s.DB()); err != nil {
			t.Errorf("after a transaction that was rolled back: %v", err)
		}
	})
	t.Run("rate", func(t *testing.T) {
		l := load.New(s.DB(), load.Config{Rate: 50})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := l.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if commits := l.Since(load.Mark{}).Commits; commits < 1 || commits > 100 {
			t.Errorf("%d commits in 2 s at 50 a second", commits)
		}
	})
	t.Run("no reconnect", func(t *testing.T) {
		root, err := s.Open("root", password)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = root.Close() }()
		l := load.New(root, load.Config{})
		ended := run(t.Context(), l)
		await(t, l, ended, 1)
		s.Kill()
		if err := <-ended; err == nil || l.Since(load.Mark{}).ConnectionLosses != 1 {
			t.Errorf("error %v, stats %+v", err, l.Since(load.Mark{}))
		}
	})
}
