package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

const (
	uuid0 = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuid1 = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
)

// has is a member that was observed, with what it has executed, and received.
func has(m wire.Member, flavor string, id uint32, gtid, received string) answer {
	m.Flavor, m.ServerID, m.GTID, m.Received = flavor, id, gtid, received
	return answered(m)
}

func clonedFrom(a answer, gtid string) answer {
	a.Said.Clone = &wire.Cloned{
		ID: "1", Donor: "db-0", Engine: "mariadb-backup", Bytes: 4711, Digest: "xxh64:0123456789abcdef",
		Origin: &origin.Origin{Mode: origin.GTID, Of: origin.Donor, GTID: gtid},
	}
	return a
}

// nobody must not be asked again.
func nobody(t *testing.T) func(context.Context, int) answer {
	t.Helper()
	return func(_ context.Context, i int) answer {
		t.Errorf("member %d is asked again", i)
		return answer{}
	}
}

func findings(all []answer) []string {
	var texts []string
	for _, a := range all {
		texts = append(texts, a.check.Findings...)
	}
	return texts
}

func TestVerify(t *testing.T) {
	maria := func(gtid, received string) answer { return has(replicaMember(), "mariadb", 101, gtid, received) }
	source := has(primaryMember(), "mariadb", 100, "0-100-7", "0-100-7")
	mySQLSource := has(primaryMember(), "mysql", 100, uuid0+":1-7", uuid0+":1-7")
	mySQL := func(gtid, received string) answer { return has(replicaMember(), "mysql", 101, gtid, received) }
	told := maria("0-101-8", "0-100-7,0-101-8")
	told.Said.Errant = "0-101-6,0-101-8"
	published := clonedFrom(maria("0-100-2", ""), "0-100-5")
	published.Said.Phase = "published"
	unseen := maria("", "")
	unseen.Said.ServerID, unseen.Said.Reason = 0, "its server does not answer"
	joiner := answered(wire.Member{Name: "db-1", Flavor: "mariadb", Phase: member.PhaseCloning})
	other := has(replicaMember(), "mysql", 101, uuid1+":1", "")
	byFile := clonedFrom(maria("0-100-7", ""), "")
	byFile.Said.Clone.Origin = &origin.Origin{Mode: origin.Position, File: "binlog.000001", Position: 4}
	second := source
	second.Name = "db-1"
	for _, tt := range []struct {
		name   string
		all    []answer
		behind int64 // of the last one; -1: not compared
		want   []string
	}{
		{"level", []answer{source, maria("0-100-7", "0-100-7")}, 0, nil},
		{"of a version that tells no more", []answer{source, maria("0-100-7", "")}, 0, nil},
		{"received, and not executed", []answer{source, maria("0-100-4", "0-100-7")}, 3, nil},
		{"behind", []answer{mySQLSource, mySQL(uuid0+":1-2", uuid0+":1-3")}, 5, nil},
		{"errant", []answer{mySQLSource, mySQL(uuid0+":1-7,"+uuid1+":1-2", "")}, 0, []string{"db-1 has transactions that db-0 lacks: " + uuid1 + ":1-2"}},
		{"errant behind the position", []answer{source, maria("0-100-7", "0-101-6,0-100-7")}, 0, []string{
			"db-1 has transactions that db-0 lacks: within 0-101-1..6",
		}},
		{"errant, looked up by the member", []answer{source, told}, 0, []string{"db-1 has transactions that db-0 lacks: 0-101-6,0-101-8"}},
		{"received what the primary has lost", []answer{mySQLSource, mySQL(uuid0+":1-7", uuid0+":1-9")}, 0, []string{
			"db-1 has transactions that db-0 lacks: " + uuid0 + ":8-9",
		}},
		{"a clone", []answer{source, clonedFrom(maria("0-100-7", ""), "0-100-5")}, 0, nil},
		{"a clone of another history", []answer{source, clonedFrom(maria("0-100-7", ""), "0-100-7,1-100-2")}, 0, []string{
			"db-0 lacks what the clone of db-1 from db-0 began with: 0-100-7,1-100-2",
		}},
		{"a member that has lost what its clone had", []answer{source, clonedFrom(maria("0-100-4", ""), "0-100-5")}, 3, []string{
			"db-1 lacks what the clone of db-1 from db-0 began with: 0-100-5",
		}},
		{"a clone that is not configured yet", []answer{source, published}, 5, nil},
		{"a clone by file and position", []answer{source, byFile}, 0, nil},
		{"a clone with an unreadable origin", []answer{source, clonedFrom(maria("0-100-7", ""), "x")}, 0, []string{
			`the clone of db-1 from db-0 cannot be compared: malformed GTID set: "x" is not DOMAIN-SERVER-SEQUENCE`,
		}},
		{"silent", []answer{source, silent("db-1", errRefused)}, -1, []string{"db-1 cannot be compared: it does not answer"}},
		{"cloning", []answer{source, joiner}, -1, []string{"db-1 cannot be compared: it has no data yet"}},
		{"its server is down", []answer{source, unseen}, -1, []string{"db-1 cannot be compared: its server does not answer"}},
		{"no GTIDs", []answer{mySQLSource, mySQL("", "")}, -1, []string{"db-1 cannot be compared: " + errNoGTID.Error()}},
		{"no GTIDs anywhere", []answer{has(primaryMember(), "mysql", 100, "", ""), mySQL("", "")}, -1, []string{
			"db-0 cannot be compared: " + errNoGTID.Error(), "db-1 cannot be compared: " + errNoGTID.Error(),
		}},
		{"unreadable", []answer{source, maria("0-100-7", "x")}, -1, []string{
			`db-1 cannot be compared: malformed GTID set: "x" is not DOMAIN-SERVER-SEQUENCE`,
		}},
		{"another flavour", []answer{source, other}, -1, []string{"db-1 cannot be compared: it is mysql, and db-0 is mariadb"}},
		// verdict reports these.
		{"no primary", []answer{maria("0-100-7", "")}, -1, nil},
		{"two primaries", []answer{source, second}, -1, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				verifyAll(t.Context(), tt.all, func(context.Context, int) answer { return tt.all[0] })
				if d := cmp.Diff(tt.want, findings(tt.all)); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				behind := int64(-1)
				if n := tt.all[len(tt.all)-1].check.Behind; n != nil {
					behind = int64(*n) //nolint:gosec // small ones
				}
				if behind != tt.behind {
					t.Errorf("behind by %d, want %d", behind, tt.behind)
				}
			})
		})
	}
}

