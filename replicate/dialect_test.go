package replicate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// The vector is that of MySQL's manual for PASSWORD().
func TestNativeHash(t *testing.T) {
	if got := nativeHash("password"); got != "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19" {
		t.Error(got)
	}
}

// versions are at the borders of the dialects.
var versions = map[string]flavor.Version{
	"mariadb":      version,
	"mysql 5.7":    {Flavor: flavor.MySQL, Major: 5, Minor: 7, Patch: 44},
	"mysql 8.0.21": {Flavor: flavor.MySQL, Major: 8, Patch: 21},
	"mysql 8.0.22": {Flavor: flavor.MySQL, Major: 8, Patch: 22},
	"mysql 8.0.23": {Flavor: flavor.MySQL, Major: 8, Patch: 23},
	"mysql 8.4":    {Flavor: flavor.MySQL, Major: 8, Minor: 4},
	"mysql 9.7":    {Flavor: flavor.MySQL, Major: 9, Minor: 7, Patch: 4},
}

// The words of the table above dialectOf.
func TestDialectOf(t *testing.T) {
	tests := []struct{ version, status, start, stop, reset, change string }{
		{"mariadb", "SHOW ALL SLAVES STATUS", "START SLAVE", "STOP SLAVE", "RESET SLAVE ALL", "CHANGE MASTER TO MASTER_SSL = 1, MASTER_SSL_CA = ?, MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_HEARTBEAT_PERIOD = 2, MASTER_USER = ?, MASTER_PASSWORD = ?"},
		{"mysql 5.7", "SHOW SLAVE STATUS", "START SLAVE", "STOP SLAVE", "RESET SLAVE ALL", "CHANGE MASTER TO MASTER_SSL = 1, MASTER_SSL_CA = ?, MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_HEARTBEAT_PERIOD = 2, MASTER_USER = ?, MASTER_PASSWORD = ?"},
		{"mysql 8.0.21", "SHOW SLAVE STATUS", "START SLAVE", "STOP SLAVE", "RESET SLAVE ALL", "CHANGE MASTER TO MASTER_SSL = 1, MASTER_SSL_CA = ?, MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_HEARTBEAT_PERIOD = 2, MASTER_USER = ?, MASTER_PASSWORD = ?"},
		{"mysql 8.0.22", "SHOW REPLICA STATUS", "START REPLICA", "STOP REPLICA", "RESET REPLICA ALL", "CHANGE MASTER TO MASTER_SSL = 1, MASTER_SSL_CA = ?, MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_HEARTBEAT_PERIOD = 2, MASTER_USER = ?, MASTER_PASSWORD = ?"},
		{"mysql 8.0.23", "SHOW REPLICA STATUS", "START REPLICA", "STOP REPLICA", "RESET REPLICA ALL", "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_SSL_CA = ?, SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_HEARTBEAT_PERIOD = 2, SOURCE_USER = ?, SOURCE_PASSWORD = ?"},
		{"mysql 8.4", "SHOW REPLICA STATUS", "START REPLICA", "STOP REPLICA", "RESET REPLICA ALL", "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_SSL_CA = ?, SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_HEARTBEAT_PERIOD = 2, SOURCE_USER = ?, SOURCE_PASSWORD = ?"},
		{"mysql 9.7", "SHOW REPLICA STATUS", "START REPLICA", "STOP REPLICA", "RESET REPLICA ALL", "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_SSL_CA = ?, SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_HEARTBEAT_PERIOD = 2, SOURCE_USER = ?, SOURCE_PASSWORD = ?"},
	}
	for _, tt := range tests {
		t.Run(tt.version, func(t *testing.T) {
			d := dialectOf(versions[tt.version])
			got := []string{d.queryStatus, d.start, d.stop, d.reset, d.loginStatements(source)[1].text}
			if d := cmp.Diff([]string{tt.status, tt.start, tt.stop, tt.reset, tt.change}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNoPasswordInAStatement(t *testing.T) {
	for name, v := range versions {
		d := dialectOf(v)
		accounts := d.accountStatements(replicationAccount)
		for _, may := range [][]privilege{d.sidecar, d.clone} {
			accounts = append(accounts, d.accountStatements(account{"somebody", inPod, passwords{"the next", secret}, may})...)
		}
		all := append([]statement{}, accounts...)
		for _, o := range []origin.Origin{*byGTID, *byFile} {
			all = append(all, d.configureStatements(source, o)...)
		}
		all = append(all, d.repointStatements(source)...)
		all = append(all, d.loginStatements(source)...)
		for _, st := range all {
			if strings.Contains(st.text, secret) {
				t.Errorf("%s: in the text of %q", name, st.text)
			}
			if n := strings.Count(st.text, "?"); n != len(st.args) {
				t.Errorf("%s: %q has %d places for %d values", name, st.text, n, len(st.args))
			}
		}
		for _, st := range accounts {
			for _, a := range st.args {
				if a == secret {
					t.Errorf("%s: %q would write the password to the binary log", name, st.text)
				}
			}
		}
	}
}

func TestRecipe(t *testing.T) {
	gtid := origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-1-2"}
	position := origin.Origin{Mode: origin.Position, Of: origin.Source, File: "b.000001", Position: 4}
	const (
		mariadb = "CHANGE MASTER TO MASTER_HOST='<primary>', MASTER_PORT=3306, MASTER_USER='<user>', MASTER_PASSWORD='<password>', "
		mysql8  = "CHANGE REPLICATION SOURCE TO SOURCE_HOST='<primary>', SOURCE_PORT=3306, SOURCE_USER='<user>', SOURCE_PASSWORD='<password>', SOURCE_RETRY_COUNT = 86400, SOURCE_SSL = 1, "
	)
	tests := []struct {
		name, version string
		origin        origin.Origin
		want          string
	}{
		{"gtid", "mariadb", gtid, "SET GLOBAL gtid_slave_pos = '0-1-2';\n" + mariadb + "MASTER_USE_GTID = slave_pos;\nSTART SLAVE;"},
		{"position", "mariadb", position, mariadb + "MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=4, MASTER_USE_GTID = no;\nSTART SLAVE;"},
		{
			"gtid", "mysql 9.7", gtid, "SET GLOBAL gtid_purged = CONCAT('+', GTID_SUBTRACT('0-1-2', @@GLOBAL.gtid_executed));\n" + mysql8 +
				"SOURCE_AUTO_POSITION = 1;\nSTART REPLICA;",
		},
		{"gtid", "mysql 5.7", gtid, "RESET MASTER;\nSET GLOBAL gtid_purged = '0-1-2';\n" + mariadb + "MASTER_AUTO_POSITION = 1;\nSTART SLAVE;"},
		{"position", "mysql 8.4", position, mysql8 + "SOURCE_LOG_FILE='b.000001', SOURCE_LOG_POS=4, SOURCE_AUTO_POSITION = 0;\nSTART REPLICA;"},
		{
			"first boot", "mysql 8.4", *unknown, queryBooted + ";\n" + mysql8 +
				"SOURCE_LOG_FILE='<BINLOG_FILE>', SOURCE_LOG_POS=<BINLOG_POSITION>, SOURCE_AUTO_POSITION = 0;\nSTART REPLICA;",
		},
	}
	for _, tt := range tests {
		t.Run(tt.version+" "+tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, Recipe(versions[tt.version], tt.origin)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAdvice(t *testing.T) {
	tests := []struct {
		name  string
		errno int
		text  string
		want  string
	}{
		{"a row is there already", 1062, "Duplicate entry '1' for key 'PRIMARY'", "no event is skipped"},
		{"a row is missing", 1032, "Can't find record in 't'", "no event is skipped"},
		{"executed again", 1950, "An attempt was made to binlog GTID 0-100-7", "reseed this member"},
		{"purged, by MariaDB", 1236, "Could not find first log file name in binary log index file", "reseed this member"},
		{"purged, by MySQL 9.7", 13114, "Cannot replicate because the source purged required binary logs", "reseed this member"},
		{"a twin at the source", 1236, "A slave with the same server_uuid/server_id as this slave has connected to the master", "give each its own"},
		{"equal ids, by MariaDB", 1593, "Fatal error: The slave I/O thread stops because master and slave have equal MariaDB server ids", "--server-id-base"},
		{"equal UUIDs, by MySQL 9.7", 13117, "Fatal error: The replica I/O thread stops because source and replica have equal MySQL server UUIDs", "auto.cnf"},
		{"something else that is fatal", 1593, "Fatal error: Failed to run 'after_read_event' hook", ""},
		{"a table is missing", 1146, "Table 'd.t' doesn't exist", "binlog_format = ROW"},
		{"something else", 1054, "Unknown column 'a' in 'field list'", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := advice(tt.errno, tt.text); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestSourceAway(t *testing.T) {
	for errno, want := range map[int]bool{2003: true, 2013: true, errTooManyConnections: true, errAccessDenied: true, 1236: false, 1593: false} {
		if sourceAway(errno) != want {
			t.Errorf("%d: %v", errno, !want)
		}
	}
}
