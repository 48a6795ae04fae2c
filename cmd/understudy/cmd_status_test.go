package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"

	"github.com/google/go-cmp/cmp"
)

func answered(m wire.Member) answer {
	return answer{Answer: member.Answer{Name: m.Name, Host: m.Name + ".db", Said: m}}
}

func silent(name string, err error) answer {
	return answer{Answer: member.Answer{Name: name, Host: name + ".db", Err: err}}
}

func known(a answer) answer {
	a.Remembered = true
	return a
}

var (
	errRefused = errors.New("ask db-2.db:3307: connection refused")
	errAbsent  = &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}
	// A name server that cannot tell.
	errUnknown = &net.OpError{Op: "dial", Err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}
)

func primaryMember() wire.Member {
	return wire.Member{Name: "db-0", Role: wire.Primary, Phase: "attached", Ready: true, GTID: "0-100-7", Reason: "open for writes"}
}

func replicaMember() wire.Member {
	var none int64
	return wire.Member{
		Name: "db-1", Role: wire.Replica, Phase: "attached", Ready: true, GTID: "0-100-7", LagSeconds: &none, Source: "db-0.db:3306",
		Reason: "replicating",
	}
}

func TestExistingMembers(t *testing.T) {
	here := answered(primaryMember())
	for _, tt := range []struct {
		name string
		all  []answer
		want int
	}{
		{"all answer", []answer{here, here}, 2},
		{"the rest does not exist", []answer{here, here, silent("db-2", errAbsent), silent("db-3", errAbsent)}, 2},
		{"one between is missing", []answer{here, silent("db-1", errAbsent), here, silent("db-3", errAbsent)}, 3},
		{"the last one does not answer", []answer{here, silent("db-1", errRefused), silent("db-2", errAbsent)}, 2},
		{"the name server does not answer", []answer{here, silent("db-1", errUnknown)}, 2},
		{"none exists", []answer{silent("db-0", errAbsent)}, 0},
		{"Kubernetes knows of one", []answer{here, silent("db-1", errAbsent), known(silent("db-2", errAbsent)), silent("db-3", errAbsent)}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := len(existing(tt.all)); got != tt.want {
				t.Errorf("%d members are listed, want %d", got, tt.want)
			}
		})
	}
}

