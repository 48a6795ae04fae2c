package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/testserver"
	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

const (
	uuid0 = "00000000-0000-0000-0000-000000000000"
	uuid1 = "11111111-1111-1111-1111-111111111111"
	uuid2 = "22222222-2222-2222-2222-222222222222"
	old   = "99999999-9999-9999-9999-999999999999" // of a first ordinal that is no more
)

// peer is a member that answers: an address for its number, and what it has.
func peer(n uint32, has string) Peer {
	name := fmt.Sprintf("db-%d", n)
	return Peer{
		Name: name, Host: name, Answers: true, ServerID: 100 + n, UUID: map[uint32]string{1: uuid1, 2: uuid2}[n], Received: has, Executed: has,
	}
}

func TestCompareWithMembers(t *testing.T) {
	type want struct{ ahead, lacks, conflict, awaited, errant string }
	silence := func(p Peer, answers bool) Peer { p.Silence, p.Answers = "x", answers; return p }
	aged := func(p Peer, age time.Duration) Peer { p.Age = age; return p }
	executed := func(p Peer, has string) Peer { p.Executed = has; return p }
	parted := func(p Peer, has string) Peer { p.Parted = has; return p }
	remembered := func(p Peer) Peer { p.Remembered = true; return p }
	troubled := func(p Peer) Peer { p.Trouble = "x"; return p }
	const my, ma = flavor.MySQL, flavor.MariaDB
	tests := []struct {
		name   string
		f      flavor.Flavor
		has    string
		peers  []Peer
		waited time.Duration
		want   want
	}{
		{"alone", my, uuid0 + ":1-5", nil, 0, want{}},
		{"level", my, uuid0 + ":1-5", []Peer{peer(1, uuid0+":1-5"), peer(2, uuid0+":1-4")}, 0, want{}},
		{"behind", my, uuid0 + ":1-5", []Peer{peer(1, uuid0+":1-6"), peer(2, uuid0+":1-8")}, 0, want{ahead: "db-2", lacks: uuid0 + ":6-8"}},
		{"behind by what an earlier first ordinal made", my, old + ":1-5", []Peer{peer(1, old+":1-6")}, 0, want{ahead: "db-1", lacks: old + ":6"}},
		{
			"the errant one is not followed", my, uuid0 + ":1-5",
			[]Peer{peer(1, uuid0+":1-6,"+uuid1+":1"), peer(2, uuid0+":1-6")},
			0,
			want{ahead: "db-2", lacks: uuid0 + ":6", errant: "db-1 has " + uuid1 + ":1"},
		},
		{"only errant transactions", my, uuid0 + ":1-5", []Peer{peer(1, uuid0+":1-5,"+uuid1+":1")}, 0, want{errant: "db-1 has " + uuid1 + ":1"}},
		{
			"only the errant one has more", my, uuid0 + ":1-5",
			[]Peer{peer(1, uuid0+":1-6,"+uuid1+":1"), peer(2, uuid0+":1-5")},
			0,
			want{conflict: "errant transactions of its own server", errant: "db-1 has " + uuid1 + ":1"},
		},
		{"members have parted", my, uuid0 + ":1-5", []Peer{peer(1, uuid0+":1-6"), peer(2, uuid0+":1-5:7")}, 0, want{conflict: "the histories of members have diverged"}},
		{"we have parted", my, uuid0 + ":1-5:9", []Peer{peer(1, uuid0+":1-6")}, 0, want{conflict: "lacks what this member has (" + uuid0 + ":9)"}},
		{"of equals the one that is well", my, "", []Peer{troubled(peer(1, uuid0+":1-6")), peer(2, uuid0+":1-6")}, 0, want{ahead: "db-2", lacks: uuid0 + ":1-6"}},
		{"level", ma, "0-100-5", []Peer{peer(1, "0-100-5")}, 0, want{}},
		{"behind", ma, "0-100-5", []Peer{peer(1, "0-100-6"), peer(2, "0-100-8")}, 0, want{ahead: "db-2", lacks: "0-100-6..8"}},
		{
			"errant transactions hide no others", ma, "0-100-5",
			[]Peer{peer(1, "0-100-6,0-101-7"), peer(2, "0-100-6")},
			0,
			want{ahead: "db-2", lacks: "0-100-6", errant: "db-1 has within 0-101-1..7"},
		},
		{"only errant transactions", ma, "0-100-5", []Peer{peer(1, "0-100-5,0-101-6")}, 0, want{errant: "db-1 has"}},
		{"only the errant one has more", ma, "0-100-5", []Peer{peer(1, "0-100-6,0-101-7")}, 0, want{conflict: "errant transactions of its own server", errant: "db-1 has"}},
		{"domains have parted", ma, "0-100-5", []Peer{peer(1, "0-100-6,1-100-1"), peer(2, "0-100-6,2-100-1")}, 0, want{conflict: "the histories of members have diverged"}},
		{"nobody is there", my, "", []Peer{{Name: "db-1", Absent: true, Silence: "x"}, {Name: "db-2", Empty: true}}, 0, want{}},
		{"silent", my, "", []Peer{silence(peer(1, ""), false)}, 4 * time.Second, want{awaited: "db-1: x"}},
		{"silent for long", my, "", []Peer{silence(peer(1, ""), false)}, 6 * time.Second, want{}},
		{"its server starts", my, "", []Peer{silence(peer(1, ""), true)}, 6 * time.Second, want{awaited: "db-1: x"}},
		{"its server does not start", my, "", []Peer{silence(peer(1, ""), true)}, 61 * time.Second, want{}},
		{"who has executed it all, though it is unhealthy", my, "", []Peer{executed(peer(1, uuid0+":1-6"), uuid0+":1-2"), troubled(peer(2, uuid0+":1-6"))}, 0, want{ahead: "db-2", lacks: uuid0 + ":1-6"}},
		{"who has executed it all", ma, "0-100-1", []Peer{executed(peer(1, "0-100-6"), "0-100-2"), peer(2, "0-7-1,0-100-6")}, 0, want{ahead: "db-2", lacks: "0-100-2..6"}},
		{"who has executed more", my, "", []Peer{executed(peer(1, uuid0+":1-6"), uuid0+":1-2"), executed(peer(2, uuid0+":1-6"), uuid0+":1-5")}, 0, want{ahead: "db-2", lacks: uuid0 + ":1-6"}},
		{"who has received more, though executed less", my, "", []Peer{executed(peer(1, uuid0+":1-7"), uuid0+":1-2"), peer(2, uuid0+":1-6")}, 0, want{ahead: "db-1", lacks: uuid0 + ":1-7"}},
		{"one that has parted", my, uuid0 + ":1-5", []Peer{parted(peer(1, uuid0+":1-9"), uuid0+":4-5"), peer(2, uuid0+":1-6")}, 0, want{ahead: "db-2", lacks: uuid0 + ":6", errant: "db-1 has transactions that the primary had lost"}},
		{"only one that has parted", ma, "0-100-5", []Peer{parted(peer(1, "0-100-9"), "0-100-4..5")}, 0, want{errant: "db-1 has transactions that the primary had lost"}},
		{"no name, but it was attached", my, "", []Peer{remembered(Peer{Name: "db-1", Absent: true, Silence: "x"})}, 59 * time.Second, want{awaited: "db-1: x"}},
		{"no name for long, but it was attached", my, "", []Peer{remembered(Peer{Name: "db-1", Absent: true, Silence: "x"})}, 61 * time.Second, want{}},
		{"silent, and it was attached", my, "", []Peer{remembered(silence(peer(1, ""), false))}, 59 * time.Second, want{awaited: "db-1: x"}},
		{"it was attached, and is empty", my, "", []Peer{remembered(Peer{Name: "db-1", Empty: true, Answers: true})}, 0, want{}},
		{"an old look", my, uuid0 + ":1-5", []Peer{aged(peer(1, uuid0+":1-5"), 2*time.Second)}, time.Second, want{awaited: "db-1: it has not looked"}},
		{"a new look", my, uuid0 + ":1-5", []Peer{aged(peer(1, uuid0+":1-5"), time.Second)}, 2 * time.Second, want{}},
	}
	for _, tt := range tests {
		t.Run(string(tt.f)+" "+tt.name, func(t *testing.T) {
			has, err := gtid.Parse(tt.f, tt.has)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Compare(tt.f, has, tt.peers, "")
			if err != nil {
				t.Fatal(err)
			}
			l.Awaited = Awaited(tt.peers, nil, tt.waited, Patience{Silent: 5 * time.Second, Starting: time.Minute})
			ahead := ""
			if l.Ahead != nil {
				ahead = l.Ahead.Name
			}
			like := func(got, want string) bool { return (got == "") == (want == "") && strings.Contains(got, want) }
			errant := strings.Join(l.Errant, ", ")
			if ahead != tt.want.ahead || !strings.HasSuffix(l.Lacks, tt.want.lacks) || !like(l.Conflict, tt.want.conflict) || !like(l.Awaited, tt.want.awaited) || !like(errant, tt.want.errant) {
				t.Errorf("got %+v, ahead %q; want %+v", l, ahead, tt.want)
			}
		})
	}
	patience := Patience{Silent: 5 * time.Second, Starting: time.Minute}
	if unsure := errors.New("the API server is away"); Awaited(nil, unsure, 59*time.Second, patience) != unsure.Error() || Awaited(nil, unsure, 61*time.Second, patience) != "" {
		t.Error("it does not wait to know who the members are")
	}
	if _, err := Compare(my, gtid.History{}, []Peer{peer(1, "nonsense")}, ""); err == nil {
		t.Error("nonsense was read")
	}
}

