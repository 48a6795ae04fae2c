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

func TestNoPasswordInAStatement(t *testing.T) {
	s := Source{Host: "h", Port: 1, User: "u", Password: "s3cret"}
	var all []statement
	all = append(all, accountStatements(s.User, s.Password)...)
	all = append(all, configureStatements(s, origin.Origin{Mode: origin.GTID, GTID: "0-1-2"})...)
	all = append(all, configureStatements(s, origin.Origin{Mode: origin.Position, File: "b", Position: 4})...)
	all = append(all, repointStatements(s, true)...)
	all = append(all, repointStatements(s, false)...)
	for _, st := range all {
		if strings.Contains(st.text, "s3cret") {
			t.Errorf("in the text of %q", st.text)
		}
		if n := strings.Count(st.text, "?"); n != len(st.args) {
			t.Errorf("%q has %d places for %d values", st.text, n, len(st.args))
		}
	}
	for _, st := range accountStatements(s.User, s.Password) {
		for _, a := range st.args {
			if a == s.Password {
				t.Errorf("%q would write the password to the binary log", st.text)
			}
		}
	}
}

func TestRecipe(t *testing.T) {
	gtid := origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: "0-1-2"}
	position := origin.Origin{Mode: origin.Position, Of: origin.Source, File: "b.000001", Position: 4}
	tests := []struct {
		name   string
		flavor flavor.Flavor
		origin origin.Origin
		want   string
	}{
		{"mariadb gtid", flavor.MariaDB, gtid, "SET GLOBAL gtid_slave_pos='0-1-2';\n" +
			"CHANGE MASTER TO MASTER_HOST='<primary>', MASTER_PORT=3306, MASTER_USER='<user>', MASTER_PASSWORD='<password>', MASTER_USE_GTID=slave_pos;\nSTART SLAVE;"},
		{"mariadb position", flavor.MariaDB, position, "CHANGE MASTER TO MASTER_HOST='<primary>', MASTER_PORT=3306, MASTER_USER='<user>', MASTER_PASSWORD='<password>', " +
			"MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=4;\nSTART SLAVE;"},
		{"mysql gtid", flavor.MySQL, gtid, "SET GLOBAL gtid_purged='0-1-2';\n" +
			"CHANGE REPLICATION SOURCE TO SOURCE_HOST='<primary>', SOURCE_PORT=3306, SOURCE_USER='<user>', SOURCE_PASSWORD='<password>', SOURCE_AUTO_POSITION=1;\nSTART REPLICA;"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, Recipe(tt.flavor, tt.origin)); d != "" {
				t.Error(d)
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
