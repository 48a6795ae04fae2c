//go:build replication

package replication

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

// outranked are option files that a server reads after understudy's own.
func outranked(t *testing.T, m *set.Member, lines string) (remove func()) {
	t.Helper()
	file := filepath.Join(m.Config, "zz.cnf")
	put(t, file, "[mysqld]\n"+lines)
	return func() {
		t.Helper()
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// writableAtStart is what makes a server start writable, and what has its events run.
const writableAtStart = "read_only = OFF\nloose_super_read_only = OFF\n"

// laterFile is how a member names the file: MariaDB says its name to few.
var laterFile = map[string]string{testserver.MariaDB: "an option file that the server reads after ours", testserver.MySQL: "zz.cnf"}

// ticking begins an event that writes when it runs on a server that is read-only.
const ticking = "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks SELECT 1 FROM dual " +
	"WHERE @@GLOBAL.read_only <> 'OFF' AND @@GLOBAL.read_only <> '0'"

// primaryStartsWritable must take over what it lacks all the same. The event would write on a
// server that is read-only.
func primaryStartsWritable(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	// It counts from when it follows a member, which is with another server_id: until the sidecar has
	// stopped the scheduler, one that runs as root may write on MariaDB.
	f.run(ctx, t, f.p, "CREATE TABLE shop.ticks (a INT)", ticking+" AND @@GLOBAL.server_id <> 100")
	f.oldCopy(ctx, t, "4", func() {})
	again := outranked(t, f.p, writableAtStart+"event_scheduler = ON\n")
	f.initialise(ctx, t, f.p)
	if err := f.p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	// Its sidecar comes late: until then the members must not take the old copy for what the set goes
	// on with.
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.says(ctx, t, r, "the source is not open for writes yet, and lacks transactions that this member has")
	}
	time.Sleep(12 * time.Second)
	for _, r := range []*set.Member{f.r1, f.r2} {
		if said := string(f.log(t, r)[f.read[r]:]); strings.Contains(said, "manual action required") {
			t.Errorf("%s took the primary for open: %s", r.Name(), said)
		}
	}
	if err := f.p.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, t, f.p, "step done", "make read-only", "started writable", laterFile[f.flavour])
	f.does(ctx, t, f.p, "stop the event scheduler", follow, "stop following", "open for writes", "start the event scheduler")
	f.ready(ctx, t, f.p)
	for _, r := range []*set.Member{f.r1, f.r2} {
		f.rests(ctx, t, r)
	}
	f.run(ctx, t, f.p, "DROP EVENT shop.tick")
	if n := f.ask(ctx, t, f.p, "SELECT COUNT(*) FROM shop.ticks"); n != "0" {
		t.Errorf("an event has written %s rows before the primary was open", n)
	}
	f.run(ctx, t, f.p, "DROP TABLE shop.ticks")
	again()
}

// primaryPersisted has the next start of the server be as the configuration says.
func primaryPersisted(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.p, "SET PERSIST read_only = OFF", "SET PERSIST event_scheduler = ON")
	f.says(ctx, t, f.p, "step done", "remove persisted settings", "read_only")
	// It may have removed one before the other was there.
	f.arrives(ctx, t, f.p, "SELECT COUNT(*) FROM performance_schema.persisted_variables", "0")
	f.rests(ctx, t, f.p)
	f.ready(ctx, t, f.p)
}

// primaryEvents wishes for events, on MariaDB in its own configuration: they begin when it is open,
// and not before. One that came due while the server was down runs then. MariaDB has the
// administrator start them.
func primaryEvents(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	f.run(ctx, t, f.p, "SET GLOBAL event_scheduler = OFF", "CREATE TABLE shop.ticks (a INT)", ticking,
		"CREATE EVENT shop.once ON SCHEDULE AT NOW() + INTERVAL 1 SECOND DO INSERT INTO shop.ticks VALUES (2)")
	wish := filepath.Join(f.p.Config, "primary.cnf")
	put(t, wish, "[mariadb]\nevent_scheduler\n")
	f.down(ctx, t, f.p)
	f.initialise(ctx, t, f.p)
	wrong := filepath.Join(f.dir, "wrong")
	put(t, wrong, "another password")
	if err := f.p.StartSidecar("--admin-password-file=" + wrong); err != nil {
		t.Fatal(err)
	}
	if err := f.p.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.does(ctx, t, f.p, "open for writes")
	if f.flavour == testserver.MariaDB {
		f.reports(ctx, t, f.p, "the event scheduler cannot be started")
		f.ready(ctx, t, f.p)
		f.restartSidecar(ctx, t, f.p)
	}
	f.does(ctx, t, f.p, "start the event scheduler")
	f.rests(ctx, t, f.p)
	f.arrives(ctx, t, f.p, "SELECT COUNT(*) FROM shop.ticks WHERE a = 2", "1")
	f.run(ctx, t, f.p, "SET GLOBAL event_scheduler = OFF") // by a person, who means it
	f.restartSidecar(ctx, t, f.p)
	f.rests(ctx, t, f.p)
	if on := f.ask(ctx, t, f.p, "SELECT @@GLOBAL.event_scheduler"); on != "OFF" {
		t.Errorf("the event scheduler is %s: what a person has stopped was started", on)
	}
	if n := f.ask(ctx, t, f.p, "SELECT COUNT(*) FROM shop.ticks WHERE a = 1"); n != "0" {
		t.Errorf("an event has written %s rows before the primary was open", n)
	}
	f.run(ctx, t, f.p, "DROP EVENT shop.tick", "DROP TABLE shop.ticks")
	if err := os.Remove(wish); err != nil {
		t.Fatal(err)
	}
}

// replicaStartsWritable takes no writes for long.
func replicaStartsWritable(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	again := outranked(t, f.r1, writableAtStart+"event_scheduler = ON\n")
	if err := f.r1.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.r1.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, t, f.r1, "step done", "make read-only", "started writable", laterFile[f.flavour])
	f.does(ctx, t, f.r1, "stop the event scheduler")
	f.rests(ctx, t, f.r1)
	again()
}

// replicaPersisted has read_only persisted alone: super_read_only, which is on, binds nobody then.
func replicaPersisted(ctx context.Context, t *testing.T, f *fixture) {
	t.Helper()
	if err := f.r1.StopSidecar(ctx); err != nil {
		t.Fatal(err)
	}
	f.run(ctx, t, f.r1, "SET PERSIST read_only = OFF", "SET PERSIST event_scheduler = ON")
	if err := f.r1.StopServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.r1.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	if state := f.ask(ctx, t, f.r1, "SELECT CONCAT(@@read_only, @@super_read_only)"); state != "01" {
		t.Fatalf("the server started with read_only, super_read_only = %s", state)
	}
	if err := f.r1.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	f.says(ctx, t, f.r1, "step done", "make read-only", "mysqld-auto.cnf")
	f.does(ctx, t, f.r1, "stop the event scheduler", "remove persisted settings")
	f.rests(ctx, t, f.r1)
	if state := f.ask(ctx, t, f.r1, "SELECT CONCAT(@@read_only, @@super_read_only, @@event_scheduler)"); state != "11OFF" {
		t.Errorf("read_only, super_read_only, event_scheduler are %s", state)
	}
	if err := f.r1.Execute(ctx, "CREATE DATABASE errant"); err == nil {
		t.Error("root can write to the replica")
	}
}
