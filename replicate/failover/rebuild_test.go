package failover

import (
	"strings"
	"testing"
)

func TestOlder(t *testing.T) {
	base := opened()
	in := []struct {
		name string
		r    Record
	}{
		{"an election on a restored copy", func() Record { r := base; r.Term, r.Phase = 90, Electing; return r }()},
		{"later named", base.Name(Acknowledger{"db-1", "r3"})},
		{"electing", base.Name(Acknowledger{"db-1", "r3"}).Seek("db-1")},
		{"heir", base.Name(Acknowledger{"db-1", "r3"}).Seek("db-1").Choose("db-1")},
	}
	for i, a := range in {
		for j, b := range in {
			if got := a.r.Older(b.r); got != (i < j) {
				t.Errorf("%s is older than %s: %v", a.name, b.name, got)
			}
		}
	}
}

func TestRebuild(t *testing.T) {
	older, newer := opened(), opened().Unname("db-2")
	keeps := func(member string, r Record) Report {
		return report(member, "r", "", func(b *Report) { b.Term, b.Seen, b.Record = 9, 9, kept(r) })
	}
	grown := opened().Unname("db-1")
	grown.Naming, grown.Members = 7, append(grown.Members, "db-3")
	all := []Report{keeps("db-0", older), keeps("db-1", newer), keeps("db-2", older)}
	for _, tt := range []struct {
		name    string
		reports []Report
		why     string
	}{
		{"all report", all, ""},
		{"one is missing", all[:2], "it waits for db-2"},
		{"one has a new volume", append([]Report{report("db-2", "r", "", func(b *Report) { b.Term, b.Seen = 9, 9 })}, all[:2]...), "it waits for db-2"},
		{"a later record names another", []Report{all[0], all[1], keeps("db-2", grown)}, "it waits for db-3"},
		{"one has seen a later term", []Report{all[0], all[1], func() Report { r := all[2]; r.Seen = 10; return r }()}, "db-2 has seen term 10"},
		{"one keeps what cannot be read", []Report{all[0], all[1], func() Report { r := all[2]; r.Record = "{"; return r }()}, "what db-2 remembers"},
		{"a report of another term", []Report{all[0], all[1], func() Report { r := all[2]; r.Term = 8; return r }()}, "it waits for db-2"},
	} {
		next, why := Rebuild(tt.reports, 9, "db-0")
		if !strings.HasPrefix(why, tt.why) || (why == "") != (tt.why == "") {
			t.Errorf("%s: %q, want %q", tt.name, why, tt.why)
		}
		if why != "" {
			continue
		}
		if _, err := next.Encode(); err != nil || next.Term != 9 || next.Holder != "db-0" || next.Phase != Electing || len(next.Acknowledgers) != 1 || !newer.Older(next) {
			t.Errorf("%+v, %v", next, err)
		}
	}
}
