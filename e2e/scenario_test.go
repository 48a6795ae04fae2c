package e2e

import (
	"context"
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// The main job: a chain of three under a writer, and events that must not disturb it.
func TestScenario(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m0 := primary(ctx, t, s, 24<<20)
	w, finish := write(ctx, t, m0)
	m1, m2 := s.Member(1), s.Member(2)
	chain(ctx, t, w, m1, m2)

	t.Run("nothing right is touched", func(t *testing.T) { secondRun(ctx, t, m0, m1) })
	t.Run("health", func(t *testing.T) { health(ctx, t, m0, m1) })
	t.Run("sidecar killed", func(t *testing.T) {
		m1.KillSidecar()
		if err := m1.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		if err := m1.AwaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("replica's server killed", func(t *testing.T) {
		m1.Server.Kill()
		if err := m1.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		replicates(ctx, t, m1)
	})
	t.Run("replication stopped by hand", func(t *testing.T) {
		execute(ctx, t, m2, "STOP SLAVE")
		replicates(ctx, t, m2)
	})
	t.Run("channel removed by hand", func(t *testing.T) {
		execute(ctx, t, m2, "STOP SLAVE", "RESET SLAVE ALL")
		replicates(ctx, t, m2)
	})
	t.Run("pointed elsewhere by hand", func(t *testing.T) {
		execute(ctx, t, m2, "STOP SLAVE", "CHANGE MASTER TO MASTER_HOST='127.0.0.9'")
		replicates(ctx, t, m2)
	})
	t.Run("made writable by hand", func(t *testing.T) {
		execute(ctx, t, m2, "SET GLOBAL read_only = OFF")
		eventually(t, time.Minute, "read-only again", func() bool { return variable(ctx, t, m2, "read_only") == "ON" })
	})
	t.Run("replication password rotated", func(t *testing.T) { rotate(ctx, t, s, m1, m2) })
	finish(m1, m2)
	t.Run("the whole set comes back", func(t *testing.T) { restart(ctx, t, s, w, m0, m1, m2) })
}

// chained makes a set of three, with about that many bytes of data, whose members cloned one
// another under a writer.
func chained(t *testing.T, in testserver.Installation, bytes int64) []*set.Member {
	t.Helper()
	ctx, s := newSet(t, in, nil)
	m0 := primary(ctx, t, s, bytes)
	w, finish := write(ctx, t, m0)
	m1, m2 := s.Member(1), s.Member(2)
	chain(ctx, t, w, m1, m2)
	finish(m1, m2)
	return []*set.Member{m0, m1, m2}
}

// chain brings up m1 from m0 and m2 from m1 while the writer runs.
func chain(ctx context.Context, t *testing.T, w *load.Load, m1, m2 *set.Member) {
	t.Helper()
	for _, m := range []*set.Member{m1, m2} {
		mark := w.Mark()
		up(ctx, t, m)
		during := w.Since(mark)
		if during.Commits == 0 {
			t.Errorf("no commit while %s was cloned", m.Name())
		}
		t.Logf("%s: %d commits during its clone, the worst took %v", m.Name(), during.Commits, during.Worst)
	}
	for m, want := range map[*set.Member][2]string{m1: {"db-0", "donor"}, m2: {"db-1", "source"}} {
		j, err := m.Journal()
		if err != nil {
			t.Fatal(err)
		}
		if j.Phase != "attached" || j.Donor != want[0] || j.Origin.Of != want[1] || j.Origin.GTID == "" {
			t.Errorf("%s: journal %+v; %s", m.Name(), j, chosen(t, m))
		}
		nothingLeft(t, m)
	}
}

// secondRun runs init and sidecar again on members that need nothing.
func secondRun(ctx context.Context, t *testing.T, m0, m1 *set.Member) {
	t.Helper()
	for _, m := range []*set.Member{m0, m1} {
		before, err := m.Journal()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.StopSidecar(ctx); err != nil {
			t.Error(err)
		}
		r := initCode(ctx, t, m, 0)
		if !strings.Contains(r.Stderr, `"verdict":"keep"`) {
			t.Errorf("%s: init did more than keep:\n%s", m.Name(), r.Stderr)
		}
		if err := m.StartSidecar(); err != nil {
			t.Fatal(err)
		}
		if err := m.AwaitReady(ctx); err != nil {
			t.Fatal(err)
		}
		if after, err := m.Journal(); err != nil || after != before {
			t.Errorf("%s: the journal changed from %+v to %+v, %v", m.Name(), before, after, err)
		}
	}
}

func health(ctx context.Context, t *testing.T, m0, m1 *set.Member) {
	t.Helper()
	for path, want := range map[string]string{
		"/livez":   "ok",
		"/readyz":  "the applier runs",
		"/metrics": "understudy_replication_applier_running 1",
	} {
		if status, body, err := m1.Get(ctx, path); err != nil || status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q %v", path, status, body, err)
		}
	}
	for _, tt := range []struct {
		m          *set.Member
		path, want string
		status     int
	}{
		{m0, "/primary", "open for writes", http.StatusOK},
		{m0, "/replica?lag=1m", "this member is the primary", http.StatusServiceUnavailable},
		{m1, "/primary", "this member is a replica", http.StatusServiceUnavailable},
		{m1, "/replica?lag=1m", "s behind: the applier runs", http.StatusOK},
		{m1, "/replica?lag=1", "such as 5s", http.StatusBadRequest},
	} {
		if status, body, err := tt.m.Get(ctx, tt.path); err != nil || status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %s: %d %q %v", tt.m.Name(), tt.path, status, body, err)
		}
	}
	// The donor has counted the clone of db-1.
	if _, body, err := m0.Get(ctx, "/metrics"); err != nil || !strings.Contains(body, `understudy_clone_given_total{result="done"} `) {
		t.Errorf("%q %v", body, err)
	}
	execute(ctx, t, m1, "STOP SLAVE SQL_THREAD", "SET GLOBAL max_connections = 100")
	replicates(ctx, t, m1)
}

// rotate changes the replication password everywhere, without a restart.
func rotate(ctx context.Context, t *testing.T, s *set.Set, replicas ...*set.Member) {
	t.Helper()
	path := s.ReplicationPasswordFile()
	if err := os.WriteFile(path+".new", []byte("another password 'with' \"quotes\" \\ and more\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	for _, m := range replicas {
		// A running receiver would not log in again by itself.
		execute(ctx, t, m, "STOP SLAVE IO_THREAD")
		replicates(ctx, t, m)
	}
}

// restart kills everything, as a power cut does, and starts the set from its volumes.
func restart(ctx context.Context, t *testing.T, s *set.Set, w *load.Load, m0, m1, m2 *set.Member) {
	t.Helper()
	for _, m := range []*set.Member{m0, m1, m2} {
		m.KillSidecar()
		m.Server.Kill()
	}
	for _, m := range []*set.Member{m2, m1, m0} {
		initCode(ctx, t, m, 0)
		if err := m.StartServer(ctx); err != nil {
			t.Fatal(err)
		}
		if m != m0 && variable(ctx, t, m, "read_only") != "ON" {
			t.Errorf("%s boots writable", m.Name())
		}
		if err := m.StartSidecar(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []*set.Member{m0, m1, m2} {
		if err := m.AwaitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	equal(ctx, t, w, m0, m1, m2)
	if err := s.Down(ctx); err != nil {
		t.Error(err)
	}
}

func execute(ctx context.Context, t *testing.T, m *set.Member, statements ...string) {
	t.Helper()
	if err := m.Execute(ctx, statements...); err != nil {
		t.Fatal(err)
	}
}

func sidecarLog(t *testing.T, m *set.Member) string {
	t.Helper()
	text, err := os.ReadFile(m.Dir + "/sidecar.log")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func variable(ctx context.Context, t *testing.T, m *set.Member, name string) string {
	t.Helper()
	var key, value string
	if err := m.Server.DB().QueryRowContext(ctx, "SHOW GLOBAL VARIABLES LIKE '"+name+"'").Scan(&key, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// channel reads the replica status by column.
func channel(ctx context.Context, t *testing.T, m *set.Member) map[string]string {
	t.Helper()
	rows, err := m.Server.DB().QueryContext(ctx, "SHOW SLAVE STATUS")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		targets := make([]any, len(names))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		for i, n := range names {
			status[n] = values[i].String
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return status
}

// replicates waits until both threads run towards member 0.
func replicates(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	var last map[string]string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: %v", m.Name(), last)
		}
	})
	eventually(t, time.Minute, m.Name()+" replicates", func() bool {
		last = channel(ctx, t, m)
		return last["Slave_IO_Running"] == "Yes" && last["Slave_SQL_Running"] == "Yes"
	})
	if err := m.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// MariaDB 11.8 names its files differently and asks for TLS between servers.
func TestScenario118(t *testing.T) {
	t.Parallel()
	in, err := testserver.MariaDB118(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	members := chained(t, in, 8<<20)
	if _, err := os.Stat(filepath.Join(members[1].Live(), "mariadb_backup_info")); err != nil {
		t.Error(err)
	}
}

// A chain in file and position mode: m1 follows by position, so m2, its clone, must, too.
func TestPosition(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m0 := primary(ctx, t, s, 4<<20)
	_, finish := write(ctx, t, m0)
	m1, m2 := s.Member(1), s.Member(2)
	up(ctx, t, m1)
	execute(ctx, t, m1, "STOP SLAVE", "CHANGE MASTER TO MASTER_USE_GTID = no", "START SLAVE")
	replicates(ctx, t, m1)
	up(ctx, t, m2)
	for _, m := range []*set.Member{m1, m2} {
		if got := channel(ctx, t, m)["Using_Gtid"]; got != "No" {
			t.Errorf("%s replicates with GTID %q", m.Name(), got)
		}
	}
	if j, err := m2.Journal(); err != nil || j.Origin.Mode != "position" || j.Origin.Of != "source" {
		t.Errorf("journal %+v, %v", j, err)
	}
	// Not killed: MariaDB notes file and position after the commit, and may execute it again.
	if err := m2.Server.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m2.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	replicates(ctx, t, m2)
	finish(m1, m2)
}

// SIGTERM ends a sidecar with 0, also while nothing works yet.
func TestSidecarStops(t *testing.T) {
	ctx, s := newSet(t, install(t), nil)
	m := s.Member(0)
	initCode(ctx, t, m, 0)
	if err := m.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "alive", func() bool {
		status, _, err := m.Get(ctx, "/livez")
		return err == nil && status == http.StatusOK
	})
	status, body, err := m.Get(ctx, "/readyz")
	if err != nil || status != http.StatusServiceUnavailable || body == "" {
		t.Errorf("without a server: %d %q %v", status, body, err)
	}
	if err := m.StopSidecar(ctx); err != nil {
		t.Error(err)
	}
}

// A wrong password of the admin account is reported, and can be corrected without a restart.
func TestWrongAdminPassword(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m := s.Member(0)
	initCode(ctx, t, m, 0)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.StartSidecar("--admin-password-file=" + wrong); err != nil {
		t.Fatal(err)
	}
	if err := m.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the reason is said", func() bool {
		_, body, err := m.Get(ctx, "/readyz")
		return err == nil && strings.Contains(body, "--admin-password-file")
	})
	// As far as the sidecar knows, the image was killed at work.
	if j, err := m.Journal(); err != nil || j.Phase != "initialising" {
		t.Errorf("journal %+v, %v", j, err)
	}
	if err := os.WriteFile(wrong, []byte(s.RootPassword()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}