// What a member said counts for a while after it has stopped to answer.
func TestRemember(t *testing.T) {
	l := leveling{heard: map[string]heard{}}
	l.remember([]Peer{peer(1, uuid0+":1-6")}, time.Minute)
	gone := Peer{Name: "db-1", Silence: "x"}
	if got := l.remember([]Peer{gone}, time.Minute)[0]; got.Received == "" || got.Trouble == "" {
		t.Errorf("it is forgotten: %+v", got)
	}
	if got := l.remember([]Peer{gone}, 0)[0]; got.Received != "" || got.Silence == "" {
		t.Errorf("it is remembered for ever: %+v", got)
	}
}

// The wait for a member that stays away ends, also where looks at the own server fail again and
// again; but it does not pass while that is down, for the others may have been down, too.
func TestLevelWaitEnds(t *testing.T) {
	away := Peer{Name: "db-1", Silence: "connection refused", Remembered: true}
	a := &Agent{log: slog.New(slog.DiscardHandler), cfg: Config{
		Patience: Patience{Silent: 5 * time.Second, Starting: time.Minute},
		Peers:    func(context.Context) ([]Peer, error) { return []Peer{away}, nil },
	}}
	now := time.Now()
	waits := func(change func(*view)) bool {
		t.Helper()
		v := primary(fenced, change)
		v.f.Seen = now
		l, err := a.compareWithPeers(t.Context(), v.s, v.f)
		if err != nil {
			t.Fatal(err)
		}
		return l == nil || l.Awaited != ""
	}
	looks := func(*view) {}
	waited := time.Duration(0)
	for ; waits(looks) && waited < time.Hour; waited += 2 * time.Second {
		now = now.Add(time.Second)
		waits(unreadable)
		now = now.Add(time.Second)
	}
	if waited < time.Minute || waited > 3*time.Minute {
		t.Errorf("it has waited %v", waited)
	}

	a.leveling = leveling{}
	waits(looks)
	for range 3600 {
		now = now.Add(time.Second)
		waits(noAnswer)
	}
	if !waits(looks) {
		t.Error("the hour for which the server was down counts")
	}
	now = now.Add(time.Second)
	waits(func(v *view) { v.f.ReadOnly, v.f.Fenced, v.f.Opened = false, false, true })
	if a.leveling.waited != 0 {
		t.Error("a primary that was open goes on where it was")
	}
}