// Under writes a replica's look may be newer than the primary's, which is asked until it has caught
// up. What a member of another role, or one whose server is down, says meanwhile does not count.
func TestVerifyAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := has(primaryMember(), "mariadb", 100, "0-100-7", "0-100-7")
		all := []answer{source, has(replicaMember(), "mariadb", 101, "0-100-9", "0-100-9")}
		down, demoted, later := source, source, source
		down.Said.ServerID = 0
		demoted.Said.Role, demoted.Said.Received = wire.Replica, "0-100-99"
		later.Said.Received = "0-100-12"
		answers := []answer{silent("db-0", errRefused), down, demoted, source, later}
		asked := 0
		begun := time.Now()
		verifyAll(t.Context(), all, func(_ context.Context, i int) answer {
			if i != 0 {
				t.Errorf("member %d is asked again", i)
			}
			asked++
			return answers[asked-1]
		})
		if asked != len(answers) || findings(all) != nil || time.Since(begun) >= verifyPatience {
			t.Errorf("asked %d times in %v, found %q", asked, time.Since(begun), findings(all))
		}
	})
}

func TestVerifyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := has(primaryMember(), "mariadb", 100, "0-100-7", "0-100-7")
		all := []answer{source, has(replicaMember(), "mariadb", 101, "0-100-9", "0-100-9")}
		begun := time.Now()
		verifyAll(t.Context(), all, func(context.Context, int) answer { return source })
		if took := time.Since(begun); took != verifyPatience {
			t.Errorf("it takes %v", took)
		}
		if d := cmp.Diff([]string{"db-1 has transactions that db-0 lacks: within 0-100-8..9"}, findings(all)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun = time.Now()
		verifyAll(ctx, all, nobody(t))
		if took := time.Since(begun); took != 0 {
			t.Errorf("a signal ends it after %v", took)
		}
	})
}

func TestVerifyPrints(t *testing.T) {
	source := has(primaryMember(), "mariadb", 100, "0-100-7", "0-100-7")
	all := []answer{
		source, clonedFrom(has(replicaMember(), "mariadb", 101, "0-100-4", ""), "0-100-3"), silent("db-2", errRefused),
	}
	verifyAll(t.Context(), all, nobody(t))
	var b bytes.Buffer
	if err := printChecks(&b, all); err != nil {
		t.Fatal(err)
	}
	want := `
MEMBER  BEHIND  DONOR  ENGINE          BYTES  DIGEST                  ORIGIN
db-0    -       -      -               -      -                       -
db-1    3       db-0   mariadb-backup  4711   xxh64:0123456789abcdef  0-100-3
db-2    -       -      -               -      -                       -

db-2 cannot be compared: it does not answer
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	err := verdict(all)
	if want := "the set is unhealthy: 2 of 3 members ready, findings of --verify: 1"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	b.Reset()
	if err := printJSON(&b, all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"verify": {
      "behind": 3,
      "findings": []
    }`,
		`"verify": {
      "findings": [
        "db-2 cannot be compared: it does not answer"
      ]
    }`,
		`"donor": "db-0"`, `"digest": "xxh64:0123456789abcdef"`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
}
