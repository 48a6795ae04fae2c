//go:build replication

package replication

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// semiSync turns it on in a running set, and stops both replicas.
func semiSync(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	const required = "--semi-sync=required"
	replicas := []*set.Member{f.r1, f.r2}
	f.restartSidecar(ctx, t, f.p, required)
	for _, r := range replicas {
		f.restartSidecar(ctx, t, r, required)
		f.does(ctx, t, r, "set semi-sync")
		f.rests(ctx, t, r)
	}
	f.does(ctx, t, f.p, "set semi-sync")
	f.rests(ctx, t, f.p)
	for _, r := range replicas {
		if err := r.StopSidecar(ctx); err != nil {
			t.Fatal(err)
		}
		f.run(ctx, t, r, f.stopReceiver)
	}
	f.says(ctx, t, f.p, "waiting", "commits wait: no replica is attached")
	for _, r := range replicas {
		if err := r.StartSidecar(required); err != nil {
			t.Fatal(err)
		}
		f.does(ctx, t, r, "start replication")
	}
	f.rests(ctx, t, f.p)
	f.until(ctx, t, "both replicas are attached", func() bool { return f.ask(ctx, t, f.p, semiSyncReplicas(f.flavour)) == "2" })
	commitsWait(ctx, t, f, replicas)
	// The scenarios that follow need a set without it.
	off := "SET GLOBAL rpl_semi_sync_source_enabled = OFF"
	if f.flavour == testserver.MariaDB {
		off = "SET GLOBAL rpl_semi_sync_master_enabled = OFF"
	}
	for _, m := range f.all() {
		f.restartSidecar(ctx, t, m)
		f.rests(ctx, t, m)
	}
	f.run(ctx, t, f.p, off)
}

// semiSyncReplicas is the query for how many replicas are attached that acknowledge.
func semiSyncReplicas(flavour string) string {
	if flavour == testserver.MariaDB {
		return "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Rpl_semi_sync_master_clients'"
	}
	return "SELECT variable_value FROM performance_schema.global_status WHERE variable_name = 'Rpl_semi_sync_source_clients'"
}

// commitsWait makes the replicas' machines hang while the primary counts them as attached.
func commitsWait(ctx context.Context, t *testing.T, f *fixture, replicas []*set.Member) {
	t.Helper()
	for _, r := range replicas {
		defer hang(t, r)()
	}
	f.says(ctx, t, f.p, "waiting", "commits wait: 2 replicas are attached, and none of them has acknowledged one since")
	status, body, err := f.p.Get(ctx, "/readyz")
	if err != nil || status != http.StatusOK || !strings.Contains(body, "open for writes, but commits wait") {
		t.Errorf("/readyz of the primary answers %d, %q (%v)", status, body, err)
	}
	_, body, err = f.p.Get(ctx, "/metrics")
	if err != nil || !regexp.MustCompile(`(?m)^understudy_commits_wait_seconds [1-9]\d`).MatchString(body) {
		t.Errorf("/metrics of the primary do not say how long commits wait: %v", err)
	}
}

// primaryHangs makes the primary's machine hang: its connections stay open, and no byte comes over
// them.
func primaryHangs(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	goOn := hang(t, f.p)
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.says(ctx, t, r, "waiting", "nothing has come from its source", "not even a heartbeat")
		status, body, err := r.Get(ctx, "/readyz")
		if err != nil || status != http.StatusOK || !strings.Contains(body, "the applier runs; nothing has come from its source") {
			t.Errorf("/readyz of %s answers %d, %q (%v)", r.Name(), status, body, err)
		}
		for path, want := range map[string]int{"/replica": http.StatusOK, "/replica?lag=100h": http.StatusServiceUnavailable} {
			if status, body, err := r.Get(ctx, path); err != nil || status != want {
				t.Errorf("%s of %s, whose lag is not known, answers %d, %q (%v)", path, r.Name(), status, body, err)
			}
		}
	}
	_, body, err := f.r1.Get(ctx, "/metrics")
	for _, line := range []string{`understudy_replication_lag_seconds -1`, `understudy_replication_without_source_seconds [1-9]\d`} {
		if err != nil || !regexp.MustCompile("(?m)^"+line).MatchString(body) {
			t.Errorf("/metrics of %s have no %q (%v)", f.r1.Name(), line, err)
		}
	}
	goOn()
	f.rests(ctx, t, f.r1)
}

// hang stops a member's server until the function that it returns is called, or the test ends.
func hang(t *testing.T, m *set.Member) (goOn func()) {
	t.Helper()
	pid := m.Server.Pid()
	send := func(s syscall.Signal) {
		if err := syscall.Kill(pid, s); err != nil {
			t.Error(err)
		}
	}
	send(syscall.SIGSTOP)
	goOn = sync.OnceFunc(func() { send(syscall.SIGCONT) })
	t.Cleanup(goOn) // a stopped process does not hear that it is to end
	return goOn
}
