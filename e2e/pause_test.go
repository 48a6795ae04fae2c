//go:build full

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

func TestPauseMariaDB(t *testing.T) {
	t.Parallel()
	pauseAndResume(t, install(t))
}

func TestPauseMySQL(t *testing.T) {
	t.Parallel()
	pauseAndResume(t, mySQL(t))
}

// A paused replica is left as it is under a writer, over restarts of its sidecar and of its server.
// When it is resumed, or when the pause ends, it replicates again and gets all that was written
// meanwhile.
func pauseAndResume(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, s := newSet(t, in, nil)
	m0, m1 := primary(ctx, t, s, 0), s.Member(1)
	up(ctx, t, m1)
	_, finish := write(ctx, t, m0)

	onVolume(ctx, t, s, m1, "paused since ", "pause", "--reason=a look at a table")
	execute(ctx, t, m1, "STOP REPLICA SQL_THREAD")
	staysStopped(ctx, t, s, m1)
	if err := m1.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m1.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	staysStopped(ctx, t, s, m1)
	// Whoever paused it may do anything to the server, even this.
	execute(ctx, t, m1, "SET GLOBAL read_only = OFF")
	staysStopped(ctx, t, s, m1)
	if !writable(ctx, t, m1) {
		t.Error("the paused replica was made read-only")
	}
	if n := leftAlone(t, m1); n != 2 {
		t.Errorf("the logs of two sidecars say %d times that the member is left alone", n)
	}
	onVolume(ctx, t, s, m1, "resumed; it was paused since ", "resume")
	ready(ctx, t, m1)
	eventually(t, time.Minute, "the replica is read-only again", func() bool { return !writable(ctx, t, m1) })
	metric(ctx, t, m1, "understudy_paused 0")

	onVolume(ctx, t, s, m1, "paused since ", "pause", "--for=10s")
	if err := m1.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m1.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	if writable(ctx, t, m1) {
		t.Error("the server of a paused replica comes back writable")
	}
	ready(ctx, t, m1) // its threads do not start before the sidecar starts them
	finish(m1)
}

func writable(ctx context.Context, t *testing.T, m *set.Member) bool {
	t.Helper()
	var readOnly bool
	if err := m.Server.DB().QueryRowContext(ctx, "SELECT @@read_only").Scan(&readOnly); err != nil {
		t.Fatal(err)
	}
	return !readOnly
}

// onVolume runs a command on the member's volume, while its sidecar runs.
func onVolume(ctx context.Context, t *testing.T, s *set.Set, m *set.Member, want string, args ...string) {
	t.Helper()
	r, err := s.Call(ctx, nil, append(args, "--volume="+m.Volume)...)
	if err != nil || r.Code != 0 || !strings.HasPrefix(r.Stdout, want) {
		t.Fatalf("%v ended with %d (%v): %s%s", args, r.Code, err, r.Stdout, r.Stderr)
	}
}

// staysStopped gives the sidecar time for a dozen looks, and then checks what it reports.
func staysStopped(ctx context.Context, t *testing.T, s *set.Set, m *set.Member) {
	t.Helper()
	eventually(t, time.Minute, "the sidecar sees a stopped applier", func() bool {
		_, body, err := m.Get(ctx, "/metrics")
		return err == nil && strings.Contains(body, "\nunderstudy_replication_applier_running 0")
	})
	time.Sleep(2500 * time.Millisecond) // it looks every 200 ms
	metric(ctx, t, m, "understudy_replication_applier_running 0")
	metric(ctx, t, m, "understudy_member_ready 0")
	metric(ctx, t, m, "understudy_member_needs_help 0")
	metric(ctx, t, m, "understudy_paused 1")
	r := callStatus(ctx, t, s)
	for _, want := range []string{
		"db-1    replica  paused    no ", "db-1 is not ready: the applier does not run: ", "; the member is paused since ", ": a look at a table\n",
	} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("the status does not say %q:\n%s", want, r.Stdout)
		}
	}
}

func metric(ctx context.Context, t *testing.T, m *set.Member, line string) {
	t.Helper()
	_, body, err := m.Get(ctx, "/metrics")
	if err != nil || !strings.Contains(body, "\n"+line) {
		t.Errorf("no %q in the metrics (%v)", line, err)
	}
}

func ready(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	if err := m.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func leftAlone(t *testing.T, m *set.Member) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.Dir, "sidecar.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), `"msg":"left alone"`)
}
