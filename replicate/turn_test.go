package replicate

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
)

// What the source was asked changes who is followed, and how, for the rest of the turn.
func TestStandingSource(t *testing.T) {
	with := func(change func(*Source)) Source { s := source; s.Previous = "the0ther"; change(&s); return s }
	rotated := func(v *view) { v.s.Source.Previous = "the0ther" }
	for _, tt := range []struct {
		name string
		v    view
		want Source
	}{
		{"not asked", replica(rotated), with(func(*Source) {})},
		{"the previous password is taken", replica(rotated, func(v *view) { v.f.PreviousTaken = true }), with(func(s *Source) { s.Password = s.Previous })},
		{"a channel from before, no proof", replica(rotated, unproven), with(func(s *Source) { s.CA = "" })},
		{"a channel that verifies, no proof", replica(rotated, distrusted), with(func(*Source) {})},
		{"a channel elsewhere, no proof", replica(rotated, unproven, otherHost), with(func(*Source) {})},
	} {
		if d := cmp.Diff(tt.want, tt.v.s.source(tt.v.f)); d != "" {
			t.Error(tt.name, d)
		}
	}
}

// Which question an action waits for.
func TestInquiries(t *testing.T) {
	rotated := func(v *view) { v.s.Source.Previous = "the0ther" }
	decided := func(v *view) { v.f.Source = &SourceFacts{Errant: "0-101-6", ForReseed: true} }
	held := func(v *view) { v.f.Held = true }
	own := func(v *view) { v.f.Executed = "0-100-5,0-101-6" }
	for _, tt := range []struct {
		name string
		v    view
		want []string
	}{
		{"nothing to do", replica(), nil},
		{"nothing to do, with a transaction of its own", replica(own), []string{"source"}},
		{"paused", replica(paused, sqlStopped), nil},
		{"no answer", replica(noAnswer), nil},
		{"a thread is stopped", replica(ioStopped), []string{"holding", "source"}},
		{"a thread is stopped for a backup", replica(ioStopped, held), []string{"holding"}},
		{"a thread is stopped while the password is rotated", replica(ioStopped, rotated), []string{"password", "holding", "source"}},
		{"the password is refused", replica(accessDenied, rotated, passwordTried), []string{"password"}},
		{"another source", replica(otherHost), []string{"proof", "source"}},
		{"another source by position", replica(byPosition, otherHost), nil},
		{"a fresh copy", replica(fresh), []string{"source"}},
		{"a fresh copy by position", replica(fresh, from(byFile)), nil},
		{"a reseed that is decided", replica(sqlFailed, decided), []string{"source"}},
		{"something to forget", replica(sourceSays("0-101-6", ""), harmless), []string{"exclusive"}},
		{"an adopted directory", primary(fenced, unchecked), []string{"files"}},
		{"a primary", primary(readOnly, rotated), nil},
		{"a primary that follows a member", primary(readOnly, rotated, level(behind)), []string{"password"}},
	} {
		a := &Agent{cfg: Config{Holding: func() bool { return false }, Exclusive: func() (func(), bool) { return nil, false }}}
		var got []string
		for i, q := range a.inquiries() {
			if q.wanted(tt.v, Decide(tt.v.s, tt.v.f)) {
				got = append(got, []string{"files", "password", "proof", "holding", "source", "exclusive"}[i])
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Error(tt.name, d)
		}
	}
}

// What a reseed that is decided already would lose is told, and decides nothing.
func TestSourceOfAReseed(t *testing.T) {
	told := replica(sqlFailed, sourceSays("0-101-6", ""), sourceReadOnly)
	if got := Decide(told.s, told.f).Step; got != Wait {
		t.Errorf("%q before the verdict", got)
	}
	told.f.Source.ForReseed = true
	without := replica(sqlFailed)
	if got, want := Decide(told.s, told.f), Decide(without.s, without.f); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	told.f.Source.Reused = true
	if got := Decide(told.s, told.f); got.Step != Reseed || told.s.parted(told.f) != "0-101-6" {
		t.Errorf("%+v of what the source has lost", got)
	}
}

// A password that was taken a moment ago is not asked for again.
func TestTakenPassword(t *testing.T) {
	v := replica(accessDenied)
	v.s.Source.Previous = "the0ther"
	a := &Agent{memory: sourceMemory{given: "the0ther", taken: taken{of: passwords{source.Password, "the0ther"}, password: "the0ther", asked: time.Now()}}}
	a.askPassword(t.Context(), v.s, &v.f, Action{})
	if !v.f.PreviousTaken || !v.f.PasswordTried {
		t.Errorf("%+v", v.f)
	}
	if got := Decide(v.s, v.f); got.Step != Wait {
		t.Errorf("%+v", got)
	}
}

// A sidecar that is told to stop in the middle of a look does not report what it could not see.
func TestLookCutShort(t *testing.T) {
	a, err := New(Config{
		Server: "127.0.0.1:1", Admin: Login{User: "root", Password: func() (string, error) { return secret, nil }},
		Source: source, ReplicationPassword: func() (string, error) { return secret, nil },
		Record: &record{standing: func() Recorded { return attachedByGTID }}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	before := a.Status()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.turn(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := a.Status(); got.Reason != before.Reason || got.Facts.Trouble != "" {
		t.Errorf("it says %q, %q", got.Reason, got.Facts.Trouble)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// A server that shuts down is one that does not answer, not one that needs help.
func TestIsLeaving(t *testing.T) {
	for err, want := range map[error]bool{
		&mysql.MySQLError{Number: errShutdown}: true, mysql.ErrInvalidConn: true, driver.ErrBadConn: true,
		&mysql.MySQLError{Number: errAccessDenied}: false, &mysql.MySQLError{Number: errTooManyConnections}: false,
		context.DeadlineExceeded: false,
	} {
		if got := isLeaving(fmt.Errorf("read the server's version: %w", err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
