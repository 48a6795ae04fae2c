package failover

import (
	"fmt"
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
func lagUnknown(r *Report) { r.Lag = -1 }
func ofTerm4(r *Report)    { r.Term = 4 }
func seenLater(r *Report)  { r.Seen = 9 }
func seenNaming(r *Report) { r.Record = kept(opened().Name(Acknowledger{"db-1", "r3"})) }
func ofDataB(r *Report)    { r.Data = uuidB }
func otherData(r *Report)  { r.Data = "new" }
func forbidden(r *Record)  { r.NoFailover = "maintenance" }
func kept(r Record) string { text, _ := r.Encode(); return text }
func isOpened(r *Record)   { *r = opened() }
func released(r *Record)   { r.Holder = "" }
func lowerTerm(r *Record)  { r.Term, r.Last.Term = 1, 0 }
func electing1(r *Record)  { r.Term, r.Phase = 5, Electing }
func thrice(r *Record)     { r.Term, r.Phase = 7, Electing }
func threeShort(r *Record) { r.Holder, r.Quick = "", 3 }
func quick(r *Record)      { r.Quick = 3 }

// rows reads the columns of the table above a function.
func rows(t *testing.T, file, above string) (all [][2]string) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(source), "\nfunc "+above+"(")
	text = text[strings.LastIndex(text, "\n}\n")+1:]
	for _, m := range regexp.MustCompile(`(?m)^//\t(\S.*?)[¹²³⁴⁵⁶⁷]*  +(\S+( \S+)?)$`).FindAllStringSubmatch(text, -1) {
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
		{"a volume has seen a later record: the Lease went back", "refuse", decide(record(), one, report("db-2", "r2", "", seenLater))},
		{"a report is unreadable", "refuse", decide(record(), one, report("db-2", "r2", "x"))},
		{"failover is forbidden, and no report of the last leader", "refuse", decide(record(forbidden), one, two, report("db-0", "", uuidA+":1-20", otherData))},
		{"not off: no acknowledger, and no report of the last leader", "await", decide(record(noneNamed), one, two)},
		{"not off: too few acknowledgers, no report of the last leader", "await", decide(record(), one, report("db-2", "void", uuidA+":1-11"), report("db-0", "", "", otherData))},
		{"nobody who reports may lead", "await", decide(record(), report("db-1", "r1", uuidA+":1-12", barred), report("db-2", "r2", uuidA+":1-11,"+uuidB+":1", ofDataB))},
		{"one who may lead has all, mode off, and was too far behind", "refuse", decide(record(off), report("db-1", "", uuidA+":1-12", lagging))},
		{"one who may lead has all that the reports have", "elect", decide(record(), one, two)},
		{"what he lacks is with a member that serves", "fetch", decide(record(), report("db-1", "r1", uuidA+":1-12", barred), two)},
		{"else", "await", decide(record(), report("db-1", "r1", uuidA+":1-12", barred, silent), two)},
	}, map[string]string{"Refuse": "refuse", "Await": "await", "Elect": "elect", "Fetch": "fetch"})

	if got := decide(record(), one, report("db-2", "r2", uuidA+":1-11", seenNaming))(); got != "refuse" {
		t.Errorf("a volume has seen a later naming of the same term: %s", got)
	}
	if got := decide(record(), one, report("db-2", "r2", uuidA+":1-11", func(r *Report) { r.Record = "x" }))(); got != "refuse" {
		t.Errorf("a volume has a record that cannot be read: %s", got)
	}
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
	// Where failover is forbidden, the last leader comes back, and nobody else, however much it has.
	led := report("db-0", "", uuidA+":1-12")
	if e := Decide(record(forbidden), []Report{led, one, two}, 0); e.Step != Elect || e.Heir != "db-0" {
		t.Errorf("forbidden, and the last leader reports: %+v", e)
	}
	barred(&led)
	if e := Decide(record(forbidden), []Report{led, one, two}, 0); e.Step != Await {
		t.Errorf("forbidden, and the last leader may not lead: %+v", e)
	}
}

