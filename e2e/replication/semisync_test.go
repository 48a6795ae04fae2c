//go:build replication

package replication

import (
	"context"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// semiSync requires it of a running set, and lets both replicas leave.
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
	// What follows is about sets without it.
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
