package lead

import (
	"testing"
	"time"

	"understudy/replicate/failover"
)

// A set that flaps tells a few Events of each kind, and begins again when it was quiet.
func TestBudget(t *testing.T) {
	var b budget
	told := 0
	for i := range 100 {
		more, last := b.take(ReasonResigned, time.Duration(i)*time.Second)
		if more {
			told++
		}
		if last != (i >= eventBurst-1) {
			t.Errorf("call %d: last is %v", i, last)
		}
	}
	if told != eventBurst {
		t.Errorf("%d are told, want %d", told, eventBurst)
	}
	if more, _ := b.take(ReasonLeads, time.Minute); !more {
		t.Error("another reason is not told")
	}
	if more, _ := b.take(ReasonResigned, eventSpan+5*time.Second); !more {
		t.Error("it is not told again after a quiet time")
	}
}

func TestChanges(t *testing.T) {
	with := func(mode failover.Mode, members ...string) failover.Record {
		r := failover.Record{Term: 4, Phase: failover.Opened, Holder: "db-0", Mode: mode, Acknowledgments: 1, Members: []string{"db-0", "db-1", "db-2"}}
		for _, m := range members {
			r = r.Name(failover.Acknowledger{Member: m, Receipt: "r"})
		}
		return r
	}
	renewed := with(failover.Preferred, "db-1").Name(failover.Acknowledger{Member: "db-1", Receipt: "later"})
	for _, tt := range []struct {
		name          string
		before, after failover.Record
		want          []news
	}{
		{"nothing", with(failover.Preferred, "db-1"), with(failover.Preferred, "db-1"), nil},
		{"a renewed entry", with(failover.Preferred, "db-1"), renewed, nil},
		{
			"the first one", with(failover.Preferred), with(failover.Preferred, "db-1"),
			[]news{{reason: ReasonAcknowledgerNamed}, {reason: ReasonNotDegraded}},
		},
		{"one less", with(failover.Preferred, "db-1", "db-2"), with(failover.Preferred, "db-1"), []news{{reason: ReasonAcknowledgerRemoved}}},
		{
			"degraded", with(failover.Preferred, "db-1"), with(failover.Preferred),
			[]news{{failed: true, reason: ReasonAcknowledgerRemoved}, {failed: true, reason: ReasonDegraded}},
		},
		{"no more off, and none yet", with(failover.Off), with(failover.Preferred), []news{{failed: true, reason: ReasonDegraded}}},
	} {
		got := changes(tt.before, tt.after)
		same := len(got) == len(tt.want)
		for i := range got {
			same = same && got[i].failed == tt.want[i].failed && got[i].reason == tt.want[i].reason && got[i].text != ""
		}
		if !same {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