// In mode off, how far an heir may have been behind.
func TestMaxLag(t *testing.T) {
	for _, tt := range []struct {
		name   string
		report Report
		max    time.Duration
		want   ElectionStep
	}{
		{"it was level", report("db-1", "", uuidA+":1-12"), time.Minute, Elect},
		{"it was behind", report("db-1", "", uuidA+":1-12", lagging), time.Minute, Refuse},
		{"it was behind, and may have been", report("db-1", "", uuidA+":1-12", lagging), 0, Elect},
		{"how far is not known", report("db-1", "", uuidA+":1-12", lagUnknown), time.Minute, Refuse},
		{"the last leader itself", report("db-0", "", uuidA+":1-12", lagUnknown), time.Minute, Elect},
		{"the last leader, with other data", report("db-0", "", uuidA+":1-12", lagUnknown, otherData), time.Minute, Refuse},
	} {
		if e := Decide(record(off), []Report{tt.report}, tt.max); e.Step != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, e, tt.want)
		}
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
		{"ended: the set has gone back to its first ordinal", "stay", seek(of(func(r *Record) { *r = *r.end() }), "db-1", Volume{}, long)},
		{"failover is forbidden, and it did not lead last", "stay", seek(of(forbidden), "db-1", Volume{}, long)},
		{"the member is not registered", "stay", seek(of(), "db-9", Volume{}, long)},
		{"it may not lead", "stay", seek(of(), "db-1", Volume{}, Observed{Unrenewed: time.Hour, Barred: "it is paused"})},
		{"the Lease's term or naming is lower than the volume's", "stay", seek(of(), "db-1", Volume{Seen: 5}, long)},
		{"it has promised to follow, and that time runs", "stay", seek(of(), "db-1", Volume{}, Observed{Unrenewed: time.Hour, Following: 1})},
		{"the last terms were short, and the back-off runs", "stay", seek(of(threeShort), "db-1", Volume{}, Observed{Unrenewed: timings.Duration - 1, InPhase: time.Hour})},
		{"elections have failed, and the back-off runs", "stay", seek(of(thrice, released), "db-1", Volume{}, Observed{Unrenewed: time.Hour, InPhase: timings.Electing - 1})},
		{"the Lease was released", "seek", seek(of(released), "db-1", Volume{}, Observed{})},
		{"it was not renewed for its duration", "seek", seek(of(), "db-1", Volume{Seen: 4}, long)},
		{"electing, or heir, for longer than allowed", "seek", seek(&electing, "db-2", Volume{}, Observed{InPhase: timings.Electing})},
		{"else", "stay", seek(of(), "db-1", Volume{}, Observed{Unrenewed: timings.Duration - 1})},
	}, map[string]string{"Stay": "stay", "Seek": "seek"})
	if got := seek(of(forbidden, released), "db-0", Volume{}, Observed{})(); got != "seek" {
		t.Errorf("failover is forbidden, and it led last: %s", got)
	}

	for name, got := range map[string]func() string{
		"the first election has failed":        seek(of(electing1, released), "db-1", Volume{}, Observed{}),
		"short terms, and it is cut off":       seek(of(electing1, quick), "db-1", Volume{}, Observed{InPhase: timings.Electing}),
		"the back-off has ended":               seek(of(thrice, released), "db-1", Volume{}, Observed{InPhase: timings.Electing}),
		"what it waited for is there":          seek(of(thrice, released), "db-1", Volume{}, Observed{Enough: true}),
		"a term was opened after many of them": seek(of(released, func(r *Record) { r.Term, r.Last.Term = 99, 99 }), "db-1", Volume{}, Observed{}),
	} {
		if step := got(); step != "seek" {
			t.Errorf("%s: %s", name, step)
		}
	}
	if got := seek(of(released), "db-1", Volume{Naming: 1}, Observed{})(); got != "stay" {
		t.Errorf("the Lease was restored from a copy of the same term: %s", got)
	}
	if got := seek(of(thrice, released), "db-1", Volume{}, Observed{InPhase: timings.Electing, Ordinal: 1})(); got != "stay" {
		t.Errorf("the next ordinal elects at the same time: %s", got)
	}
}

