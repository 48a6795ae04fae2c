package replicate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

func TestCoordinate(t *testing.T) {
	for _, text := range []string{"binlog.000001:157", "a.b.1234567:0"} {
		if c, err := ParseCoordinate(text); err != nil || c.String() != text {
			t.Errorf("%s: %v, %v", text, c, err)
		}
	}
	for _, text := range []string{"", "binlog:4", "binlog.x:4", "binlog.000001", "binlog.000001:", "binlog.000001:-1", ":4"} {
		if c, err := ParseCoordinate(text); err == nil {
			t.Errorf("%q was read as %v", text, c)
		}
	}
	if text := (Coordinate{}).String(); text != "" {
		t.Errorf("no place is %q", text)
	}
}

func TestComparePositions(t *testing.T) {
	log := BinaryLog{{"binlog.000003", 900}, {"binlog.000004", 157}}
	reader := func(name, read string) Peer { return Peer{Name: name, Host: name, Answers: true, Read: read} }
	tests := map[string]struct {
		has                    BinaryLog
		peers                  []Peer
		ahead, lacks, conflict string
	}{
		"alone":                    {log, nil, "", "", ""},
		"level":                    {log, []Peer{reader("db-1", "binlog.000004:157"), reader("db-2", "binlog.000003:4")}, "", "", ""},
		"at the end of a file":     {log, []Peer{reader("db-1", "binlog.000003:900")}, "", "", ""},
		"it reads what was purged": {log, []Peer{reader("db-1", "binlog.000002:4000")}, "", "", ""},
		"a file is shorter":        {log, []Peer{reader("db-1", "binlog.000003:901")}, "", "", "db-1 has read it up to binlog.000003:901, and it ends at binlog.000004:157"},
		"the last one is another":  {log, []Peer{reader("db-1", "binlog.000004:900"), reader("db-2", "binlog.000004:4")}, "", "", "db-1 has read it up to binlog.000004:900, and"},
		"a file is missing":        {log, []Peer{reader("db-1", "binlog.000005:4"), reader("db-2", "binlog.000006:4")}, "", "", "db-1 has read it up to binlog.000005:4, db-2"},
		"it does not say":          {log, []Peer{{Name: "db-1", Silence: "x", Read: "binlog.000009:4"}, {Name: "db-2"}}, "", "", ""},
		"it has GTIDs":             {log, []Peer{{Name: "db-1", Received: uuid0 + ":1", Read: "binlog.000009:4"}}, "", "", ""},
		"lost":                     {nil, []Peer{reader("db-1", "binlog.000009:900"), reader("db-2", "binlog.000010:4"), reader("db-3", "binlog.000010:3")}, "db-2", "binlog.000010:4", ""},
		"lost, and nobody has it":  {nil, []Peer{{Name: "db-1"}}, "", "", ""},
	}
	for name, tt := range tests {
		l, err := ComparePositions(tt.has, tt.peers)
		ahead := ""
		if l.Ahead != nil {
			ahead = l.Ahead.Name
		}
		if err != nil || ahead != tt.ahead || l.Lacks != tt.lacks || (l.Conflict == "") != (tt.conflict == "") || !strings.Contains(l.Conflict, tt.conflict) {
			t.Errorf("%s: %+v, ahead %q, %v", name, l, ahead, err)
		}
	}
	if _, err := ComparePositions(log, []Peer{reader("db-1", "nonsense")}); err == nil {
		t.Error("nonsense was read")
	}
}

