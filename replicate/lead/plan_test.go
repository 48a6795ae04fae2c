package lead

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/flavor"
)

// Who is named next: the member that lacks least, and nobody who is far behind.
func TestNearest(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	says := func(last string, change func(*Answer)) heard {
		a := Answer{Receipt: "r", Follows: "db-0", Executed: uuid + ":1-" + last}
		if change != nil {
			change(&a)
		}
		return heard{a, fence.Now()}
	}
	for _, tt := range []struct {
		name    string
		answers map[string]heard
		named   string
		want    string
	}{
		{"both are level", map[string]heard{"db-1": says("20", nil), "db-2": says("20", nil)}, "", "db-1"},
		{"one lacks less", map[string]heard{"db-1": says("18", nil), "db-2": says("19", nil)}, "", "db-2"},
		{"one is far behind", map[string]heard{"db-1": says("9", nil), "db-2": says("15", nil)}, "", "db-2"},
		{"both are far behind", map[string]heard{"db-1": says("9", nil), "db-2": says("3", nil)}, "", ""},
		{"one is named", map[string]heard{"db-1": says("20", nil), "db-2": says("15", nil)}, "db-1", "db-2"},
		{"one follows nobody", map[string]heard{"db-1": says("20", func(a *Answer) { a.Follows = "" }), "db-2": says("15", nil)}, "", "db-2"},
		{"one may not lead", map[string]heard{"db-1": says("20", func(a *Answer) { a.Barred = "it is paused" })}, "", ""},
		{"nobody answers", nil, "", ""},
	} {
		c := New(Config{Name: "db-0", Flavor: flavor.MySQL})
		c.work = &leading{answers: tt.answers}
		c.work.note(uuid + ":1-10")
		c.work.noted -= noteEvery
		c.work.note(uuid + ":1-20")
		r := failover.Record{Members: []string{"db-0", "db-1", "db-2"}, Ledger: failover.Ledger{Flavor: flavor.MySQL}}
		if tt.named != "" {
			r.Acknowledgers = []failover.Acknowledger{{Member: tt.named, Receipt: "r"}}
		}
		if got := c.nearest(r); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Which change of the acknowledgers comes first.
func TestPlan(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	says := func(receipt, last string) heard {
		return heard{Answer{Receipt: receipt, Follows: "db-0", Side: true, Executed: uuid + ":1-" + last}, fence.Now()}
	}
	long := fence.Now() - removeAfter - time.Second
	for _, tt := range []struct {
		name    string
		answers map[string]heard
		named   string
		lost    []string
		none    time.Duration
		mode    failover.Mode
		want    string
	}{
		{name: "one was restarted", named: "db-1 db-2", answers: map[string]heard{"db-1": says("other", "20"), "db-2": says("r", "20")}, want: "renew db-1"},
		{name: "it is far behind", named: "db-1 db-2", answers: map[string]heard{"db-1": says("other", "9"), "db-2": says("r", "20")}, want: ""},
		{name: "for long", named: "db-1 db-2", lost: []string{"db-1"}, answers: map[string]heard{"db-1": says("other", "9"), "db-2": says("r", "20")}, want: "remove db-1"},
		{name: "commits have waited for long", named: "db-1 db-2", none: long, mode: failover.Preferred, answers: map[string]heard{"db-1": says("other", "20")}, want: "degrade"},
		{name: "all are away", named: "db-1 db-2", lost: []string{"db-1", "db-2"}, none: long, answers: map[string]heard{"db-3": says("r", "20")}, want: "add db-3"},
		{name: "one is away", named: "db-1 db-2", lost: []string{"db-2"}, answers: map[string]heard{"db-3": says("r", "20")}, want: ""},
		{name: "there is another one", named: "db-1 db-2 db-3", lost: []string{"db-1", "db-2"}, answers: map[string]heard{"db-3": says("r", "20")}, want: "remove db-1"},
	} {
		mode := cmp.Or(tt.mode, failover.Required)
		c := New(Config{Name: "db-0", Flavor: flavor.MySQL, Mode: mode, Timings: failover.DefaultTimings})
		c.work = &leading{answers: tt.answers, lost: map[string]time.Duration{}, none: tt.none}
		for _, m := range tt.lost {
			c.work.lost[m] = long
		}
		c.work.note(uuid + ":1-10")
		c.work.noted -= noteEvery
		c.work.note(uuid + ":1-20")
		r := testRecord()
		r.Mode, r.Members = mode, []string{"db-0", "db-1", "db-2", "db-3"}
		for m := range strings.FieldsSeq(tt.named) {
			r.Acknowledgers = append(r.Acknowledgers, failover.Acknowledger{Member: m, Receipt: "r"})
		}
		c.plan(r)
		if got := strings.TrimSpace(c.work.change + " " + c.work.who); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Renewing and adding wait for a member, and not for longer than commits may.
func TestDegradeEndsPlan(t *testing.T) {
	c, _, _ := newMember(t, "db-0", nil, func(r *failover.Record) {
		three(r)
		r.Acknowledgers = []failover.Acknowledger{{Member: "db-1", Receipt: "r"}}
	})
	c.Mode, c.Flavor, c.Clones, c.since = failover.Preferred, flavor.MySQL, func() Clones { return Clones{} }, fence.Now()
	c.work = &leading{
		answers: map[string]heard{}, lost: map[string]time.Duration{}, none: fence.Now() - c.Timings.Degrade,
		plan: []failover.LeaderStep{failover.AwaitMember}, change: string(failover.Renew), who: "db-1",
	}
	c.tend(t.Context(), c.line.view(), State{Waiting: true, Writable: true})
	if c.work.change != string(failover.Degrade) {
		t.Errorf("it goes on with %s", c.work.change)
	}
}