// What the members say of themselves ends a back-off as soon as an election would come to something.
func TestForetell(t *testing.T) {
	next := func(r Report) Report { r.Term++; return r }
	one, two := next(report("db-1", "r1", uuidA+":1-12")), next(report("db-2", "r2", uuidA+":1-11"))
	undrained := one
	undrained.Executed = uuidA + ":1-10"
	heir := record().Choose("db-1")
	for _, tt := range []struct {
		name    string
		record  Record
		reports []Report
		enough  bool
		says    string
	}{
		{"a reporter is away", record(), []Report{one}, false, "it waits for db-2, db-0: 1 of 2 acknowledgers"},
		{"all are there", record(), []Report{one, two}, true, "db-1 has all"},
		{"an heir has not executed it", heir, []Report{undrained, two}, false, "db-1 has all"},
		{"the election has not ended", record(), []Report{undrained, two}, true, "db-1 has all"},
		{"an heir has executed it", heir, []Report{one, two}, true, "db-1 has all"},
	} {
		e, enough := Foretell(tt.record, "db-1", tt.reports, 0)
		if enough != tt.enough || !strings.HasPrefix(e.String(), tt.says) {
			t.Errorf("%s: %v, %q; want %v, %q", tt.name, enough, e, tt.enough, tt.says)
		}
	}
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
		{"no record, or one with less than the volume's term or naming", "hold", back(&now, Volume{Seen: 5}, "", false)},
		{"it reported for this term or a later one, which is not open", "hold", back(&now, Volume{Promised: 5}, "", false)},
		{"the last term is not open: an election or an heir", "hold", back(&electing, Volume{}, "", false)},
		{"the Lease was released", "hold", back(&ended, Volume{}, "", false)},
		{"its last transaction is of a term that the ledger dropped", "reseed", back(&maria, Volume{}, "0-1073741825-3", false)},
		{"the extra is a tail of its own last term, and it can drop", "drop tail", back(&maria, Volume{}, "0-1073741827-12", true)},
		{"it has extra", "reseed", back(&now, Volume{}, uuidB+":1", false)},
		{"else", "follow", back(&now, Volume{Seen: 4, Promised: 4}, uuidA+":1-9", false)},
	}, map[string]string{"Hold": "hold", "Follow": "follow", "DropTail": "drop tail", "Replace": "reseed"})
	if got := back(&now, Volume{Naming: 1}, uuidA+":1-9", false)(); got != "hold" {
		t.Errorf("a copy of the same term: %s", got)
	}
}

