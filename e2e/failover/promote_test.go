//go:build failover

package failover

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"understudy/e2e/set"
)

// promote calls the command for a member.
func (f *fixture) promote(ctx context.Context, m *set.Member, flags ...string) set.Run {
	f.t.Helper()
	args := []string{"promote", m.Name(), "--set=db", "--namespace=default", "--peer-host=" + f.Hosts(), fmt.Sprintf("--members=%d", f.n), "--secret-file=" + f.SecretFile()}
	r, err := f.Call(ctx, nil, append(args, flags...)...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Logf("promote %q ended with %d:\n%s%s", flags, r.Code, r.Stdout, r.LastLine())
	return r
}

// Two of three members are gone for good, and with them the only acknowledger of some commits. Nobody
// leads, until a person says so; and what comes back is named, and reseeded.
func TestPromote(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, false, "--semi-sync=preferred", "--fence=sidecar")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader, gone, left := f.byName("db-0"), f.byName("db-1"), f.byName("db-2")
	if r := f.promote(ctx, left, "--accept-data-loss", "--confirm=db"); r.Code != 3 || !strings.Contains(r.Stderr, "db-0 holds the Lease for term 1") {
		t.Errorf("beside a leader that renews it ended with %d: %s", r.Code, r.LastLine())
	}

	left.Sidecar().Signal(syscall.SIGSTOP)
	if err := left.Execute(ctx, "STOP REPLICA IO_THREAD"); err != nil {
		t.Fatal(err)
	}
	w.more(ctx, 20)
	for _, m := range []*set.Member{leader, gone} {
		m.KillSidecar()
		m.Server.Kill()
	}
	left.Sidecar().Signal(syscall.SIGCONT)
	f.await(ctx, "the one that is left says for whom it waits", func() (bool, string) {
		_, body, err := left.Get(ctx, "/readyz")
		return strings.Contains(body, "it waits for db-1, db-0"), body + errText(err)
	})
	r := f.promote(ctx, left)
	if r.Code != 3 || !strings.Contains(r.Stderr, "--accept-data-loss") {
		t.Errorf("without the flag it ended with %d: %s", r.Code, r.LastLine())
	}
	for _, says := range []string{"db-0 does not answer, and led term 1", "db-1 does not answer, and may alone have acknowledged commits", "of what db-0 committed in term 1"} {
		if !strings.Contains(r.Stdout, says) {
			t.Errorf("it does not say %q", says)
		}
	}
	if r := f.promote(ctx, left, "--accept-data-loss"); r.Code != 2 || !strings.Contains(r.Stderr, "--confirm=db") {
		t.Errorf("without the set's name it ended with %d: %s", r.Code, r.LastLine())
	}
	if now := f.lease(ctx); now.Phase == "opened" && now.Term > before.Term {
		t.Errorf("it was opened: %+v", now)
	}
	if r := f.promote(ctx, left, "--accept-data-loss", "--confirm=db"); r.Code != 0 {
		t.Fatalf("it ended with %d: %s", r.Code, r.LastLine())
	}
	if now := f.lease(ctx); now.Phase != "opened" || now.Holder != left.Name() {
		t.Errorf("%+v", now)
	}
	lost, err := w.missing(ctx, left)
	if err != nil || len(lost) == 0 {
		t.Errorf("lost are %v %v: what only db-1 had acknowledged is missing", lost, err)
	}
	w.mu.Lock()
	w.acked = slices.DeleteFunc(w.acked, func(n int) bool { return slices.Contains(lost, n) })
	w.mu.Unlock()
	w.more(ctx, 20)

	f.up(ctx, leader)
	f.await(ctx, "the member that comes back says what it has more", func() (bool, string) {
		_, body, err := leader.Get(ctx, "/readyz")
		return strings.Contains(body, "outside the set's history"), body + errText(err)
	})
	f.reseed(ctx, leader)
	f.named(ctx, 1)
	w.more(ctx, 20)
	stop()
	for _, m := range []*set.Member{left, leader} {
		f.await(ctx, m.Name()+" has all rows", func() (bool, string) {
			missing, err := w.missing(ctx, m)
			return err == nil && len(missing) == 0, fmt.Sprintf("%v %v", missing, err)
		})
	}
}
