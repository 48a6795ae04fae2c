//go:build replication

package replication

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"understudy/e2e/testserver"
)

// An adopted server keeps its binary logs where they are, and MariaDB continues the numbers of its
// GTIDs.
func TestBinaryLogsElsewhere(t *testing.T) {
	t.Parallel()
	// MariaDB 11.8 has its rollback segments in files of their own.
	onEach(t, binaryLogsElsewhere, "mariadb-10.11", "mysql-9.7", "mariadb-11.8")
}

func binaryLogsElsewhere(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), playTimeout)
	defer cancel()
	f := newFixture(t, in)
	t.Cleanup(func() {
		if t.Failed() {
			f.show(t)
		}
	})
	logs := filepath.Join(f.dir, "binlogs")
	if err := os.Mkdir(logs, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := f.p.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	option := "log_bin=" + filepath.Join(logs, "mysql-bin")
	before := f.before(ctx, t, in, option)
	if in.Flavor == testserver.MariaDB {
		r, err := f.p.Init(ctx, nil)
		if err != nil || r.Code != 3 || !strings.Contains(r.LastLine(), "put "+option+" into common.cnf") {
			t.Fatalf("without a word of where they are, init ended with %d (%v): %s", r.Code, err, r.LastLine())
		}
		if strings.HasPrefix(in.Version, "11.") {
			return
		}
	}
	from := filepath.Join(f.dir, "from")
	if err := os.Mkdir(from, 0o750); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(from, "common.cnf"), "[mysqld]\n"+option)
	for range 2 { // adopted, and started again
		if r, err := f.p.Init(ctx, nil, "--config-from="+from); err != nil || r.Code != 0 {
			t.Fatalf("init ended with %d (%v): %s", r.Code, err, r.LastLine())
		}
		if err := f.p.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		if err := f.p.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		f.ready(ctx, t, f.p)
		if base := f.ask(ctx, t, f.p, "SELECT @@log_bin_basename"); !strings.HasPrefix(base, logs) {
			t.Errorf("the binary logs are %s", base)
		}
		f.run(ctx, t, f.p, "INSERT INTO d.t VALUES ()")
		if now := f.sequence(ctx, t); now <= before {
			t.Errorf("the last transaction is %d, and was %d before the server was adopted", now, before)
		}
		f.down(ctx, t, f.p)
	}
	if left, err := filepath.Glob(filepath.Join(f.p.Live(), "*bin.0*")); err != nil || len(left) > 0 {
		t.Errorf("binary logs in the data directory: %q (%v)", left, err)
	}
}

// before runs a server without understudy on the first ordinal's volume, and returns the number of
// its last transaction.
func (f *fixture) before(ctx context.Context, t *testing.T, in testserver.Installation, option string) int {
	t.Helper()
	if err := in.Initialise(ctx, f.p.Live(), f.RootPassword()); err != nil {
		t.Fatal(err)
	}
	extra := []string{"--" + option, "--server-id=100"}
	if in.Flavor == testserver.MySQL {
		extra = append(extra, "--gtid-mode=ON", "--enforce-gtid-consistency=ON")
	}
	server, err := in.Start(ctx, testserver.Config{DataDir: f.p.Live(), RootPassword: f.RootPassword(), Extra: extra})
	if err != nil {
		t.Fatal(err)
	}
	f.p.Server = server
	f.run(ctx, t, f.p, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT)")
	for range 40 {
		f.run(ctx, t, f.p, "INSERT INTO d.t VALUES ()")
	}
	last := f.sequence(ctx, t)
	if err := f.p.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	return last
}

// sequence is the number of the first ordinal's last transaction.
func (f *fixture) sequence(ctx context.Context, t *testing.T) int {
	t.Helper()
	query := map[string]string{testserver.MariaDB: "SELECT @@gtid_binlog_pos", testserver.MySQL: "SELECT @@gtid_executed"}[f.flavour]
	text := f.ask(ctx, t, f.p, query)
	number, err := strconv.Atoi(text[strings.LastIndexAny(text, "-:")+1:])
	if err != nil {
		t.Fatal(fmt.Errorf("read %s: %w", text, err))
	}
	return number
}
