package replicate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"understudy/replicate/origin"
)

// The hashes are what SELECT PASSWORD(...) gives.
func TestNativeHashes(t *testing.T) {
	for _, tt := range []struct{ clear, want string }{
		{"secret", "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"},
		{"root", "*81F5E21E35407D884A6CD4A731AEBFB6AF209E1B"},
	} {
		if got := nativeHash(tt.clear); got != tt.want {
			t.Errorf("%q: %s, want %s", tt.clear, got, tt.want)
		}
	}
}

var replicationAccount = account{source.User, anyHost, passwords{current: secret}, replicationPrivileges}

func TestStatements(t *testing.T) {
	const (
		mariadb = "CHANGE MASTER TO MASTER_HOST = ?, MASTER_PORT = ?, MASTER_USER = ?, MASTER_PASSWORD = ?, MASTER_CONNECT_RETRY = ?, MASTER_HEARTBEAT_PERIOD = 2, MASTER_SSL = 1, MASTER_SSL_CA = ?, MASTER_SSL_VERIFY_SERVER_CERT = 1, "
		mysql8  = "CHANGE REPLICATION SOURCE TO SOURCE_HOST = ?, SOURCE_PORT = ?, SOURCE_USER = ?, SOURCE_PASSWORD = ?, SOURCE_CONNECT_RETRY = ?, SOURCE_HEARTBEAT_PERIOD = 2, SOURCE_RETRY_COUNT = 86400, SOURCE_SSL = 1, SOURCE_SSL_CA = ?, SOURCE_SSL_VERIFY_SERVER_CERT = 1, "
	)
	args := []any{source.Host, source.Port, source.User, secret, connectRetry, source.CA}
	byFileArgs := append(args[:6:6], "binlog.000003", uint64(671))
	hash := nativeHash(secret)
	of := func(version string) dialect { return dialectOf(versions[version]) }
	tests := []struct {
		name string
		got  []statement
		want []statement
	}{
		{"account", of("mariadb").admitted(of("mariadb").accountStatements(replicationAccount), true), []statement{
			{"CREATE USER IF NOT EXISTS ?@? IDENTIFIED VIA mysql_native_password USING ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? IDENTIFIED VIA mysql_native_password USING ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? PASSWORD EXPIRE NEVER ACCOUNT UNLOCK", []any{source.User, anyHost}},
			{"GRANT REPLICATION SLAVE ON *.* TO ?@?", []any{source.User, anyHost}},
		}},
		{"account on an open MySQL 5.7", of("mysql 5.7").admitted(of("mysql 5.7").accountStatements(replicationAccount), false), []statement{
			{"CREATE USER IF NOT EXISTS ?@? IDENTIFIED WITH mysql_native_password AS ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? IDENTIFIED WITH mysql_native_password AS ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? PASSWORD EXPIRE NEVER ACCOUNT UNLOCK", []any{source.User, anyHost}},
			{"GRANT REPLICATION SLAVE ON *.* TO ?@?", []any{source.User, anyHost}},
		}},
		{"account on MySQL 5.7", of("mysql 5.7").admitted(of("mysql 5.7").accountStatements(replicationAccount), true), []statement{
			{"SET GLOBAL super_read_only = OFF", nil},
			{"CREATE USER IF NOT EXISTS ?@? IDENTIFIED WITH mysql_native_password AS ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? IDENTIFIED WITH mysql_native_password AS ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? PASSWORD EXPIRE NEVER ACCOUNT UNLOCK", []any{source.User, anyHost}},
			{"GRANT REPLICATION SLAVE ON *.* TO ?@?", []any{source.User, anyHost}},
			{"SET GLOBAL super_read_only = ON", nil},
		}},
		{"account with two passwords on MySQL 5.7", of("mysql 5.7").accountStatements(account{source.User, anyHost, passwords{secret, "old"}, replicationPrivileges}), []statement{
			{"CREATE USER IF NOT EXISTS ?@? IDENTIFIED WITH mysql_native_password AS ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? IDENTIFIED WITH mysql_native_password AS ?", []any{source.User, anyHost, hash}},
			{"ALTER USER IF EXISTS ?@? PASSWORD EXPIRE NEVER ACCOUNT UNLOCK", []any{source.User, anyHost}},
			{"GRANT REPLICATION SLAVE ON *.* TO ?@?", []any{source.User, anyHost}},
		}},
		{"configure by GTID", of("mariadb").configureStatements(source, *byGTID), []statement{
			{"STOP SLAVE", nil},
			{"RESET SLAVE ALL", nil},
			{"SET GLOBAL gtid_slave_pos = ?", []any{"0-100-5"}},
			{mariadb + "MASTER_USE_GTID = slave_pos", args},
		}},
		{"configure from the very beginning", of("mariadb").configureStatements(source, origin.Origin{Mode: origin.GTID, Of: origin.Donor}), []statement{
			{"STOP SLAVE", nil},
			{"RESET SLAVE ALL", nil},
			{"SET GLOBAL gtid_slave_pos = ?", []any{""}},
			{mariadb + "MASTER_USE_GTID = slave_pos", args},
		}},
		{"configure by file and position", of("mariadb").configureStatements(source, *byFile), []statement{
			{"STOP SLAVE", nil},
			{"RESET SLAVE ALL", nil},
			{mariadb + "MASTER_LOG_FILE = ?, MASTER_LOG_POS = ?, MASTER_USE_GTID = no", byFileArgs},
		}},
		{"configure by GTID on MySQL 9.7", of("mysql 9.7").configureStatements(source, *byGTID), []statement{
			{"STOP REPLICA", nil},
			{"RESET REPLICA ALL", nil},
			{"SET GLOBAL gtid_purged = CONCAT('+', GTID_SUBTRACT(?, @@GLOBAL.gtid_executed))", []any{"0-100-5"}},
			{mysql8 + "SOURCE_AUTO_POSITION = 1", args},
		}},
		{"configure by GTID on MySQL 5.7", of("mysql 5.7").configureStatements(source, *byGTID), []statement{
			{"STOP SLAVE", nil},
			{"RESET SLAVE ALL", nil},
			{"RESET MASTER", nil},
			{"SET GLOBAL gtid_purged = ?", []any{"0-100-5"}},
			{mariadb + "MASTER_AUTO_POSITION = 1", args},
		}},
		{"configure by file and position on MySQL 9.7", of("mysql 9.7").configureStatements(source, *byFile), []statement{
			{"STOP REPLICA", nil},
			{"RESET REPLICA ALL", nil},
			{mysql8 + "SOURCE_LOG_FILE = ?, SOURCE_LOG_POS = ?, SOURCE_AUTO_POSITION = 0", byFileArgs},
		}},
		{"repoint by GTID", of("mariadb").repointStatements(source), []statement{
			{"STOP SLAVE", nil}, {mariadb + "MASTER_USE_GTID = slave_pos", args}, {"START SLAVE", nil},
		}},
		{"repoint by GTID on MySQL 9.7", of("mysql 9.7").repointStatements(source), []statement{
			{"STOP REPLICA", nil}, {mysql8 + "SOURCE_AUTO_POSITION = 1", args}, {"START REPLICA", nil},
		}},
		{"other credentials on MariaDB", of("mariadb").loginStatements(source), []statement{
			{"STOP SLAVE", nil}, {"CHANGE MASTER TO MASTER_SSL = 1, MASTER_SSL_CA = ?, MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_HEARTBEAT_PERIOD = 2, MASTER_USER = ?, MASTER_PASSWORD = ?", []any{source.CA, source.User, secret}}, {"START SLAVE", nil},
		}},
		{"other credentials on MySQL 5.7", of("mysql 5.7").loginStatements(source), []statement{
			{"STOP SLAVE IO_THREAD", nil}, {"CHANGE MASTER TO MASTER_SSL = 1, MASTER_SSL_CA = ?, MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_HEARTBEAT_PERIOD = 2, MASTER_USER = ?, MASTER_PASSWORD = ?", []any{source.CA, source.User, secret}}, {"START SLAVE", nil},
		}},
		{"other credentials on MySQL 9.7", of("mysql 9.7").loginStatements(source), []statement{
			{"STOP REPLICA IO_THREAD", nil},
			{"CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_SSL_CA = ?, SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_HEARTBEAT_PERIOD = 2, SOURCE_USER = ?, SOURCE_PASSWORD = ?", []any{source.CA, source.User, secret}},
			{"START REPLICA", nil},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, tt.got, cmp.AllowUnexported(statement{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// Behind the client library's numbers come the servers' again: 4151 is a locked account.
func TestSourceAwayRange(t *testing.T) {
	for errno, want := range map[int]bool{1999: false, 2000: true, 2999: true, 3000: false, 4150: false, 4151: true} {
		if got := sourceAway(errno); got != want {
			t.Errorf("%d: %v", errno, got)
		}
	}
}
