//go:build failover

package failover

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

const outsideUser, outsidePassword = "outside", "outside password"

// outside is a replica that is no member.
type outside struct {
	*testserver.Server
	f *fixture
}

// newOutside starts one that has what the leader has now, of nothing that is replicated to it but the
// schema outside.
func (f *fixture) newOutside(ctx context.Context, leader *set.Member) outside {
	f.t.Helper()
	in := engine(ctx, f.t)
	data := filepath.Join(f.t.TempDir(), "data")
	if err := in.Initialise(ctx, data, f.RootPassword()); err != nil {
		f.t.Fatal(err)
	}
	options := []string{"--server-id=4000000000", "--log-bin", "--replicate-wild-do-table=outside.%"}
	if !f.mariaDB {
		options = append(options, "--gtid-mode=ON", "--enforce-gtid-consistency=ON")
	}
	s, err := in.Start(ctx, testserver.Config{DataDir: data, RootPassword: f.RootPassword(), Extra: options})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(s.Kill)
	o := outside{s, f}
	query, begin := "SELECT @@GLOBAL.gtid_executed", []string{"RESET BINARY LOGS AND GTIDS", "SET GLOBAL gtid_purged = '%s'"}
	if f.mariaDB {
		query, begin = "SELECT @@GLOBAL.gtid_binlog_pos", []string{"SET GLOBAL gtid_slave_pos = '%s'"}
	}
	var has string
	if err := leader.Server.DB().QueryRowContext(ctx, query).Scan(&has); err != nil {
		f.t.Fatal(err)
	}
	begin[len(begin)-1] = fmt.Sprintf(begin[len(begin)-1], has)
	o.execute(ctx, begin...)
	return o
}

func (o outside) execute(ctx context.Context, statements ...string) {
	o.f.t.Helper()
	for _, statement := range statements {
		if _, err := o.DB().ExecContext(ctx, statement); err != nil {
			o.f.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// follows has it follow a member.
func (o outside) follows(ctx context.Context, m *set.Member) {
	o.f.t.Helper()
	cfg := m.Server.Config()
	if o.f.mariaDB {
		o.execute(ctx, "STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %d, MASTER_USER = '%s', MASTER_PASSWORD = '%s', MASTER_USE_GTID = slave_pos",
			cfg.Addr, cfg.Port, outsideUser, outsidePassword), "START SLAVE")
		return
	}
	o.execute(ctx, "STOP REPLICA", fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %d, SOURCE_USER = '%s', SOURCE_PASSWORD = '%s', "+
		"SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1", cfg.Addr, cfg.Port, outsideUser, outsidePassword), "START REPLICA")
}

// has waits until it has so many rows of the table outside.t.
func (o outside) has(ctx context.Context, want int) {
	o.f.t.Helper()
	o.f.await(ctx, fmt.Sprintf("the outside replica has %d rows", want), func() (bool, string) {
		var n int
		err := o.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM outside.t").Scan(&n)
		return err == nil && n == want, fmt.Sprint(n, err)
	})
}

// A replica that is no member follows the next leader by its GTIDs. If it acknowledges commits, which
// nobody can forbid it, nobody is named, so that no commit is lost that only it has.
func TestOutsideReplica(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required", "--stable-after=1s")
	w, stop := f.begin(ctx)
	before := f.named(ctx, 2)
	leader := f.byName(before.Holder)
	f.execute(ctx, leader, "CREATE USER "+outsideUser+"@'%' IDENTIFIED BY '"+outsidePassword+"'")
	f.execute(ctx, leader, "GRANT REPLICATION SLAVE ON *.* TO "+outsideUser+"@'%'")
	o := f.newOutside(ctx, leader)
	f.execute(ctx, leader, "CREATE DATABASE outside")
	f.execute(ctx, leader, "CREATE TABLE outside.t (n BIGINT PRIMARY KEY)")
	f.execute(ctx, leader, "INSERT INTO outside.t VALUES (1)")
	o.follows(ctx, leader)
	o.has(ctx, 1)

	stop() // what nobody has acknowledged may be there already, and then it cannot follow the next leader
	o.awaits(ctx, leader)
	f.killServer(leader)
	f.moved(ctx, before)
	old := leader
	leader = f.byName(f.lease(ctx).Holder)
	f.execute(ctx, leader, "INSERT INTO outside.t VALUES (2)")
	o.follows(ctx, leader)
	o.has(ctx, 2)
	f.rejoin(ctx, old)

	leader = f.byName(f.named(ctx, 2).Holder)
	word := "slave"
	if !f.mariaDB {
		word = "replica"
		o.execute(ctx, "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'")
	}
	o.execute(ctx, "STOP "+word+" IO_THREAD", "SET GLOBAL rpl_semi_sync_"+word+"_enabled = ON", "START "+word+" IO_THREAD")
	f.named(ctx, 0)
	f.execute(ctx, leader, "INSERT INTO outside.t VALUES (3)") // acknowledged by it
	o.has(ctx, 3)
	f.says(ctx, 1, outsideUser+"@", "is no member")
	if !strings.Contains(f.log(leader), "is no member") {
		t.Error("the leader did not say why it names nobody")
	}
	o.execute(ctx, "STOP "+word)
	f.named(ctx, 2)
	f.check(ctx, w)
}

// awaits waits until it has all that a leader has, which does nothing.
func (o outside) awaits(ctx context.Context, leader *set.Member) {
	o.f.t.Helper()
	all := o.f.executed(ctx, leader)
	o.f.await(ctx, "the outside replica has all", func() (bool, string) {
		has := o.f.executedBy(ctx, o.Server)
		return has.Contains(all), has.String()
	})
}
