//go:build replication

package replication

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
)

func firstStart(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.up(ctx, t, f.p)
	f.says(ctx, t, f.p, "the server does not answer")
	f.does(ctx, t, f.p, "record that the data directory is complete", "make the accounts", "record that the member is attached", "open for writes")
	f.rests(ctx, t, f.p)
	if format := f.ask(ctx, t, f.p, "SELECT @@GLOBAL.binlog_format"); format != "ROW" {
		t.Errorf("binlog_format is %s", format)
	}
	if err := load.Create(ctx, f.p.Server.DB()); err != nil {
		t.Fatal(err)
	}
	if err := load.Fill(ctx, f.p.Server.DB(), 1, 4<<20); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.up(ctx, t, r)
		f.says(ctx, t, r, "the server does not answer")
		f.does(ctx, t, r, "configure replication", "start replication", "record that the member is attached")
		f.says(ctx, t, r, "nothing to do", "replication runs")
	}
}

// A loop that changes nothing logs nothing.
func nothingHappens(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	for _, m := range f.all() {
		f.ready(ctx, t, m)
	}
	time.Sleep(time.Second) // what the writer's begin may change
	before := map[*set.Member]string{}
	for _, m := range f.all() {
		before[m] = string(f.log(t, m))
	}
	time.Sleep(3 * time.Second) // a loop turns five times in a second here
	for _, m := range f.all() {
		if now := string(f.log(t, m)); now != before[m] {
			t.Errorf("%s says %s", m.Name(), now[len(before[m]):])
		}
	}
}

// primaryReplaced runs init again: the configuration is no longer that for the image's first start.
func primaryReplaced(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.down(ctx, t, f.p)
	f.up(ctx, t, f.p)
	f.does(ctx, t, f.p, "open for writes")
}

func primaryKilled(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	primaryAway(ctx, t, f, true)
}

func primaryRestarts(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	primaryAway(ctx, t, f, false)
}

// primaryAway takes the primary's server away until the replicas have noticed.
func primaryAway(ctx context.Context, t *testing.T, f *fixture, kill bool) {
	t.Helper()
	if kill {
		f.p.KillServer()
	} else if err := f.p.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.says(ctx, t, r, "waiting", "the receiver is connecting")
		f.ready(ctx, t, r) // for reads
	}
	if err := f.p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "open for writes")
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.rests(ctx, t, r)
	}
}

func primaryReadOnly(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.p, f.fence...)
	f.does(ctx, t, f.p, "open for writes")
}

func primaryUnsafe(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.p, "SET GLOBAL sync_binlog = 0")
	f.reports(ctx, t, f.p, `sync_binlog is "0", not "1"`)
	f.ready(ctx, t, f.p) // it is open, and stays it
	f.run(ctx, t, f.p, f.fence...)
	f.says(ctx, t, f.p, "readiness changed", `"ready":false`)
	f.unready(ctx, t, f.p, "safety options did not take")
	time.Sleep(time.Second)
	if readOnly := f.ask(ctx, t, f.p, "SELECT @@GLOBAL.read_only"); readOnly != "1" {
		t.Errorf("read_only is %s: it was opened without the option", readOnly)
	}
	f.run(ctx, t, f.p, "SET GLOBAL sync_binlog = 1")
	f.does(ctx, t, f.p, "open for writes")
}

const account = "understudy_replication@'%'"

func accountChanged(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	for _, text := range []string{
		"ALTER USER " + account + " IDENTIFIED BY 'by hand'", "REVOKE REPLICATION SLAVE ON *.* FROM " + account, "DROP USER " + account,
	} {
		f.run(ctx, t, f.p, text)
		f.does(ctx, t, f.p, "make the accounts")
		f.rests(ctx, t, f.p)
	}
	f.run(ctx, t, f.r1, f.stop) // so that it logs in again
	f.does(ctx, t, f.r1, "start replication")
	f.rests(ctx, t, f.r1)
}

// accountExpired lets the account of the replicas expire while no sidecar is there to repair it.
func accountExpired(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	if err := f.p.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.p, "ALTER USER "+account+" PASSWORD EXPIRE")
	f.run(ctx, t, f.r1, f.stopReceiver)
	f.says(ctx, t, f.r1, "waiting", "the source does not let the replication account in")
	f.ready(ctx, t, f.r1) // for reads
	if err := f.p.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "make the accounts")
	f.does(ctx, t, f.r1, "start replication")
	f.rests(ctx, t, f.r1)
}

func primaryFollows(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.p, f.to("%_HOST = '127.0.0.9'"))
	f.reports(ctx, t, f.p, "the primary is configured as a replica of 127.0.0.9:3306")
	f.ready(ctx, t, f.p)
	f.run(ctx, t, f.p, f.reset)
	f.rests(ctx, t, f.p)
	f.run(ctx, t, f.p, f.named)
	f.reports(ctx, t, f.p, "over the channels east")
	f.run(ctx, t, f.p, f.forget)
	f.rests(ctx, t, f.p)
}

func wrongAdminPassword(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	wrong := filepath.Join(f.dir, "wrong")
	put(t, wrong, "another password")
	f.restartSidecar(ctx, t, f.r2, "--sidecar-password-file="+wrong, "--admin-password-file="+wrong)
	f.reports(ctx, t, f.r2, "Access denied")
	f.unready(ctx, t, f.r2, "Access denied")
	f.restartSidecar(ctx, t, f.r2)
	f.rests(ctx, t, f.r2)
}

func wrongFlavour(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.restartSidecar(ctx, t, f.r2, "--flavor="+f.other)
	f.reports(ctx, t, f.r2, "not "+f.other+" as --flavor says")
	f.unready(ctx, t, f.r2, "as --flavor says")
	f.restartSidecar(ctx, t, f.r2)
	f.rests(ctx, t, f.r2)
}

func passwordChanged(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	if err := os.WriteFile(f.ReplicationPasswordFile(), []byte("another replication password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "make the accounts")
	for _, r := range []*set.Member{f.r1, f.r2} { // they log in again, with the password that they have
		f.run(ctx, t, r, f.stopReceiver)
		f.does(ctx, t, r, "start replication", "repoint replication")
		f.rests(ctx, t, r)
	}
}

// adminPasswordRotated rotates the password and back; the writer and the replicas' sidecars have
// the old one only.
func adminPasswordRotated(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	current, previous := filepath.Join(f.dir, "current"), filepath.Join(f.dir, "previous")
	put(t, current, "the next password")
	put(t, previous, f.RootPassword())
	f.restartSidecar(ctx, t, f.p, "--admin-password-file="+current, "--admin-password-file-previous="+previous)
	f.does(ctx, t, f.p, "change the administrator's password")
	put(t, current, f.RootPassword())
	put(t, previous, "the next password")
	f.does(ctx, t, f.p, "change the administrator's password")
	if err := os.Remove(previous); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "change the administrator's password")
	f.restartSidecar(ctx, t, f.p)
	f.rests(ctx, t, f.p)
}
