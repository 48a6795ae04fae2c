package failover

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"understudy/replicate/flavor"
)

const (
	uuidA = "00000001-0000-0000-0000-000000000001"
	uuidB = "00000002-0000-0000-0000-000000000001"
)

// opened is a set of three in term 4, led by db-0, with db-1 and db-2 as acknowledgers.
func opened() Record {
	return Record{
		Term: 4, Phase: Opened, Holder: "db-0", Mode: Required, Acknowledgments: 1, Members: []string{"db-0", "db-1", "db-2"},
		Acknowledgers: []Acknowledger{{"db-1", "r1"}, {"db-2", "r2"}}, Last: Leader{4, "db-0", "d0"},
		Ledger: Ledger{Flavor: flavor.MySQL, Terms: []Term{{4, uuidA, uuidA + ":1-10"}}},
	}
}

func record(changes ...func(*Record)) Record {
	r := opened().Seek("db-1")
	for _, change := range changes {
		change(&r)
	}
	return r
}

func report(member, receipt, has string, changes ...func(*Report)) Report {
	r := Report{Member: member, Term: 5, Seen: 5, Receipt: receipt, Data: "d" + member[3:], Has: has, Executed: has, Serves: true, Healthy: true, Ordinal: int(member[3] - '0')}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func off(r *Record)        { r.Mode, r.Acknowledgers = Off, nil }
func noneNamed(r *Record)  { r.Acknowledgers = nil }
func barred(r *Report)     { r.Barred = "it is paused" }
func silent(r *Report)     { r.Serves = false }
func lagging(r *Report)    { r.Lag = time.Hour }
func ofTerm4(r *Report)    { r.Term = 4 }
func seenLater(r *Report)  { r.Seen = 9 }
func otherData(r *Report)  { r.Data = "new" }
func forbidden(r *Record)  { r.NoFailover = "maintenance" }
func isOpened(r *Record)   { *r = opened() }
func released(r *Record)   { r.Holder = "" }
func lowerTerm(r *Record)  { r.Term, r.Last.Term = 1, 0 }
func threeShort(r *Record) { r.Holder, r.Quick = "", 3 }

// rows reads the columns of the table above a function.
func rows(t *testing.T, file, above string) (all [][2]string) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(source), "\nfunc "+above+"(")
	text = text[strings.LastIndex(text, "\n}\n")+1:]
	for _, m := range regexp.MustCompile(`(?m)^//\t(\S.*?)[¹²³⁴⁵]*  +(\S+( \S+)?)$`).FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(m[1], "--") && m[1] != "what is seen" {
			all = append(all, [2]string{m[1], m[2]})
		}
	}
	return all
}

type row struct {
	seen, want string
	got        func() string
}

// hold compares the rows of a table with those of a test, one by one.
func hold(t *testing.T, table [][2]string, tests []row, steps map[string]string) {
	t.Helper()
	if len(table) != len(tests) {
		t.Fatalf("the table has %d rows, the test %d: %q", len(table), len(tests), table)
	}
	for i, tt := range tests {
		if table[i][0] != tt.seen || steps[table[i][1]] != tt.want {
			t.Errorf("row %d of the table is %q, of the test %q", i, table[i], tt.seen)
		}
		if got := tt.got(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.seen, got, tt.want)
		}
	}
}

