package replicate

import (
	"fmt"
	"os"
	"regexp"
	"testing"
)

// The rows of the table above Decide, by its own words, in its order.
func TestDecide(t *testing.T) {
	tests := []struct {
		row  string
		v    view
		want Step
	}{
		{"the server does not answer", replica(noAnswer), Wait},
		{"it refuses the login, or cannot be read", replica(loginRefused), Report},
		{"it is of another flavour", replica(mysqlServer), Report},
		{"it is still marked as initialising¹", primary(readOnly, initialising), MarkComplete},
		{"it is configured as somebody's replica", primary(channel(func(*Channel) {})), Report},
		{"read-only, and a safety option did not take", primary(readOnly, unsafe), Report},
		{"the replication account is missing or wrong", primary(notAttached, noAccount), MakeAccount},
		{"not attached", primary(readOnly, notAttached), MarkAttached},
		{"read-only", primary(readOnly), OpenForWrites},
		{"a safety option did not take", primary(unsafe), Report},
		{"else", primary(), Rest},
		{"not read-only", replica(writable, noChannel), Fence},
		{"no channel, and attached in GTID mode²", replica(noChannel), Repoint},
		{"no channel, and attached in file and position mode", replica(noChannel, from(byFile)), Report},
		{"no channel, and no origin", replica(noChannel, notAttached, from(nil)), Report},
		{"no channel", replica(noChannel, notAttached), Configure},
		{"wrong source or account, GTID mode", replica(otherHost), Repoint},
		{"wrong account only, file and position mode", replica(byPosition, otherUser), Repoint},
		{"wrong source, file and position mode", replica(byPosition, otherPort), Report},
		{"the source refuses the login, password not tried yet", replica(accessDenied), Repoint},
		{"the applier stopped with an error", replica(sqlFailed), Report},
		{"the receiver stopped with an error of its own", replica(purged), Report},
		{"a thread is stopped", replica(ioStopped), Start},
		{"both threads run, not attached", replica(notAttached), MarkAttached},
		{"the receiver is connecting", replica(connecting), Wait},
		{"a safety option did not take", replica(unsafe), Report},
		{"else", replica(), Rest},
	}
	rows := tableRows(t)
	if len(rows) != len(tests) {
		t.Fatalf("the table has %d rows, the test %d", len(rows), len(tests))
	}
	for i, tt := range tests {
		t.Run(tt.row, func(t *testing.T) {
			if rows[i].seen != tt.row || steps[rows[i].step] != tt.want {
				t.Errorf("row %d of the table is %+v", i, rows[i])
			}
			got := Decide(tt.v.s, tt.v.f)
			if got.Step != tt.want || got.Reason == "" {
				t.Errorf("%q (%s), want %q", got.Step, got.Reason, tt.want)
			}
		})
	}
}

// steps are the names that the table above Decide uses.
var steps = map[string]Step{
	"Wait": Wait, "Report": Report, "Rest": Rest, "Fence": Fence, "MarkComplete": MarkComplete, "MakeAccount": MakeAccount,
	"MarkAttached": MarkAttached, "OpenForWrites": OpenForWrites, "Configure": Configure, "Repoint": Repoint, "Start": Start,
}

type tableRow struct{ seen, step string }

// tableRows reads the table's last two columns.
func tableRows(t *testing.T) []tableRow {
	t.Helper()
	text, err := os.ReadFile("decide.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []tableRow
	for _, m := range regexp.MustCompile(`(?m)^//\t(?:any|primary|replica)\s+(.*?)\s{2,}(\w+)$`).FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, tableRow{m[1], m[2]})
	}
	return rows
}

// Cases between the rows.
func TestDecideMore(t *testing.T) {
	tests := []struct {
		name string
		v    view
		want Step
	}{
		{"an image that may have been killed half-way", primary(loginRefused, initialising), Report},
		{"password tried already", replica(accessDenied, passwordTried), Wait},
		{"the source is away", replica(cannotReach), Wait},
		{"the source was away for too long", replica(cannotReach, ioStopped), Start},
		{"the applier is stopped without an error", replica(sqlStopped), Start},
		{"the applier runs again after an error", replica(sqlOldError), Rest},
		{"another account with GTID", replica(otherUser), Repoint},
		{"an adopted replica that runs", replica(notAttached, from(nil), byPosition), MarkAttached},
		{"connecting, never attached", replica(notAttached, cannotReach), Wait},
		{"a fresh copy by position", replica(noChannel, notAttached, from(byFile)), Configure},
		{"a fresh copy whose origin is inside it", replica(noChannel, notAttached, from(unknown)), Report},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Decide(tt.v.s, tt.v.f); got.Step != tt.want {
				t.Errorf("%q (%s), want %q", got.Step, got.Reason, tt.want)
			}
		})
	}
}

// What must hold whatever is seen.
func TestDecideNeverHarms(t *testing.T) {
	both := []bool{false, true}
	for bits := range 1 << 9 {
		on := func(i int) bool { return bits&(1<<i) != 0 }
		v := replica()
		s := v.s
		s.Primary, s.Attached, s.Initialising = on(0), on(1), on(2)
		if on(3) {
			s.Origin = nil
		}
		f := v.f
		f.ReadOnly, f.AccountRight = on(4), on(5)
		if on(6) {
			f.Channel = nil
		}
		if on(7) {
			f.Mismatches = []string{"x"}
		}
		if on(8) {
			f.Trouble = "x"
		}
		for _, answers := range both {
			f.Answers = answers
			a := Decide(s, f)
			bad := func(why string) { t.Errorf("%s: %+v for %+v, %+v", why, a, s, f) }
			switch a.Step {
			case OpenForWrites:
				if !s.Primary || !s.Attached || f.Channel != nil || len(f.Mismatches) > 0 || f.Trouble != "" {
					bad("opened")
				}
			case Configure:
				if s.Primary || s.Attached || s.Origin == nil || f.Channel != nil || !f.ReadOnly {
					bad("configured")
				}
			case Fence, Repoint, Start:
				if s.Primary {
					bad("a primary made a replica")
				}
			case MarkAttached:
				if !s.Primary && (f.Channel == nil || !f.Channel.SQLRunning) {
					bad("attached")
				}
			case Wait, Report, Rest, MarkComplete, MakeAccount:
			}
			if !s.Primary && answers && f.Trouble == "" && !s.Initialising && !f.ReadOnly && a.Step != Fence {
				bad("a writable replica was not fenced first")
			}
		}
	}
}

func TestStepChanges(t *testing.T) {
	for _, s := range []Step{Wait, Report, Rest} {
		if s.changes() {
			t.Errorf("%s changes something", s)
		}
	}
	for _, s := range []Step{Fence, MarkComplete, MakeAccount, MarkAttached, OpenForWrites, Configure, Repoint, Start} {
		if !s.changes() {
			t.Error(fmt.Sprint(s) + " changes nothing")
		}
	}
}
