package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"understudy/replicate/flavor"
	"understudy/replicate/lead"
	"understudy/replicate/origin"
)

func TestReadiness(t *testing.T) {
	tail := func(v *view) {
		v.s.Role = &lead.Role{Follows: "db-1", Reseed: "it has db-0:7 outside the set's history"}
	}
	tests := []struct {
		name   string
		v      view
		maxLag time.Duration
		want   bool
		reason string
	}{
		{"a primary", primary(), 0, true, "open for writes"},
		{"a primary whose options did not take", primary(unsafe), 0, true, "open for writes"},
		{"a primary whose commits wait", primary(semiSync(SemiSyncRequired, inForce), noReplica), 0, true, "open for writes, but commits wait"},
		{"a primary whose commits do not wait yet", primary(semiSync(SemiSyncRequired, SemiSyncFacts{Known: true})), 0, true, "takes effect when a replica is attached"},
		{"a primary that is read-only", primary(readOnly), 0, false, "the primary is read-only: the first ordinal"},
		{"a primary that must not open", primary(readOnly, unsafe), 0, false, "sync_binlog"},
		{"a primary that is not attached", primary(notAttached), 0, false, "not attached yet"},
		{"no server", primary(noAnswer), 0, false, "connection refused"},
		{"no login", replica(loginRefused), 0, false, "access denied"},
		{"another flavour", replica(mysqlServer), 0, false, "mysql 8.4.0"},
		{"a replica", replica(), 0, true, "the applier runs"},
		{"a replica that is not attached", replica(notAttached), 0, false, "not attached yet"},
		{"a replica without a channel", replica(noChannel), 0, false, "the applier does not run: the replication channel was removed"},
		{"a replica whose applier failed", replica(sqlFailed), 0, false, "error 1062: duplicate entry"},
		{"a replica whose applier was stopped", replica(sqlStopped), 0, false, "the applier does not run"},
		{"the source is away", replica(cannotReach), 0, true, "the applier runs"},
		{"the source is away, and nobody knows the lag", replica(cannotReach, noLag), time.Second, true, "the applier runs"},
		{"the receiver failed", replica(purged), 0, true, "the applier runs"},
		{"a replica to which administrators can write", replica(halfFenced), 0, true, "the applier runs"},
		{"a paused replica", replica(paused), 0, true, "the applier runs; the member is paused since noon"},
		{"a paused replica whose applier was stopped", replica(paused, sqlStopped), 0, false, "the applier does not run: replication does not run; the member is paused since noon"},
		{"a paused member without a server", primary(paused, noAnswer), 0, false, "connection refused; the member is paused since noon"},
		{"a paused replica that is behind", replica(paused, lag(11)), 10 * time.Second, false, "11 s behind"},
		{"there is no leader", replica(cannotReach, func(v *view) { v.s.Role = &lead.Role{Hold: "it waits for db-1"} }), 0, true, "the applier runs; it waits for db-1"},
		{"it has a tail", replica(cannotReach, tail), 0, true, "the applier runs; it has db-0:7 outside the set's history"},
		{"any lag", replica(lag(1 << 40)), 0, true, "the applier runs"},
		{"the lag that is allowed", replica(lag(10)), 10 * time.Second, true, "the applier runs"},
		{"a second more", replica(lag(11)), 10 * time.Second, false, "11 s behind, more than 10s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, reason := readiness(tt.v.s, tt.v.f, Decide(tt.v.s, tt.v.f), tt.maxLag)
			if got != tt.want || !strings.Contains(reason, tt.reason) {
				t.Errorf("%v, %q; want %v, %q", got, reason, tt.want, tt.reason)
			}
		})
	}
}

