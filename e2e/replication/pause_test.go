//go:build replication

package replication

import (
	"context"
	"slices"
	"strings"
	"testing"

	"understudy/e2e/set"
)

// onVolume runs pause or resume beside a sidecar that runs.
func (f *fixture) onVolume(ctx context.Context, t *testing.T, m *set.Member, want string, args ...string) {
	t.Helper()
	r, err := f.Call(ctx, nil, append(args, "--volume="+m.Volume)...)
	if err != nil || r.Code != 0 || !strings.HasPrefix(r.Stdout, want) {
		t.Fatalf("%v ended with %d (%v): %s%s", args, r.Code, err, r.Stdout, r.Stderr)
	}
}

func (f *fixture) pause(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	f.onVolume(ctx, t, m, "paused since ", "pause", "--reason=a look")
	f.says(ctx, t, m, "left alone", ": a look")
}

// pausedReplica is stopped and opened by hand, and stays so until it is resumed.
func pausedReplica(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.pause(ctx, t, f.r1)
	f.run(ctx, t, f.r1, append(slices.Clip(f.open), f.stop)...)
	f.restartSidecar(ctx, t, f.r1)
	f.says(ctx, t, f.r1, "left alone", ": a look")
	f.unready(ctx, t, f.r1, "the member is paused since ")
	if got := f.ask(ctx, t, f.r1, "SELECT @@read_only"); got != "0" {
		t.Errorf("read_only of the paused replica is %s", got)
	}
	f.onVolume(ctx, t, f.r1, "resumed; it was paused since ", "resume")
	f.does(ctx, t, f.r1, "make read-only", "start replication")
	f.rests(ctx, t, f.r1)
}

// pausedPrimary is replaced: its server comes back read-only, and opens when it is resumed.
func pausedPrimary(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.pause(ctx, t, f.p)
	f.down(ctx, t, f.p)
	f.up(ctx, t, f.p)
	f.says(ctx, t, f.p, "left alone", ": a look")
	f.until(ctx, t, "the sidecar sees the primary read-only", func() bool {
		_, body, err := f.p.Get(ctx, "/readyz")
		return err == nil && strings.HasPrefix(body, "the primary is read-only: ")
	})
	f.onVolume(ctx, t, f.p, "resumed; it was paused since ", "resume")
	f.does(ctx, t, f.p, "open for writes")
	f.rests(ctx, t, f.p)
}
