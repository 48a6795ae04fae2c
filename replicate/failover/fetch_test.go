package failover

import "testing"

func TestSender(t *testing.T) {
	paused, errant := report("db-1", "r1", uuidA+":1-12", barred), report("db-1", "r1", uuidA+":1-12,"+uuidB+":1", barred, ofDataB)
	one, two := report("db-1", "r1", uuidA+":1-11"), report("db-2", "r2", uuidA+":1-11")
	for _, tt := range []struct {
		name    string
		reports []Report
		want    string
	}{
		{"a paused member has more", []Report{paused, two}, "db-1"},
		{"nobody has more", []Report{one, two}, ""},
		{"who has more has errant transactions, too", []Report{errant, two}, ""},
		{"who has more does not serve", []Report{report("db-1", "r1", uuidA+":1-12", barred, silent), two}, ""},
		{"the heir has not reported", []Report{paused}, ""},
		{"a report of a later term", []Report{report("db-1", "r1", uuidA+":1-12", seenLater), two}, ""},
		{"a report of an older term", []Report{report("db-1", "r1", uuidA+":1-12", ofTerm4), two}, ""},
	} {
		from, ok := Sender(record(), tt.reports, "db-2")
		if from.Member != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: %q, %v", tt.name, from.Member, ok)
		}
	}
}
