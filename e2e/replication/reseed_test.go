//go:build replication

package replication

import (
	"context"
	"path/filepath"
	"testing"
)

// reseeded reseeds a replica that has errant transactions, in the documented way.
func reseeded(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	gtids := f.errant(ctx, t, f.r2)
	f.reports(ctx, t, f.r2, gtids)
	f.onVolume(ctx, t, f.r2, "the request is on the volume: stop the server and the sidecar, run init", "reseed", "--kube=off", "--pod-name="+f.r2.Name(), "--health=http://"+f.r2.Host+":9307")
	f.down(ctx, t, f.r2)
	f.up(ctx, t, f.r2)
	f.does(ctx, t, f.r2, "configure replication", "start replication", "record that the member is attached")
	f.rests(ctx, t, f.r2)
	aside, err := filepath.Glob(filepath.Join(f.r2.Volume, ".understudy", "replaced-*"))
	if err != nil || len(aside) != 2 {
		t.Errorf("moved aside: %v, %v", aside, err)
	}
}

// applierFails drops a table to which the primary writes.
func applierFails(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	const create, insert = "CREATE TABLE shop.gone (a INT PRIMARY KEY)", "INSERT INTO shop.gone VALUES (1)"
	f.run(ctx, t, f.p, create)
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'gone'", "1")
	f.run(ctx, t, f.r1, f.unfenced("DROP TABLE shop.gone")...)
	f.run(ctx, t, f.p, insert)
	f.reports(ctx, t, f.r1, "the applier stopped with error 1146")
	f.run(ctx, t, f.r1, f.unfenced(create)...)
	f.run(ctx, t, f.r1, f.startApplier)
	f.rests(ctx, t, f.r1)
	f.arrives(ctx, t, f.r1, "SELECT COUNT(*) FROM shop.gone", "1")
}
