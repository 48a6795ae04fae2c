package replicate

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A step that fails is said to, with its error, wherever the member says what it is at; when that
// lasts, manual action is required.
func TestStepFails(t *testing.T) {
	var told string
	a := &Agent{log: slog.New(slog.DiscardHandler), cfg: Config{Tell: func(_ bool, text string) { told = text }}}
	v := primary(readOnly)
	look := func(seconds int) Status {
		v.f.Seen = noon.Add(time.Duration(seconds) * time.Second)
		action := Decide(v.s, v.f)
		a.publish(v.s, v.f, action, a.effort.futile(action.Step, v.f.Seen))
		return a.Status()
	}
	if s := look(0); s.Action.Step != OpenForWrites || strings.Contains(s.Reason, "failed") {
		t.Fatalf("%+v", s)
	}
	denied := errors.New("error 1227: access denied")
	if !a.effort.fails(OpenForWrites, denied, noon) || a.effort.fails(OpenForWrites, denied, noon.Add(time.Second)) || !a.effort.fails(OpenForWrites, errors.New("x"), noon.Add(2*time.Second)) {
		t.Error("each new error is logged once")
	}
	a.effort.fails(OpenForWrites, denied, noon.Add(3*time.Second))
	if s := look(4); !strings.HasSuffix(s.Reason, "it was tried, and failed: error 1227: access denied") || s.Trouble.Text != "" || told != "" {
		t.Errorf("%+v, told %q", s, told)
	}
	if s := look(30); !s.Trouble.Help || !strings.Contains(told, "open for writes: ") || !strings.Contains(told, "1227") {
		t.Errorf("%+v, told %q", s, told)
	}
	if s := look(3600); strings.Contains(s.Reason, "failed") {
		t.Errorf("an hour later, when it is due again: %+v", s)
	}
	a.effort.succeeds(OpenForWrites, noon.Add(31*time.Second))
	if s := look(32); strings.Contains(s.Reason, "failed") || s.Trouble.Text != "" {
		t.Errorf("%+v", s)
	}
}

// What has to be done again and again is undone by something, and is not done without a pause.
func TestStepIsUseless(t *testing.T) {
	var e effort
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	for n := range 10 {
		if e.useless(Repoint, at(n)) {
			t.Fatalf("after %d times", n)
		}
		e.succeeds(Repoint, at(n))
		e.succeeds(Start, at(n))
	}
	if got := e.futile(Repoint, at(10)); !strings.HasPrefix(got.Why, "it was done 10 times and more since 2026-03-01T12:00:00Z") || got.Since != noon {
		t.Errorf("%+v", got)
	}
	if e.futile(Fence, at(10)).Why != "" || e.useless(Repoint, at(3600)) {
		t.Error("another step, or a later one")
	}
	e.rests()
	if e.useless(Repoint, at(11)) || e.futile(Start, at(11)).Why != "" {
		t.Error("it has rested since")
	}
	for n := range 100 { // now and then
		e.succeeds(Start, at(n*120))
	}
	if e.useless(Start, at(100*120)) {
		t.Error("every two minutes")
	}
}