func TestStatusVerdict(t *testing.T) {
	source, replica := answered(primaryMember()), answered(replicaMember())
	unready, second, full := replica, replica, source
	unready.Said.Ready = false
	full.Said.Trouble = "the volume is full"
	second.Said.Role = wire.Primary
	for _, tt := range []struct {
		name string
		all  []answer
		want string // empty: the set is well
	}{
		{"well", []answer{source, replica}, ""},
		{"a primary alone", []answer{source}, ""},
		{"one is not ready", []answer{source, replica, unready}, "2 of 3 members ready"},
		{"a primary that takes no writes", []answer{full, replica}, "members with a problem: 1"},
		{"one is silent", []answer{source, silent("db-1", errRefused)}, "1 of 2 members ready"},
		{"no primary", []answer{replica}, "no member that answers is the primary"},
		{"a silent primary", []answer{silent("db-0", errRefused), replica}, "1 of 2 members ready, no member that answers is the primary"},
		{"two primaries", []answer{source, second}, "more than one primary: db-0, db-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := verdict(tt.all); err != nil {
				got = strings.TrimPrefix(err.Error(), "the set is unhealthy: ")
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestStatusTable(t *testing.T) {
	source := primaryMember()
	source.Giving = []wire.Giving{{Joiner: "db-2", Bytes: 43, Total: 100}, {Joiner: "db-4", Bytes: 5}}
	joiner := wire.Member{
		Name: "db-2", Role: wire.Replica, Phase: member.PhaseCloning, Reason: "it is being cloned", Cloning: &wire.Cloning{Donor: "db-0", Percent: 41},
	}
	paused := replicaMember()
	paused.Name, paused.Paused = "db-4", "paused since noon: why"
	alone := replicaMember()
	alone.Name, alone.LagSeconds, alone.Trouble = "db-5", nil, "nothing has come from its source since noon"
	var b bytes.Buffer
	if err := printTable(&b, []answer{answered(source), answered(replicaMember()), answered(joiner), silent("db-3", errRefused), answered(paused), answered(alone)}); err != nil {
		t.Fatal(err)
	}
	want := `MEMBER  ROLE     PHASE     READY  LAG  SOURCE        CLONES                     GTID
db-0    primary  attached  yes    -    -             to db-2 43 %, to db-4 0 %  0-100-7
db-1    replica  attached  yes    0 s  db-0.db:3306  -                          0-100-7
db-2    replica  cloning   no     -    -             from db-0 41 %             -
db-3    -        -         no     -    -             -                          -
db-4    replica  paused    yes    0 s  db-0.db:3306  -                          0-100-7
db-5    replica  attached  yes    -    db-0.db:3306  -                          0-100-7

db-2 is not ready: it is being cloned
db-3 does not answer: ask db-2.db:3307: connection refused
db-4 is paused since noon: why
db-5 is ready, with a problem: nothing has come from its source since noon
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The leader says most of who leads; what older members do not say is not printed.
func TestStatusOfLead(t *testing.T) {
	with := func(name string, l *wire.Lead) answer {
		m := replicaMember()
		m.Name, m.Lead = name, l
		return answered(m)
	}
	named := []wire.Acknowledger{{Member: "db-1"}, {Member: "db-2", Trouble: "it was restarted"}}
	leads := func(change func(*wire.Lead)) answer {
		l := &wire.Lead{
			Term: 7, Phase: "opened", Leader: "db-0", Holder: "db-0", Part: "leader", Mode: "preferred", LeaseAgeSeconds: 0.42, Acknowledgers: named,
			Failover: &wire.Failover{Possible: true, To: "db-1", Reason: "db-1 has all that the reports have", Text: "failover: possible, to db-1"},
		}
		change(l)
		return with("db-0", l)
	}
	follows := with("db-1", &wire.Lead{Term: 7, Phase: "opened", Leader: "db-0", Holder: "db-0", Part: "follower", Mode: "preferred", LeaseAgeSeconds: 0.7, Acknowledgers: []wire.Acknowledger{{Member: "db-1"}, {Member: "db-2"}}})
	for _, tt := range []struct {
		name    string
		all     []answer
		want    []string
		trouble string
	}{
		{"older members, or --primary=ordinal", []answer{answered(primaryMember()), answered(replicaMember())}, nil, ""},
		{"one older member among them", []answer{follows, leads(func(*wire.Lead) {}), answered(replicaMember())}, []string{
			"leader: db-0, term 7; the Lease was renewed 0.4 s ago",
			"semi-sync: preferred; acknowledgers: db-1, db-2 (away: it was restarted)",
			"failover: possible, to db-1",
		}, ""},
		{"degraded", []answer{follows, leads(func(l *wire.Lead) {
			l.Acknowledgers, l.Degraded, l.Failover = nil, true, &wire.Failover{Reason: "no acknowledger is named", Text: "failover: not possible: no acknowledger is named"}
		})}, []string{
			"leader: db-0, term 7; the Lease was renewed 0.4 s ago",
			"semi-sync: preferred; acknowledgers: nobody; DEGRADED: commits are on the leader's volume only",
			"failover: not possible: no acknowledger is named",
		}, "degraded"},
		{"not possible, and commits wait", []answer{follows, leads(func(l *wire.Lead) {
			l.WaitingCommits, l.Away, l.Failover = 3, "timeout", &wire.Failover{Text: "failover: not possible: db-2 was restarted and is 200 transactions behind"}
		})}, []string{
			"leader: db-0, term 7; the Lease was renewed 0.4 s ago; the API server is away: timeout",
			"semi-sync: preferred; acknowledgers: db-1, db-2 (away: it was restarted); commits that wait: 3",
			"failover: not possible: db-2 was restarted and is 200 transactions behind",
		}, "failover is not possible"},
		{"forbidden by people", []answer{follows, leads(func(l *wire.Lead) {
			l.Forbidden, l.Failover = "a restore", &wire.Failover{Reason: "failover is forbidden: a restore", Text: "failover: not possible: failover is forbidden: a restore"}
		})}, []string{
			"leader: db-0, term 7; the Lease was renewed 0.4 s ago",
			"semi-sync: preferred; acknowledgers: db-1, db-2 (away: it was restarted)",
			"failover: not possible: failover is forbidden: a restore",
		}, ""},
		{"the leader does not answer", []answer{silent("db-0", errRefused), follows}, []string{
			"leader: db-0, term 7; the Lease was renewed 0.7 s ago",
			"semi-sync: preferred; acknowledgers: db-1, db-2",
			"failover: not known: the leader does not answer",
		}, ""},
		{"an election", []answer{silent("db-0", errRefused), with("db-1", &wire.Lead{Term: 8, Phase: "electing", Holder: "db-1", Part: "candidate"})}, []string{
			"leader: none: term 8 is electing, held by db-1; the Lease was renewed 0.0 s ago",
		}, ""},
		{"no term", []answer{with("db-1", &wire.Lead{Part: "follower"})}, []string{"leader: none: the Lease has no term yet"}, ""},
	} {
		l := leadOf(tt.all)
		if d := cmp.Diff(tt.want, leadLines(l)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
		if got := leadTrouble(l, len(tt.all)); got != tt.trouble {
			t.Errorf("%s: the verdict has %q, want %q", tt.name, got, tt.trouble)
		}
	}
}

// The JSON holds each answer as it came, so that programs see no less than the members say.
func TestStatusJSON(t *testing.T) {
	source := primaryMember()
	source.Slots = 1
	var b bytes.Buffer
	if err := printJSON(&b, []answer{answered(source), silent("db-1", errRefused)}); err != nil {
		t.Fatal(err)
	}
	want := `[
  {
    "name": "db-0",
    "host": "db-0.db",
    "role": "primary",
    "phase": "attached",
    "flavor": "",
    "gtid": "0-100-7",
    "ready": true,
    "reason": "open for writes",
    "clone_slots": 1,
    "clone_slots_busy": 0
  },
  {
    "name": "db-1",
    "host": "db-1.db",
    "error": "ask db-2.db:3307: connection refused"
  }
]
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A member that takes the connection and says nothing, as one does whose machine hangs, is
// listed in time.
func TestStatusOfASilentMember(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	v := statusVerb{
		members: setFlags{set: "db", peerHost: "127.0.0.{ordinal}", firstOrdinal: 1, members: 1}, trust: trustFlags{insecure: true},
		kube: kubeFlags{mode: kubeAuto}, logs: logFlags{level: "info", format: "auto"},
		port: l.Addr().(*net.TCPAddr).Port, timeout: 100 * time.Millisecond, output: outputTable,
	}
	if err := v.validate(nil); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	err = v.run(t.Context(), streams{&stdout, &stderr})
	if err == nil || !strings.Contains(err.Error(), "0 of 1 members ready") {
		t.Errorf("the status ends with %v", err)
	}
	if !strings.Contains(stdout.String(), "db-1 does not answer: no answer within 100ms: ask 127.0.0.1:") {
		t.Errorf("it prints\n%s", stdout.String())
	}
}