// What was seen counts until the next look is overdue, which a step that fails delays.
func TestFresh(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, tt := range map[string]struct {
		seen, next time.Time
		want       bool
	}{
		"never looked":                    {want: false},
		"just now":                        {seen: now, want: true},
		"a look that lasts":               {seen: ago(10 * time.Second), want: true},
		"a step that lasts":               {seen: ago(freshFor), want: false},
		"the next look is to come":        {seen: ago(time.Minute), next: now.Add(time.Second), want: true},
		"the next look is under way":      {seen: ago(time.Minute), next: ago(10 * time.Second), want: true},
		"the next look is overdue":        {seen: ago(time.Minute), next: ago(freshFor), want: false},
		"the next look was before a step": {seen: ago(time.Second), next: ago(time.Minute), want: true},
	} {
		s := Status{Facts: Facts{Seen: tt.seen}, Next: tt.next}
		if got := s.Fresh(now); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A look at a server that refuses fails, and the wait for the next one is the interval.
func TestRunSaysWhenItLooksAgain(t *testing.T) {
	password := func() (string, error) { return secret, nil }
	a, err := New(Config{
		Flavor: flavor.MariaDB, Server: "127.0.0.1:1", Admin: Login{User: "root", Password: password}, ReplicationPassword: password,
		Interval: time.Hour, Record: &record{standing: func() Recorded { return Recorded{Paused: "paused since noon"} }}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); a.Status().Next.IsZero() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if in := time.Until(a.Status().Next); in < 50*time.Minute || in > time.Hour {
		t.Errorf("the next look is in %v", in)
	}
	cancel()
	<-done
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// record is a Record made of functions.
type record struct {
	standing                           func() Recorded
	markComplete, configured, attached func() error
	semiSynced                         func() error
	fresh                              func(origin.Origin) error
	parted                             func(string) error
}

func (r *record) Standing() Recorded                 { return r.standing() }
func (r *record) MarkComplete() error                { return r.markComplete() }
func (r *record) MarkConfigured() error              { return r.configured() }
func (r *record) MarkFresh(o origin.Origin) error    { return r.fresh(o) }
func (r *record) MarkSemiSynced() error              { return r.semiSynced() }
func (r *record) MarkParted(what string) error       { return r.parted(what) }
func (r *record) MarkAttached(context.Context) error { return r.attached() }

var attachedByGTID = Recorded{Configured: true, Attached: true, Origin: byGTID}

// The steps that change no server go no further than the record.
func TestActWithoutServer(t *testing.T) {
	boom := errors.New("boom")
	var marked []string
	mark := func(name string) func() error {
		return func() error { marked = append(marked, name); return boom }
	}
	a := &Agent{cfg: Config{Record: &record{markComplete: mark("complete"), attached: mark("attached")}}} // and no database
	for _, tt := range []struct {
		step Step
		want error
	}{{Wait, nil}, {Report, nil}, {Reseed, nil}, {Rest, nil}, {MarkComplete, boom}, {MarkAttached, boom}} {
		v := replica()
		if err := a.act(t.Context(), v.s, v.f, tt.step); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.step, err, tt.want)
		}
	}
	if d := cmp.Diff([]string{"complete", "attached"}, marked); d != "" {
		t.Error(d)
	}
}

func TestStanding(t *testing.T) {
	password, broken := secret, error(nil)
	a := &Agent{cfg: Config{
		Flavor: flavor.MariaDB, Source: Source{Host: source.Host, Port: source.Port, User: source.User, CA: source.CA},
		ReplicationPassword: func() (string, error) { return password, broken },
		Record:              &record{standing: func() Recorded { return attachedByGTID }},
	}}
	want := Standing{Flavor: flavor.MariaDB, Recorded: attachedByGTID, Source: source}
	check := func(what string) {
		t.Helper()
		got, err := a.standing()
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Error(what, d, err)
		}
	}
	check("at first")
	if a.memory.tried(secret) || a.memory.tried("") {
		t.Error("nothing was tried")
	}
	a.memory.given = secret
	if !a.memory.tried(secret) || a.memory.tried("an0ther") {
		t.Error("what was tried is not what was tried")
	}
	password = "an0ther"
	want.Source.Password = password
	check("after it was changed")
	broken = errors.New("no such file")
	if _, err := a.standing(); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
}

// Only what is new is logged.
func TestPublish(t *testing.T) {
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "gtid" {
			return slog.Attr{}
		}
		return a
	}})
	a := &Agent{log: slog.New(h)}
	tests := []struct {
		name string
		v    view
		want string
	}{
		{"nothing there", replica(noAnswer), `level=INFO msg=waiting reason="the server does not answer: connection refused"` + "\n"},
		{"still nothing", replica(noAnswer), ""},
		{"all well", replica(), `level=INFO msg="readiness changed" ready=true reason="the applier runs"` + "\n" + `level=INFO msg="nothing to do" reason="replication runs"` + "\n"},
		{"still well", replica(), ""},
		{
			"broken", replica(sqlFailed),
			`level=INFO msg="readiness changed" ready=false reason="the applier does not run: the applier stopped with error 1062: duplicate entry; its data differs from the source's, and no event is skipped: reseed this member, or make the rows equal by hand"` + "\n" +
				`level=ERROR msg="manual action required" reason="the applier stopped with error 1062: duplicate entry; its data differs from the source's, and no event is skipped: reseed this member, or make the rows equal by hand"` + "\n",
		},
		{"a step, which is logged when it is done", replica(sqlStopped), ""},
		{"paused", replica(paused, sqlStopped), `level=INFO msg="left alone" reason="paused since noon"` + "\n"},
		{"still paused", replica(paused, sqlFailed), ""},
		{"no longer paused", replica(), `level=INFO msg="readiness changed" ready=true reason="the applier runs"` + "\n" + `level=INFO msg="nothing to do" reason="replication runs"` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.Reset()
			action := Decide(tt.v.s, tt.v.f)
			a.publish(tt.v.s, tt.v.f, action, Futile{})
			if d := cmp.Diff(tt.want, b.String()); d != "" {
				t.Error(d)
			}
			if got := a.Status(); got.Action != action || got.Attached != tt.v.s.Attached || got.Reason == "" {
				t.Errorf("status %+v", got)
			}
		})
	}
}

