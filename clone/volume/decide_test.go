package volume

import (
	"strings"
	"testing"
	"time"
)

// The table above Decide, row by row, and then every combination that it names.
func TestDecide(t *testing.T) {
	journal := func(p Phase) *Journal { return &Journal{Phase: p, ID: "x"} }
	cut := []Phase{Transferring, Extracted, Preparing}
	done := []Phase{Published, Attached}
	complete := []Content{Server, Copy}
	rest := []Content{Incomplete, Foreign, Restored}
	all := append([]Content{Server, Copy}, rest...)
	any2 := []bool{false, true}

	seen := map[string]bool{}
	check := func(phase Phase, staging bool, c Content, bootstrap bool, first, others Verdict) {
		t.Helper()
		for _, isFirst := range any2 {
			f := Facts{First: isFirst, Bootstrap: bootstrap, Staging: staging, Live: Live{Content: c, Why: "why"}}
			if phase != "" {
				f.Journal = journal(phase)
			}
			want := others
			if isFirst {
				want = first
			}
			got, reason := Decide(f)
			if got != want || reason == "" {
				t.Errorf("journal %q, staging %v, live %s, first %v, bootstrap %v: %s (%s), want %s", phase, staging, c, isFirst, bootstrap, got, reason, want)
			}
		}
		seen[string(phase)+"/"+string(c)+"/"+map[bool]string{true: "staging"}[staging]] = true
	}
	for _, staging := range any2 {
		for _, b := range any2 {
			for _, c := range complete {
				check("", staging, c, b, Adopt, Adopt)
				for _, p := range done {
					check(p, staging, c, b, Keep, Keep)
				}
			}
			for _, p := range append([]Phase{""}, done...) {
				check(p, staging, Restored, b, Adopt, Adopt)
			}
			check("", staging, Incomplete, b, Refuse, CloneAnew)
			check("", staging, Foreign, b, Refuse, Refuse)
			check(Initialising, staging, Empty, b, Start, Refuse)
			for _, c := range all {
				check(Initialising, staging, c, b, StartAnew, Refuse)
				for _, p := range cut {
					check(p, staging, c, b, Refuse, Refuse)
				}
			}
			for _, p := range append(cut, done...) {
				check(p, staging, Empty, b, Clone, Clone)
			}
			for _, c := range []Content{Incomplete, Foreign} {
				for _, p := range done {
					check(p, staging, c, b, Refuse, Refuse)
				}
			}
		}
		check("", staging, Empty, true, Start, Clone)
		check("", staging, Empty, false, Clone, Clone)
	}
	for _, b := range any2 {
		check(Prepared, true, Empty, b, Publish, Publish)
		check(Prepared, false, Empty, b, Clone, Clone)
		for _, c := range complete {
			check(Prepared, false, c, b, Acknowledge, Acknowledge)
		}
		for _, c := range rest {
			check(Prepared, false, c, b, Refuse, Refuse)
		}
		for _, c := range all {
			check(Prepared, true, c, b, Refuse, Refuse)
		}
	}
	for _, staging := range any2 {
		for _, b := range any2 {
			for _, c := range append([]Content{Empty}, complete...) {
				want := map[bool]Verdict{true: FinishSwap, false: Refuse}[staging]
				check(Swapping, staging, c, b, want, want)
			}
			for _, c := range rest {
				check(Swapping, staging, c, b, Refuse, Refuse)
			}
		}
	}
	if want := 9 * 6 * 2; len(seen) != want { // no journal and eight phases, six contents, staging or not
		t.Errorf("%d combinations were checked, there are %d", len(seen), want)
	}
}

