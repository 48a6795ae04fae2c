package lead

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"testing"

	"understudy/replicate/failover"
	"understudy/replicate/flavor"
)

// store is a Lease in memory. lose has the next write land without an answer, late has it land with
// deliver.
type store struct {
	record     string
	n          int
	lose, late bool
	deliver    func()
}

type version struct {
	record string
	n      int
}

func (v version) Record() string { return v.record }
func (v version) Beat() string   { return strconv.Itoa(v.n) }

func (s *store) Read(context.Context) (Version, error) { return version{s.record, s.n}, nil }

var errSilent = errors.New("no answer")

func (s *store) Write(_ context.Context, from Version, record, _ string) (Version, error) {
	seen, _ := from.(version)
	land := func() bool {
		if s.n != seen.n {
			return false
		}
		s.record = record
		s.n++
		return true
	}
	switch {
	case s.late:
		s.late, s.deliver = false, func() { land() }
		return nil, errSilent
	case !land():
		return nil, errors.New("conflict")
	case s.lose:
		s.lose = false
		return nil, errSilent
	}
	return version{s.record, s.n}, nil
}

func testRecord() failover.Record {
	const uuid = "3f2a0000-0000-0000-0000-000000000001"
	return failover.Record{
		Term: 1, Phase: failover.Opened, Holder: "db-0", Mode: failover.Preferred, Acknowledgments: 1, Naming: 1, Members: []string{"db-0", "db-1"},
		Last:   failover.Leader{Term: 1, Member: "db-0", Data: uuid},
		Ledger: failover.Ledger{Flavor: flavor.MySQL, Terms: []failover.Term{{Term: 1, Server: uuid}}},
	}
}

func newLine(t *testing.T) (*line, *store) {
	t.Helper()
	text, err := testRecord().Encode()
	if err != nil {
		t.Fatal(err)
	}
	s := &store{record: text, n: 1}
	l := &line{lease: s, log: slog.New(slog.DiscardHandler)}
	if err := l.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l, s
}

// A write whose answer was lost counts as landed only where the Lease says so, and may land later
// until another has landed from the same version.
func TestLostAnswers(t *testing.T) {
	t.Run("it landed", func(t *testing.T) {
		l, s := newLine(t)
		s.lose = true
		from := l.view()
		if _, err := l.swap(t.Context(), from, from.record.Seek("db-1")); err != nil {
			t.Fatal(err)
		}
		if v := l.view(); v.record.Term != 2 || v.unsure {
			t.Errorf("%+v", v)
		}
	})
	t.Run("it lands late", func(t *testing.T) {
		l, s := newLine(t)
		s.late = true
		from := l.view()
		if _, err := l.swap(t.Context(), from, from.record.Seek("db-1")); err == nil {
			t.Fatal("no answer is none")
		}
		if v := l.view(); v.record.Term != 1 || !v.unsure {
			t.Errorf("before it lands: %+v", v)
		}
		if err := l.read(t.Context()); err != nil || !l.view().unsure {
			t.Error("a read that shows nothing new says that it never lands", err)
		}
		s.deliver()
		if err := l.read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if v := l.view(); v.record.Term != 2 || v.unsure {
			t.Errorf("after it landed: %+v", v)
		}
	})
	t.Run("another lands first", func(t *testing.T) {
		l, s := newLine(t)
		s.late = true
		from := l.view()
		if _, err := l.swap(t.Context(), from, from.record.Empty()); err == nil {
			t.Fatal("no answer is none")
		}
		if _, err := l.swap(t.Context(), l.view(), *l.view().record); err != nil {
			t.Fatal(err)
		}
		if l.view().unsure {
			t.Error("a renewal has landed from the same version: the write before never lands")
		}
		s.deliver()
		if err := l.read(t.Context()); err != nil || l.view().record.Naming != 1 {
			t.Errorf("%+v, %v", l.view(), err)
		}
	})
	t.Run("what was seen is over", func(t *testing.T) {
		l, _ := newLine(t)
		from := l.view()
		if _, err := l.swap(t.Context(), from, from.record.Seek("db-1")); err != nil {
			t.Fatal(err)
		}
		if _, err := l.swap(t.Context(), from, from.record.Seek("db-0")); !errors.Is(err, errMoved) {
			t.Errorf("error %v", err)
		}
	})
}

// A step by a role that the member has no more is not taken, and none is under way when it changes.
func TestGate(t *testing.T) {
	g := newGate(Role{Follows: "db-0"})
	role := g.Role()
	leave, ok := g.Enter(t.Context(), role)
	if !ok {
		t.Fatal("the gate is closed")
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if g.lock(short) == nil {
		t.Error("the role changes while a step is under way")
	}
	leave()
	if err := g.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.become(Role{Hold: "it has reported"})
	g.unlock()
	if _, ok := g.Enter(t.Context(), role); ok {
		t.Error("a step by the role before is taken")
	}
}
