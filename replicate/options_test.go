package replicate

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy/replicate/flavor"
)

// What init writes, as a server reads it.
func TestRender(t *testing.T) {
	const (
		common = `report_host=db-1.db
log_bin
sync_binlog=1
innodb_flush_log_at_trx_commit=1
relay_log_recovery=ON
`
		mariadb = `log_slave_updates=ON
gtid_strict_mode=ON
skip_slave_start=ON
`
		mysqlNames = `loose_log_replica_updates=ON
loose_log_slave_updates=ON
loose_skip_replica_start=ON
loose_skip_slave_start=ON
plugin_load_add=mysql_clone.so
`
		mysqlGTID = `gtid_mode=ON
enforce_gtid_consistency=ON
`
	)
	base := Settings{Flavor: flavor.MariaDB, ServerID: 4294967295, ReportHost: "db-1.db"}
	set := func(change func(*Settings)) Settings {
		s := base
		change(&s)
		return s
	}
	const id = "server_id=4294967295\n"
	tests := []struct {
		name string
		s    Settings
		want string
	}{
		{"mariadb primary", base, id + common + mariadb + "event_scheduler=OFF\nread_only=ON\n"},
		{"mariadb replica", set(func(s *Settings) { s.Replica = true }), id + common + mariadb + "event_scheduler=OFF\nread_only=ON\n"},
		{"mariadb initialising", set(func(s *Settings) { s.Initialising = true }), id + common + mariadb + "event_scheduler=OFF\nread_only=ON\n"},
		{
			"mariadb by lease", set(func(s *Settings) { s.ByLease = true }),
			id + common + "max_user_connections=2147483647\nslave_net_timeout=4\n" + mariadb + "event_scheduler=OFF\nread_only=ON\n",
		},
		{"mysql primary", set(func(s *Settings) { s.Flavor = flavor.MySQL }), id + common + mysqlNames + mysqlGTID + "event_scheduler=OFF\nread_only=ON\nsuper_read_only=ON\n"},
		{
			"mysql replica", set(func(s *Settings) { s.Flavor, s.Replica = flavor.MySQL, true }),
			id + common + mysqlNames + mysqlGTID + "event_scheduler=OFF\nread_only=ON\nsuper_read_only=ON\n",
		},
		{
			"mysql by lease", set(func(s *Settings) { s.Flavor, s.ByLease = flavor.MySQL, true }),
			id + common + mysqlNames + mysqlGTID + "replicate_same_server_id=ON\nevent_scheduler=OFF\nread_only=ON\nsuper_read_only=ON\n",
		},
		{
			"mysql by lease, its gtid_mode kept", set(func(s *Settings) { s.Flavor, s.ByLease, s.KeepGTIDMode = flavor.MySQL, true, true }),
			id + common + mysqlNames + "event_scheduler=OFF\nread_only=ON\nsuper_read_only=ON\n",
		},
		{
			"mysql without the engine clone", set(func(s *Settings) { s.Flavor, s.NoClonePlugin = flavor.MySQL, true }),
			id + common + strings.TrimSuffix(mysqlNames, "plugin_load_add=mysql_clone.so\n") + mysqlGTID + "event_scheduler=OFF\nread_only=ON\nsuper_read_only=ON\n",
		},
		{"mysql initialising", set(func(s *Settings) { s.Flavor, s.Initialising = flavor.MySQL, true }), id + common + mysqlNames + mysqlGTID + "event_scheduler=OFF\nread_only=ON\n"},
		{
			"mysql primary with semi-sync", set(func(s *Settings) { s.Flavor, s.SemiSync = flavor.MySQL, SemiSyncRequired }),
			id + common + mysqlNames + "plugin_load_add=semisync_source.so\nplugin_load_add=semisync_replica.so\n" + mysqlGTID +
				"event_scheduler=OFF\nread_only=ON\nsuper_read_only=ON\n",
		},
		{"mariadb primary with semi-sync", set(func(s *Settings) { s.SemiSync = SemiSyncRequired }), id + common + mariadb + "event_scheduler=OFF\nread_only=ON\n"},
		{
			"mysql adopted", set(func(s *Settings) { s.Flavor, s.KeepGTIDMode, s.BinlogBasename = flavor.MySQL, true, "mysql-bin" }),
			id + `report_host=db-1.db
log_bin=mysql-bin
sync_binlog=1
innodb_flush_log_at_trx_commit=1
relay_log_recovery=ON
` + mysqlNames + "event_scheduler=OFF\nread_only=ON\nsuper_read_only=ON\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := string(Render(Options(tt.s), "Written by a test.", "Twice."))
			if d := cmp.Diff("# Written by a test.\n# Twice.\n[mysqld]\n"+tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	for f, want := range map[flavor.Flavor]string{flavor.MariaDB: "binlog_format=ROW\n", flavor.MySQL: ""} {
		if d := cmp.Diff("[mysqld]\nloose_binlog_expire_logs_seconds=604800\n"+want, string(Render(Defaults(f)))); d != "" {
			t.Error(d)
		}
	}
}

// verified is what a server has to say for the options to have taken.
func verified(opts []Option) map[string]string {
	have := map[string]string{}
	for _, o := range opts {
		if o.Verify != "" {
			have[o.Name] = o.Verify
		}
	}
	return have
}

func TestVerified(t *testing.T) {
	common := map[string]string{
		"server_id": "101", "log_bin": "ON", "sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1", "relay_log_recovery": "ON",
		"event_scheduler": "OFF",
	}
	for f, more := range map[flavor.Flavor]map[string]string{
		flavor.MariaDB: {"log_slave_updates": "ON", "gtid_strict_mode": "ON"},
		flavor.MySQL:   {"log_replica_updates": "ON", "skip_replica_start": "ON", "gtid_mode": "ON", "enforce_gtid_consistency": "ON"},
	} {
		maps.Copy(more, common)
		s := Settings{Flavor: f, ServerID: 101, ReportHost: "db-1.db", Replica: true, BinlogBasename: "mysql-bin"}
		if d := cmp.Diff(more, verified(Options(s))); d != "" {
			t.Error(d)
		}
		// The sidecar does not know what init knew, and must verify the same.
		s.BinlogBasename, s.Initialising = "", true
		if d := cmp.Diff(more, verified(Options(s))); d != "" {
			t.Error(d)
		}
	}
}

func TestCompare(t *testing.T) {
	opts := Options(Settings{Flavor: flavor.MySQL, ServerID: 100, Replica: true})
	tests := []struct {
		name   string
		change func(have map[string]string)
		want   []string
	}{
		{"all right", func(map[string]string) {}, nil},
		{"more than was asked for", func(have map[string]string) { have["binlog_format"] = "ROW" }, nil},
		{"one is wrong", func(have map[string]string) { have["sync_binlog"] = "0" }, []string{`sync_binlog is "0", not "1"`}},
		{"a loose one is unknown to the server", func(have map[string]string) { delete(have, "skip_replica_start") }, nil},
		{"a renamed one is known by its old name", func(have map[string]string) {
			delete(have, "log_replica_updates")
			have["log_slave_updates"] = "ON"
		}, nil},
		{"a renamed one is known by its old name, and did not take", func(have map[string]string) {
			delete(have, "log_replica_updates")
			have["log_slave_updates"] = "OFF"
		}, []string{`log_slave_updates is "OFF", not "ON"`}},
		{"one is unknown to the server", func(have map[string]string) { delete(have, "gtid_mode") }, []string{`gtid_mode is "", not "ON"`}},
		{"an event scheduler that cannot be started is off", func(have map[string]string) { have["event_scheduler"] = "DISABLED" }, nil},
		{"events run", func(have map[string]string) { have["event_scheduler"] = "ON" }, []string{`event_scheduler is "ON", not "OFF"`}},
		{
			"in the order of the options", func(have map[string]string) { have["log_bin"], have["server_id"] = "OFF", "1" },
			[]string{`server_id is "1", not "100"`, `log_bin is "OFF", not "ON"`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			have := verified(opts)
			tt.change(have)
			if d := cmp.Diff(tt.want, compare(opts, have)); d != "" {
				t.Error(d)
			}
		})
	}
}