func TestRenumberStatements(t *testing.T) {
	at := origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000007", Position: 4}
	for v, want := range map[flavor.Version]string{
		{Flavor: flavor.MariaDB, Major: 10, Minor: 6}:         "RESET MASTER TO 1007;SET GLOBAL gtid_binlog_state = ?",
		{Flavor: flavor.MySQL, Major: 5, Minor: 7}:            "",
		{Flavor: flavor.MySQL, Major: 8, Minor: 0, Patch: 36}: "RESET MASTER TO 1007",
		{Flavor: flavor.MySQL, Major: 8, Minor: 4}:            "RESET BINARY LOGS AND GTIDS TO 1007",
	} {
		var got []string
		for _, s := range renumberStatements(v, at, "0-100-5") {
			got = append(got, s.text)
		}
		if text := strings.Join(got, ";"); text != want {
			t.Errorf("%v: %q", v, text)
		}
	}
	if got := renumberStatements(version, *byGTID, "0-100-5"); got != nil {
		t.Errorf("with GTIDs: %v", got)
	}
}

// pairByPosition is a primary without GTIDs, and a replica that has its rows.
func pairByPosition(t *testing.T) (p, r *member) {
	t.Helper()
	p = mysqlPrimary(t, true)
	r = p.copyOf(t, 101, origin.Origin{Mode: origin.FirstBoot, Of: origin.Donor})
	r.join(t, p, "1")
	return p, r
}

// A first ordinal without GTIDs that comes back on an old copy of its data can neither take over
// what it lacks, nor may it open.
func TestOldCopyByPosition(t *testing.T) {
	p, r := pairByPosition(t)
	p = p.sets(t, "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (2)") // in a file that the copy will make, too
	r.arrives(t, rows, "1,2")
	p.restore(t)
	p.levels(t, r)
	p.reports(t, "db-1 has read it up to ")
	if s := p.agent.Status(); s.Ready || !s.Facts.ReadOnly {
		t.Errorf("it is open: %+v", s)
	}
}

// A first ordinal that lost its data comes back from a replica. Whatever place in its old binary
// log a replica asks for, it gets no other's.
func TestTakeOverByPosition(t *testing.T) {
	p, r := pairByPosition(t)
	r.run(t, "STOP REPLICA SQL_THREAD")
	own := r.copyOf(t, 100, origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000002", Position: 4})
	own.settings.Replica = false
	r.settle(t, Rest)
	own.comesBackAs(t, p, r)
	if file := own.ask(t, "SELECT LOCAL->>'$.binary_log_file' FROM performance_schema.log_status"); !strings.HasSuffix(file, ".001002") {
		t.Errorf("it writes %s", file)
	}
	r.reports(t, "the receiver stopped with error")
	if got := r.ask(t, rows); got != "1" {
		t.Errorf("the replica has the rows %s", got)
	}
}

// comesBackAs takes the place of a primary that has one replica, and writes a row.
func (m *member) comesBackAs(t *testing.T, p, r *member) {
	t.Helper()
	p.server.Kill()
	m.server = p.server // its address
	m.boot(t)
	m.levels(t, r)
	m.steps(t, TakeOver, MarkAttached, OpenForWrites, Rest)
	m.run(t, "INSERT INTO d.t VALUES (2)")
}

// MariaDB has GTIDs all the same: only replicas that follow by position notice.
func TestTakeOverByPositionMariaDB(t *testing.T) {
	p, r := newPair(t, installed(t, "mariadb-10.11"))
	p.boot(t)
	p.follow(t, nil)
	p.settle(t, Rest)
	r.boot(t)
	r.follow(t, p)
	r.settle(t, Rest)
	p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	r.arrives(t, rows, "1")
	if err := r.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	own := newMember(t, r.in, 100, filepath.Join(t.TempDir(), "copy"))
	if err := os.CopyFS(own.data, os.DirFS(r.data)); err != nil {
		t.Fatal(err)
	}
	own.recorded.Origin = &origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000002", Position: 4}
	r.boot(t)
	r.run(t, "CHANGE MASTER TO MASTER_USE_GTID = no")
	r.settle(t, Rest)
	own.comesBackAs(t, p, r)
	r.reports(t, "the receiver stopped with error 1236")
	r.run(t, "STOP SLAVE", "CHANGE MASTER TO MASTER_USE_GTID = slave_pos", "START SLAVE")
	r.settle(t, Rest)
	r.arrives(t, rows, "1,2")
}
