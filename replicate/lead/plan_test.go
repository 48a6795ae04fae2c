package lead

import (
	"testing"

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
