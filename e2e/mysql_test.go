package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/e2e/testserver"

	"github.com/google/go-cmp/cmp"
)

// mySQL finds the server, and skips the test when the machine does not have it.
func mySQL(t *testing.T) testserver.Installation {
	t.Helper()
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	return in
}

// A MySQL server starts with init's configuration, and has taken the options of its version; init
// writes those of several versions, and each version ignores the others'.
func TestMySQLOptions(t *testing.T) {
	const names = "log_bin, sync_binlog, innodb_flush_log_at_trx_commit, relay_log_recovery, log_replica_updates, " +
		"skip_replica_start, binlog_expire_logs_seconds, gtid_mode, enforce_gtid_consistency, read_only, super_read_only"
	ctx, s := newSet(t, mySQL(t), nil)
	m := s.Member(0)
	check := func(want string) {
		t.Helper()
		if r, err := m.Init(ctx, nil); err != nil || r.Code != 0 {
			t.Fatalf("init ended with %d (%v): %s", r.Code, err, r.LastLine())
		}
		if err := m.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		var got string
		query := "SELECT CONCAT_WS(' ', @@" + strings.ReplaceAll(names, ", ", ", @@") + ")"
		if err := m.Server.DB().QueryRowContext(ctx, query).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", names, diff)
		}
		if err := m.StopServer(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// The image makes the data directory, as root.
	check("1 1 1 1 1 1 604800 ON ON 1 0")
	// An adopted data directory keeps the GTID mode that its operator has set; the server's default
	// is ON since 9.7.
	operators := []byte("[mysqld]\ngtid_mode = OFF\nenforce_gtid_consistency = OFF\n")
	if err := errors.Join(
		os.Remove(filepath.Join(m.Volume, ".understudy", "journal")),
		os.WriteFile(filepath.Join(m.Config, "operator.cnf"), operators, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	check("1 1 1 1 1 1 604800 OFF OFF 1 1")
}