func TestDecideTable(t *testing.T) {
	decide := func(r Record, reports ...Report) func() string {
		return func() string {
			e := Decide(r, reports, time.Minute)
			if e.Reason == "" {
				t.Errorf("no reason for %+v", e)
			}
			return string(e.Step)
		}
	}
	one, two := report("db-1", "r1", uuidA+":1-12"), report("db-2", "r2", uuidA+":1-11")
	hold(t, rows(t, "elect.go", "Decide"), []row{
		{"the record is no election", "refuse", decide(record(isOpened), one, two)},
		{"failover is forbidden in this set", "refuse", decide(record(forbidden), one, two)},
		{"a volume has seen a later term: the Lease went back", "refuse", decide(record(), one, report("db-2", "r2", "", seenLater))},
		{"a report is unreadable", "refuse", decide(record(), one, report("db-2", "r2", "x"))},
		{"not off: no acknowledger, and no report of the last leader", "await", decide(record(noneNamed), one, two)},
		{"not off: too few acknowledgers, no report of the last leader", "await", decide(record(), one, report("db-2", "void", uuidA+":1-11"), report("db-0", "", "", otherData))},
		{"nobody who reports may lead", "await", decide(record(), report("db-1", "r1", uuidA+":1-12", barred), report("db-2", "r2", uuidA+":1-11,"+uuidB+":1"))},
		{"one who may lead has all, mode off, and it lags too much", "refuse", decide(record(off), report("db-1", "", uuidA+":1-12", lagging))},
		{"one who may lead has all that the reports have", "elect", decide(record(), one, two)},
		{"what he lacks is with a member that serves", "fetch", decide(record(), report("db-1", "r1", uuidA+":1-12", barred), two)},
		{"else", "await", decide(record(), report("db-1", "r1", uuidA+":1-12", barred, silent), two)},
	}, map[string]string{"Refuse": "refuse", "Await": "await", "Elect": "elect", "Fetch": "fetch"})

	// What is no report of this election, or of no member, does not count.
	for name, got := range map[string]func() string{
		"a report of an older term": decide(record(), one, report("db-2", "r2", uuidA+":1-11", ofTerm4)),
		"a report of a stranger":    decide(record(), one, report("db-9", "r2", uuidA+":1-11")),
	} {
		if step := got(); step != "await" {
			t.Errorf("%s: %s", name, step)
		}
	}
	if got := decide(record(noneNamed), report("db-0", "", uuidA+":1-20"))(); got != "elect" {
		t.Errorf("the last leader with its own data: %s", got)
	}
}

func TestMaySeekTable(t *testing.T) {
	timings := DefaultTimings
	long := Observed{Unrenewed: timings.Duration, InPhase: timings.Duration}
	seek := func(r *Record, member string, v Volume, o Observed) func() string {
		return func() string {
			step, reason := MaySeek(member, r, v, o, timings)
			if reason == "" {
				t.Error("no reason")
			}
			return string(step)
		}
	}
	of := func(changes ...func(*Record)) *Record {
		r := record(append([]func(*Record){isOpened}, changes...)...)
		return &r
	}
	electing := record()
	hold(t, rows(t, "candidate.go", "MaySeek"), []row{
		{"no record: the set has not been moved to lease mode", "stay", seek(nil, "db-1", Volume{}, long)},
		{"failover is forbidden in this set", "stay", seek(of(forbidden), "db-1", Volume{}, long)},
		{"the member is not registered", "stay", seek(of(), "db-9", Volume{}, long)},
		{"it may not lead", "stay", seek(of(), "db-1", Volume{}, Observed{Unrenewed: time.Hour, Barred: "it is paused"})},
		{"the Lease's term is lower than the volume's", "stay", seek(of(), "db-1", Volume{Seen: 5}, long)},
		{"it has promised to follow, and that time runs", "stay", seek(of(), "db-1", Volume{}, Observed{Unrenewed: time.Hour, Following: 1})},
		{"the last terms were short, and the back-off runs", "stay", seek(of(threeShort), "db-1", Volume{}, Observed{Unrenewed: time.Hour, InPhase: timings.Duration - 1})},
		{"the Lease was released", "seek", seek(of(released), "db-1", Volume{}, Observed{})},
		{"it was not renewed for its duration", "seek", seek(of(), "db-1", Volume{Seen: 4}, long)},
		{"electing, or heir, for longer than allowed", "seek", seek(&electing, "db-2", Volume{}, Observed{InPhase: timings.Electing})},
		{"else", "stay", seek(of(), "db-1", Volume{}, Observed{Unrenewed: timings.Duration - 1})},
	}, map[string]string{"Stay": "stay", "Seek": "seek"})
}

