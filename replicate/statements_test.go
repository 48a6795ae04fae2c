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

func TestStatements(t *testing.T) {
	const clauses = "MASTER_HOST = ?, MASTER_PORT = ?, MASTER_USER = ?, MASTER_PASSWORD = ?, MASTER_CONNECT_RETRY = ?"
	args := []any{source.Host, source.Port, source.User, secret, connectRetry}
	hash := nativeHash(secret)
	tests := []struct {
		name string
		got  []statement
		want []statement
	}{
		{"account", accountStatements(source.User, secret), []statement{
			{"CREATE USER IF NOT EXISTS ?@'%' IDENTIFIED VIA mysql_native_password USING ?", []any{source.User, hash}},
			{"ALTER USER ?@'%' IDENTIFIED VIA mysql_native_password USING ?", []any{source.User, hash}},
			{"GRANT REPLICATION SLAVE ON *.* TO ?@'%'", []any{source.User}},
		}},
		{"configure by GTID", configureStatements(source, *byGTID), []statement{
			{"SET GLOBAL gtid_slave_pos = ?", []any{"0-100-5"}},
			{"CHANGE MASTER TO " + clauses + ", MASTER_USE_GTID = slave_pos", args},
		}},
		{"configure from the very beginning", configureStatements(source, origin.Origin{Mode: origin.GTID, Of: origin.Donor}), []statement{
			{"SET GLOBAL gtid_slave_pos = ?", []any{""}},
			{"CHANGE MASTER TO " + clauses + ", MASTER_USE_GTID = slave_pos", args},
		}},
		{"configure by file and position", configureStatements(source, *byFile), []statement{{
			"CHANGE MASTER TO " + clauses + ", MASTER_LOG_FILE = ?, MASTER_LOG_POS = ?, MASTER_USE_GTID = no",
			append(args[:5:5], "binlog.000003", uint64(671)),
		}}},
		{"repoint by GTID", repointStatements(source, true), []statement{
			{"STOP SLAVE", nil}, {"CHANGE MASTER TO " + clauses + ", MASTER_USE_GTID = slave_pos", args}, {"START SLAVE", nil},
		}},
		// Naming a host, even the same, would void the position.
		{"repoint by file and position", repointStatements(source, false), []statement{
			{"STOP SLAVE", nil}, {"CHANGE MASTER TO MASTER_USER = ?, MASTER_PASSWORD = ?", []any{source.User, secret}}, {"START SLAVE", nil},
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
	for errno, want := range map[int]bool{1999: false, 2000: true, 2999: true, 3000: false, 4151: false} {
		if got := sourceAway(errno); got != want {
			t.Errorf("%d: %v", errno, got)
		}
	}
}
