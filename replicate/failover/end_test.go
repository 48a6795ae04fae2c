package failover

import (
	"strings"
	"testing"

	"understudy/replicate/flavor"
)

// A case each of the table above End.
func TestEnd(t *testing.T) {
	led, elsewhere := opened(), opened()
	elsewhere.Last.Member, elsewhere.Holder = "db-1", "db-1"
	elsewhere.Acknowledgers = elsewhere.Acknowledgers[1:]
	released, electing, ended := led.Release(), led.Release().Seek("db-1"), led.end()
	seen := Volume{Seen: led.Term, Naming: led.Naming}
	for _, tt := range []struct {
		name         string
		record, kept *Record
		volume       Volume
		ends         bool
		why          string
	}{
		{"nothing, and the volume keeps no record", nil, nil, Volume{}, false, ""},
		{"nothing, and another member led last", nil, &elsewhere, seen, false, ""},
		{"nothing, and its own has ended", nil, ended, seen, false, ""},
		{"nothing", nil, &led, seen, true, ""},
		{"ended", ended, &led, seen, false, ""},
		{"less than the volume has seen", &led, &led, Volume{Seen: led.Term + 1}, false, "deleted or restored"},
		{"another member led last", &elsewhere, &elsewhere, seen, false, "db-1 led term"},
		{"an election has begun", &electing, &led, seen, false, "is electing"},
		{"it leads", &led, &led, seen, true, ""},
		{"it led last", &released, &led, seen, true, ""},
	} {
		next, why := End("db-0", tt.record, tt.volume, tt.kept)
		if (next != nil) != tt.ends || (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
			t.Errorf("%s: %+v, %q", tt.name, next, why)
		}
		if next == nil {
			continue
		}
		if _, err := next.Encode(); err != nil || !next.Ended() || !led.Older(*next) || len(next.Acknowledgers) > 0 {
			t.Errorf("%s: %+v, %v", tt.name, next, err)
		}
	}
}

// The term that the first ordinal begins is above all that the volumes have seen, and its ledger
// begins with what the first ordinal has.
func TestBegin(t *testing.T) {
	before := opened()
	before.NoFailover = "a test"
	ended := before.end()
	for _, tt := range []struct {
		name   string
		from   *Record
		term   uint64
		naming uint64
	}{{"the first one", nil, 1, 1}, {"the next one", ended, before.Term + 1, before.Naming + 2}} {
		r := tt.from.Begin("db-0", Preferred, []string{"db-0"})
		r.Last.Data = uuidA
		r.Ledger = Ledger{Flavor: flavor.MySQL, Terms: []Term{{Term: r.Term, Server: uuidA, Begins: uuidA + ":1-20," + uuidB + ":1-3"}}}
		text, err := r.Encode()
		if err != nil || r.Term != tt.term || r.Naming != tt.naming || !r.Led() || (r.NoFailover == "") != (tt.from == nil) {
			t.Errorf("%s: %s, %v", tt.name, text, err)
		}
		if m, err := r.Ledger.Measure(uuidA + ":1-30," + uuidB + ":1-3"); err != nil || m.Errant != "" {
			t.Errorf("%s: %+v, %v", tt.name, m, err)
		}
	}
}

// A set that had gone back, and whose Lease was deleted then, has gone back still.
func TestRebuildEnded(t *testing.T) {
	ended := opened().end()
	var all []Report
	for i, r := range []Record{*ended, opened(), opened()} {
		all = append(all, report([]string{"db-0", "db-1", "db-2"}[i], "r", "", func(b *Report) { b.Term, b.Seen, b.Record = 9, 9, kept(r) }))
	}
	next, why := Rebuild(all, 9, "db-0")
	if _, err := next.Encode(); why != "" || err != nil || !next.Ended() || next.Term != 9 || !ended.Older(next) {
		t.Errorf("%+v, %q, %v", next, why, err)
	}
}