func TestReturnTable(t *testing.T) {
	back := func(r *Record, v Volume, history string, tail bool) func() string {
		return func() string {
			step, reason := Return(r, v, history, tail, tail)
			if reason == "" {
				t.Error("no reason")
			}
			return string(step)
		}
	}
	now, electing, ended := opened(), record(), record(isOpened, released)
	maria := opened()
	maria.Ledger = Ledger{Flavor: flavor.MariaDB, Dropped: 2, Terms: []Term{{3, "1073741827", "0-1073741826-5"}, {4, "1073741828", "0-1073741827-10"}}}
	hold(t, rows(t, "candidate.go", "Return"), []row{
		{"no record, or one with a lower term than the volume's", "hold", back(&now, Volume{Seen: 5}, "", false)},
		{"it reported for this term or a later one, which is not open", "hold", back(&now, Volume{Promised: 5}, "", false)},
		{"the last term is not open: an election or an heir", "hold", back(&electing, Volume{}, "", false)},
		{"the Lease was released", "hold", back(&ended, Volume{}, "", false)},
		{"its last transaction is of a term that the ledger dropped", "reseed", back(&maria, Volume{}, "0-1073741825-3", false)},
		{"the extra is a tail of its own last term, and it can drop", "drop tail", back(&maria, Volume{}, "0-1073741827-12", true)},
		{"it has extra", "reseed", back(&now, Volume{}, uuidB+":1", false)},
		{"else", "follow", back(&now, Volume{Seen: 4, Promised: 4}, uuidA+":1-9", false)},
	}, map[string]string{"Hold": "hold", "Follow": "follow", "DropTail": "drop tail", "Replace": "reseed"})
}

// A tail stays visible behind a later number of the same server, and so does a FLUSH.
func TestMeasureMariaDB(t *testing.T) {
	l := Ledger{Flavor: flavor.MariaDB, Terms: []Term{{1, "1073741825", "0-100-4"}, {2, "1073741826", "0-1073741825-10"}, {3, "1073741827", "0-1073741826-20"}}}
	for _, tt := range []struct {
		has, errant string
		upTo        uint64
	}{
		{"", "", 0},
		{"0-100-4", "", 4},
		{"0-100-4,0-1073741825-10,0-1073741826-20,0-1073741827-25", "", 25},
		{"0-1073741825-15", "0-1073741825-11..15", 10},
		{"0-1073741825-15,0-1073741827-21", "0-1073741825-11..15", 21},
		{"0-1073741827-21,0-102-22", "0-102-1..22", 21},
		{"0-100-5", "0-100-1..5", 0},
		{"0-1073741827-21,1-102-1", "1-102-1", 21},
	} {
		m, err := l.Measure(tt.has)
		if err != nil || m.Errant != tt.errant || m.upTo != tt.upTo || m.Old {
			t.Errorf("%q: %+v, %v; want %q, %d", tt.has, m, err, tt.errant, tt.upTo)
		}
	}
	merged := l.Merge(3)
	if m, err := merged.Measure("0-1073741825-10"); err != nil || !m.Old || merged.Dropped != 2 {
		t.Errorf("%+v of %+v, %v", m, merged, err)
	}
}

func TestRecord(t *testing.T) {
	r := opened()
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(text)
	if again, _ := back.Encode(); err != nil || again != text {
		t.Errorf("%q, %v, want %q", again, err, text)
	}
	for _, wrong := range []string{"", "{}", text + "{}", strings.Replace(text, `"term":4`, `"term":4,"later":1`, 1), strings.Replace(text, "r1", "", 1), strings.Repeat(" ", MaxBytes) + text} {
		if _, err := Decode(wrong); err == nil {
			t.Errorf("no error for %.60q", wrong)
		}
	}
	r = record(lowerTerm)
	if _, err := r.Encode(); err == nil {
		t.Error("a record without a leader is encoded")
	}
}

func TestTimings(t *testing.T) {
	if err := DefaultTimings.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Timings){
		"no renewal":       func(t *Timings) { t.Renew = 0 },
		"long requests":    func(t *Timings) { t.Request = 2 * time.Second },
		"short duration":   func(t *Timings) { t.Duration = 5600 * time.Millisecond },
		"short election":   func(t *Timings) { t.Electing = 3 * time.Second },
		"short promotion":  func(t *Timings) { t.Promotion = time.Second },
		"patient election": func(t *Timings) { t.Unhealthy = time.Minute },
	} {
		timings := DefaultTimings
		change(&timings)
		if timings.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if got := Stretch(99 * time.Second); got != 101*time.Second {
		t.Errorf("Stretch: %s", got)
	}
	if got := Promise(101 * time.Second); got != 99*time.Second {
		t.Errorf("Promise: %s", got)
	}
	for short, want := range map[int]time.Duration{0: 0, 2: 0, 3: 6 * time.Second, 5: 24 * time.Second, 1000: 10 * time.Minute} {
		if got := DefaultTimings.BackOff(short); got != want {
			t.Errorf("BackOff(%d): %s, want %s", short, got, want)
		}
	}
}
