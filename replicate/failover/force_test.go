package failover

import (
	"strings"
	"testing"
)

// A forced term needs no reports of others, and only that term.
func TestForce(t *testing.T) {
	r := opened().Force(9, "db-2")
	if _, err := r.Encode(); err != nil || r.Phase != Heir || r.Holder != "db-2" || !opened().Older(r) {
		t.Errorf("%+v, %v", r, err)
	}
	newest := opened()
	newest.Naming += 1000 // of a volume that has seen what this one has not
	if !newest.Older(r) || r.wentBack(Volume{Seen: r.Term, Naming: newest.Naming}) {
		t.Errorf("%+v comes before %+v", r, newest)
	}
	at := func(b *Report) { b.Term, b.Seen = 9, 9 }
	own := report("db-2", "r2", uuidA+":1-11", at)
	if why := Ready(r, []Report{own}, "db-2"); why != "" {
		t.Error(why)
	}
	if why := Ready(r, []Report{own, report("db-1", "r1", uuidA+":1-12", at)}, "db-2"); why != "" {
		t.Errorf("another has more: %s", why)
	}
	undrained := own
	undrained.Executed = uuidA + ":1-10"
	if why := Ready(r, []Report{undrained}, "db-2"); !strings.Contains(why, "has not executed "+uuidA+":11") {
		t.Errorf("it has not applied what it has: %q", why)
	}
	if why := Ready(r, []Report{report("db-1", "r1", uuidA+":1-12", at)}, "db-2"); why == "" {
		t.Error("without its own report")
	}
	next := r.Release().Seek("db-2").Choose("db-2")
	if why := Ready(next, []Report{report("db-2", "r2", uuidA+":1-11", func(b *Report) { b.Term, b.Seen = 10, 10 })}, "db-2"); why == "" {
		t.Error("a later term is forced, too")
	}
	r.Forced = 10
	if _, err := r.Encode(); err == nil {
		t.Error("a term that has not come is forced")
	}
}

func TestLoss(t *testing.T) {
	own := report("db-2", "r2", uuidA+":1-11")
	more := report("db-1", "r1", uuidA+":1-12")
	for _, tt := range []struct {
		name   string
		record Record
		own    Report
		others []Report
		silent []string
		want   []string
	}{
		{"nobody else answers", opened(), own, nil, []string{"db-0", "db-1"}, []string{
			"db-0 does not answer, and led term 4", "db-1 does not answer, and may alone have acknowledged commits", "1 of 2 acknowledgers report",
			"of what db-0 committed in term 4, under " + uuidA + ", db-2 has " + uuidA + ":1-11: all else of it is lost",
		}},
		{"an acknowledger has more", opened(), own, []Report{more}, []string{"db-0"}, []string{"db-1 has " + uuidA + ":12, which db-2 lacks: lost"}},
		{"all acknowledgers are there", opened(), more, []Report{own}, []string{"db-0"}, nil},
		{"it led last", opened(), report("db-0", "", uuidA+":1-9"), nil, []string{"db-1", "db-2"}, nil},
		{"it led last, with another volume", opened(), report("db-0", "", "", otherData), []Report{}, []string{"db-1", "db-2"}, []string{
			"db-1 does not answer", "db-2 does not answer", "0 of 2 acknowledgers report", "of what db-0 committed in term 4, under " + uuidA + ", db-0 has nothing",
		}},
		{"mode off", record(isOpened, off), own, nil, []string{"db-0"}, []string{"db-0 does not answer, and led term 4", "no commit has waited for a replica", "of what db-0 committed"}},
		{"it has errant transactions", opened(), report("db-2", "r2", uuidA+":1-11,"+uuidB+":1"), []Report{report("db-1", "r1", uuidA+":1-11")}, nil, []string{"db-2 has " + uuidB + ":1, which no leader has committed"}},
	} {
		got, err := Loss(tt.record, tt.own, tt.others, tt.silent)
		if err != nil || len(got) != len(tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
			continue
		}
		for i, line := range got {
			if !strings.HasPrefix(line, tt.want[i]) {
				t.Errorf("%s: %q, want %q", tt.name, line, tt.want[i])
			}
		}
	}
	if _, err := Loss(opened(), report("db-2", "r2", "x"), nil, nil); err == nil {
		t.Error("no error for what cannot be read")
	}
}