func TestMayFollowTable(t *testing.T) {
	now, later, ended := opened(), record(), record(isOpened, released)
	asked := func(v Volume, s Stance) func() string {
		return func() string {
			step, reason := MayFollow("db-0", 4, v, s)
			if reason == "" {
				t.Error("no reason")
			}
			return string(step)
		}
	}
	seen := Volume{Seen: 4, Promised: 4}
	hold(t, rows(t, "promise.go", "MayFollow"), []row{
		{"it leads, or has a part in an election, itself", "decline", asked(seen, Stance{Part: "candidate", Read: true, Record: &now})},
		{"it may have taken the Lease itself", "decline", asked(seen, Stance{Seeks: true, Read: true, Record: &now})},
		{"its volume has not seen that term, or a later one", "decline", asked(Volume{Seen: 3}, Stance{})},
		{"it has reported for a later term", "decline", asked(Volume{Seen: 4, Promised: 5}, Stance{})},
		{"the Lease that it read does not name that leader", "decline", asked(seen, Stance{Read: true, Record: &ended})},
		{"else", "promise", asked(seen, Stance{})},
	}, map[string]string{"Decline": "decline", "Promise": "promise"})
	for name, tt := range map[string]struct {
		v    Volume
		s    Stance
		want string
	}{
		"a later term on the volume": {Volume{Seen: 5}, Stance{Read: true, Record: &now}, "decline"},
		"an election":                {seen, Stance{Read: true, Record: &later}, "decline"},
		"no record":                  {seen, Stance{Read: true}, "decline"},
		"the Lease names the leader": {seen, Stance{Read: true, Record: &now}, "promise"},
	} {
		if got := asked(tt.v, tt.s)(); got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if step, _ := MayFollow("db-2", 4, seen, Stance{Read: true, Record: &now}); step != Decline {
		t.Error("another than the leader asks, and is followed")
	}
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
	full := l
	for term := uint64(4); term <= MaxTerms+2; term++ {
		full = full.add(Term{term, fmt.Sprint(ServerID(term)), fmt.Sprintf("0-%d-%d", ServerID(term-1), 10*term)})
	}
	if m, err := full.Measure("0-1073741825-10"); err != nil || !m.Old || full.Dropped != 2 || len(full.Terms) != MaxTerms {
		t.Errorf("%+v of %+v, %v", m, full, err)
	}
	// Nobody has written for longer than the ledger goes back.
	idle := l
	for term := uint64(4); term <= MaxTerms+4; term++ {
		idle = idle.add(Term{term, fmt.Sprint(ServerID(term)), "0-1073741827-30"})
	}
	for has, old := range map[string]bool{"0-100-4,0-1073741827-30": false, "0-1073741827-30": false, "0-1073741827-29": true, "0-1073741826-30": true} {
		if m, err := idle.Measure(has); err != nil || m.Old != old || m.Errant != "" {
			t.Errorf("%s: %+v, %v", has, m, err)
		}
	}
}

// What a leader of MySQL has executed under other names becomes the set's history.
func TestAdopt(t *testing.T) {
	r := opened()
	has := uuidA + ":1-9," + "3f2a0000-0000-0000-0000-00000000ffff:3"
	m, err := r.Ledger.Measure(has)
	if err != nil || m.Errant == "" {
		t.Fatalf("%+v, %v", m, err)
	}
	next, adopted := r.Adopt(m.Errant)
	if m, err = next.Ledger.Measure(has); adopted != nil || err != nil || m.Errant != "" || !r.Older(next) {
		t.Errorf("%+v: %+v, %v, %v", next.Ledger, m, adopted, err)
	}
	if m, _ := r.Ledger.Measure(has); m.Errant == "" {
		t.Error("the record that it was made from has changed")
	}
	r.Ledger.Flavor = flavor.MariaDB
	if _, err := r.Adopt("0-1-5"); err == nil {
		t.Error("MariaDB's ledger has taken it")
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
		"short duration":   func(t *Timings) { t.Duration = 4900 * time.Millisecond },
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
	if got := (Timings{Permission: time.Hour, Kill: 99 * time.Second}).Promised(202 * time.Second); got != 99*time.Second {
		t.Errorf("Promised: %s", got) // the kill takes 101 s on the member's clock, and 101 s of it are 99 s here
	}
	if got := DefaultTimings.Promised(DefaultTimings.Duration); got != DefaultTimings.Permission {
		t.Errorf("a promise is worth less than a renewal: %s", got)
	}
	for failed, want := range map[uint64]time.Duration{0: 0, 1: 0, 2: 5 * time.Second, 4: 20 * time.Second, 1000: time.Minute} {
		if got := DefaultTimings.Retry(failed, 0); got != want {
			t.Errorf("Retry(%d): %s, want %s", failed, got, want)
		}
	}
	for short, want := range map[int]time.Duration{0: 0, 2: 0, 3: 5 * time.Second, 5: 20 * time.Second, 1000: 10 * time.Minute} {
		if got := DefaultTimings.BackOff(short); got != want {
			t.Errorf("BackOff(%d): %s, want %s", short, got, want)
		}
	}
}