func TestWithoutText(t *testing.T) {
	parse := fmt.Errorf("query: %w", &mysql.MySQLError{Number: errParse, Message: "You have an error near '" + secret + "'"})
	if err := withoutText(parse); strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "1064") {
		t.Errorf("err = %v", err)
	}
	other := &mysql.MySQLError{Number: errAccessDenied, Message: "Access denied for user 'root'"}
	if err := withoutText(other); !errors.Is(err, other) {
		t.Errorf("err = %v", err)
	}
}

// While nobody listens the agent waits, is not ready and says why, and ends when it is told to.
func TestNobodyListens(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	a, err := New(Config{
		Flavor: flavor.MariaDB, Server: addr, Admin: Login{User: "root", Password: func() (string, error) { return secret, nil }},
		Source: source, ReplicationPassword: func() (string, error) { return secret, nil }, Interval: time.Hour,
		Record: &record{standing: func() Recorded { return attachedByGTID }},
		Log:    slog.New(&closer{Handler: slog.DiscardHandler, at: "waiting", c: waiting}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := a.Status(); s.Ready || s.Reason == "" {
		t.Errorf("before the first look: %+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.Run(ctx)
	}()
	<-waiting
	s := a.Status()
	if s.Ready || s.Action.Step != Wait || !strings.Contains(s.Reason, "connection refused") || strings.Contains(s.Reason, secret) {
		t.Errorf("status %+v", s)
	}
	cancel()
	<-ended
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// closer is a log that closes c at the first message of the text at.
type closer struct {
	slog.Handler
	at string
	c  chan struct{}
}

func (*closer) Enabled(context.Context, slog.Level) bool { return true }

func (h *closer) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.at && h.c != nil {
		close(h.c)
		h.c = nil
	}
	return nil
}