// What was recorded is known again, and what took its place is adopted again.
func TestDecideReplaced(t *testing.T) {
	recorded := time.Unix(1, 0)
	known := func(p Phase, infoMade time.Time) *Journal { return &Journal{Phase: p, InfoMade: infoMade} }
	tests := []struct {
		name    string
		journal *Journal
		content Content
		same    bool
		want    Verdict
	}{
		{"a server's", nil, Server, false, Adopt},
		{"a prepared copy", nil, Copy, false, Adopt},
		{"a restored one", nil, Restored, false, Adopt},
		{"a cut one", nil, Incomplete, false, CloneAnew},
		{"somebody's files", nil, Foreign, false, Refuse},
		{"restored in the place of a member's", known(Attached, recorded), Restored, false, Adopt},
		{"restored in the place of a clone", known(Published, recorded), Restored, false, Adopt},
		{"copied to the place of a member's", known(Attached, recorded), Copy, false, Adopt},
		{"copied to the place of a clone", known(Published, recorded), Copy, false, Adopt},
		{"a clone that has not been run", known(Published, recorded), Copy, true, Keep},
		{"the same, by an older program", known(Published, time.Time{}), Copy, false, Keep},
		{"a clone that has been run, and lost its identity", known(Attached, recorded), Copy, true, Keep},
		{"adopted, and not run", known(Published, recorded), Restored, true, Keep},
		{"a server's that is known", known(Attached, recorded), Server, false, Keep},
		{"restored while a clone was prepared", known(Prepared, time.Time{}), Restored, true, Refuse},
		{"restored while a clone was under way", known(Transferring, time.Time{}), Restored, false, Refuse},
	}
	for _, tt := range tests {
		f := Facts{Journal: tt.journal, SameCopy: tt.same, Live: Live{Content: tt.content}}
		if got, why := Decide(f); got != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.name, got, why, tt.want)
		}
	}
}

// The rows that a request and a swap add.
func TestDecideReseed(t *testing.T) {
	request := &Request{By: "somebody", Reason: "of a reason"}
	for _, phase := range []Phase{"", Initialising, Transferring, Extracted, Preparing, Prepared, Swapping, Published, Attached} {
		for _, c := range []Content{Empty, Server, Copy, Incomplete, Foreign} {
			for bits := range 8 {
				f := Facts{First: bits&1 != 0, Staging: bits&2 != 0, Swapped: bits&4 != 0 && phase == Swapping, SameCopy: true, Live: Live{Content: c}}
				if phase != "" {
					f.Journal = &Journal{Phase: phase}
				}
				without, _ := Decide(f)
				f.Request = request
				got, why := Decide(f)
				complete := c == Server || c == Copy
				want := without
				if complete && !f.First && (phase == Published || phase == Attached) {
					if want = Reseed; !strings.Contains(why, "of a reason") {
						t.Errorf("the reason is %q", why)
					}
				}
				if got != want {
					t.Errorf("%q, %s, %+v: %s (%s), want %s", phase, c, f, got, why, want)
				}
				if f.Swapped && (got == FinishSwap) != complete {
					t.Errorf("a new copy that is %s: %s", c, got)
				}
			}
		}
	}
}

// Nothing may ever be started or published over a directory that is not empty, and
// nothing complete may be moved aside.
func TestDecideNeverHarms(t *testing.T) {
	for _, phase := range []Phase{"", Initialising, Transferring, Extracted, Preparing, Prepared, Swapping, Published, Attached} {
		for _, c := range []Content{Empty, Server, Copy, Restored, Incomplete, Foreign} {
			for bits := range 16 {
				f := Facts{
					First: bits&1 != 0, Bootstrap: bits&2 != 0, Staging: bits&4 != 0, SameCopy: bits&8 != 0,
					Live: Live{Content: c},
				}
				if phase != "" {
					f.Journal = &Journal{Phase: phase}
				}
				v, why := Decide(f)
				switch v {
				case Start, Clone, Publish:
					if c != Empty {
						t.Errorf("%s over %s (%q, %+v): %s", v, c, phase, f, why)
					}
				case CloneAnew, StartAnew:
					if phase != Initialising && c != Incomplete {
						t.Errorf("%s of %s (%q, %+v): %s", v, c, phase, f, why)
					}
				case Reseed, FinishSwap:
					if c == Incomplete || c == Foreign || v == Reseed {
						t.Errorf("%s of %s without a request (%q, %+v): %s", v, c, phase, f, why)
					}
				case Adopt:
					if !f.Live.starts() {
						t.Errorf("%s of %s (%q, %+v): %s", v, c, phase, f, why)
					}
				case Keep, Acknowledge, Refuse:
				}
				if f.First && v == CloneAnew {
					t.Errorf("the first ordinal would move its data aside for a clone (%q, %s)", phase, c)
				}
				if v == Start && f.Journal != nil && phase != Initialising {
					t.Errorf("a set that had data would start empty (%q, %+v)", phase, f)
				}
			}
		}
	}
}