// A first ordinal on an old copy of its data does not open before it has what its replica has,
// which it made itself for the most part, and the replica goes on.
func TestLevel(t *testing.T) {
	for name := range installations {
		t.Run(name, func(t *testing.T) {
			in := installed(t, name)
			p, r := newPair(t, in)
			p.boot(t)
			p.levels(t, r)
			p.steps(t, MakeAccount, MarkAttached, OpenForWrites, Rest)
			r.boot(t)
			r.follow(t, p)
			r.settle(t, Rest)
			p.run(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
			r.arrives(t, rows, "1")

			p = p.sets(t, "INSERT INTO d.t VALUES (2)", "FLUSH BINARY LOGS", "INSERT INTO d.t VALUES (3)")
			r.arrives(t, rows, "1,2,3")
			p.restore(t)
			p.levels(t, r)
			p.steps(t, Follow, Detach, OpenForWrites, Rest)
			if got := p.ask(t, rows); got != "1,2,3" {
				t.Errorf("it opened with the rows %s", got)
			}
			if f := p.agent.Status().Facts; f.Channel != nil || f.ServerID != 100 || len(f.Mismatches) > 0 {
				t.Errorf("it is not what it was: %+v", f)
			}
			if strings.Contains(r.log.String(), "manual action required") {
				t.Error("the replica asked for help meanwhile")
			}
			if in.Flavor == testserver.MySQL {
				if n := p.ask(t, "SELECT COUNT(*) FROM mysql.slave_master_info"); n != "0" {
					t.Error("it keeps the replication password")
				}
			} else if _, err := os.Stat(filepath.Join(p.data, "master.info")); err == nil {
				t.Error("it keeps the replication password")
			}
			p.run(t, "INSERT INTO d.t VALUES (4)")
			r.settle(t, Rest)
			r.arrives(t, rows, "1,2,3,4")

			// What the replica wrote itself must not come along.
			p = p.sets(t, "INSERT INTO d.t VALUES (5)")
			r.arrives(t, rows, "1,2,3,4,5")
			writable := "SET GLOBAL read_only = OFF"
			r.run(t, writable, "INSERT INTO d.t VALUES (1000)", r.dialect().fence)
			p.restore(t)
			p.levels(t, r)
			p.reports(t, "errant transactions of its own server")
			if got := p.ask(t, rows); got != "1,2,3,4" {
				t.Errorf("it has the rows %s", got)
			}
		})
	}
}

// sets has a primary go on after a copy of its data was taken, which restore puts in place.
func (m *member) sets(t *testing.T, statements ...string) *member {
	t.Helper()
	if err := m.server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	saved := newMember(t, m.in, m.settings.ServerID, filepath.Join(t.TempDir(), "old"))
	if err := os.CopyFS(saved.data, os.DirFS(m.data)); err != nil {
		t.Fatal(err)
	}
	m.boot(t)
	m.settle(t, Rest)
	m.run(t, statements...)
	saved.server, saved.recorded, saved.password, saved.settings, saved.extra = m.server, m.recorded, m.password, m.settings, m.extra
	return saved
}

// restore starts the server on the copy, at the address that it had.
func (m *member) restore(t *testing.T) {
	t.Helper()
	m.server.Kill()
	m.boot(t)
}

// levels makes the first ordinal's agent, which asks one replica, once that has an agent.
func (m *member) levels(t *testing.T, r *member) {
	t.Helper()
	m.follow(t, nil)
	m.agent.cfg.ServerID = m.settings.ServerID
	m.agent.cfg.Patience = Patience{Silent: time.Second, Starting: time.Minute}
	m.agent.cfg.Peers = func(ctx context.Context) ([]Peer, error) {
		p := Peer{Name: "db-1", Silence: "connection refused"}
		if r.agent == nil {
			return []Peer{p}, nil
		}
		if _, err := r.agent.turn(ctx); err != nil {
			t.Log(err)
		}
		f := r.agent.Status().Facts
		return []Peer{{
			Name: "db-1", Host: r.server.Config().Addr, Answers: true, ServerID: f.ServerID, UUID: f.ServerUUID, Received: f.Received(), Read: f.Channel.Read.String(),
			Executed: f.GTID, Age: time.Since(f.Seen),
		}}, nil
	}
}
