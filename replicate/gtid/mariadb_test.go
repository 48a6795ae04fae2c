package gtid_test

import (
	"errors"
	"strings"
	"testing"

	"understudy/replicate/gtid"

	"github.com/google/go-cmp/cmp"
)

func position(tb testing.TB, text string) gtid.Position {
	tb.Helper()
	p, err := gtid.ParsePosition(text)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func state(tb testing.TB, text string) gtid.BinlogState {
	tb.Helper()
	b, err := gtid.ParseBinlogState(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestPosition(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"the beginning", "", ""},
		{"blanks", " \n", ""},
		{"one domain", "0-100-7", "0-100-7"},
		{"order", "3-1-5,1-1-4,20-2-2,0-1-9", "0-1-9,1-1-4,3-1-5,20-2-2"},
		{"blanks between", " 0-100-7 ,\n1-100-9\n", "0-100-7,1-100-9"},
		{"leading zeros", "00-01-05", "0-1-5"},
		{"the highest numbers", "4294967295-4294967295-18446744073709551615", "4294967295-4294967295-18446744073709551615"},
		{"no transaction yet", "0-100-0", "0-100-0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := position(t, test.in)
			if got := p.String(); got != test.want || p.Empty() != (test.want == "") {
				t.Errorf("%q, empty %v, want %q", got, p.Empty(), test.want)
			}
		})
	}
}

func TestMalformedPosition(t *testing.T) {
	for _, in := range []string{
		"x", "0", "0-1", "0-1-", "0--1", "-0-1-2", "0-1-2-3", "0-1-2,", ",0-1-2", "0-1-2,,1-1-2", "0-1-2 1-1-2", "0- 1-2",
		"4294967296-1-1", "0-4294967296-1", "0-1-18446744073709551616", "+0-1-2", "0-1-0x2", "0-1-1_0",
		u2 + ":1", strings.Repeat("x", 5000),
	} {
		if p, err := gtid.ParsePosition(in); !errors.Is(err, gtid.ErrMalformed) || len(err.Error()) > 400 {
			t.Errorf("ParsePosition(%.60q) = %q, %v", in, p, err)
		}
		if b, err := gtid.ParseBinlogState(in); !errors.Is(err, gtid.ErrMalformed) {
			t.Errorf("ParseBinlogState(%.60q) = %q, %v", in, b, err)
		}
	}
	if p, err := gtid.ParsePosition("0-1-5,1-1-1,0-2-6"); !errors.Is(err, gtid.ErrMalformed) {
		t.Errorf("two transactions of one domain: %q, %v", p, err)
	}
}

func TestPositionAlgebra(t *testing.T) {
	tests := []struct {
		name, a, b   string
		aHasB, bHasA bool
		union        string
		parted       bool
	}{
		{name: "the beginning", aHasB: true, bHasA: true},
		{name: "a beginning with a name", a: "0-100-0", aHasB: true, bHasA: true, union: "0-100-0"},
		{name: "ahead", a: "0-100-7", b: "0-100-6", aHasB: true, union: "0-100-7"},
		{name: "ahead by another server", a: "0-101-7", b: "0-100-6", aHasB: true, union: "0-101-7"},
		{name: "equal", a: "0-100-7,1-1-1", b: "1-1-1,0-100-7", aHasB: true, bHasA: true, union: "0-100-7,1-1-1"},
		{name: "one more domain", a: "0-100-7,5-1-1", b: "0-100-7", aHasB: true, union: "0-100-7,5-1-1"},
		{name: "each ahead in a domain", a: "0-100-7,1-1-1", b: "0-100-6,1-1-2", union: "0-100-7,1-1-2"},
		{name: "parted", a: "0-101-7", b: "0-100-7", union: "0-101-7", parted: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := position(t, test.a), position(t, test.b)
			if a.Contains(b) != test.aHasB || b.Contains(a) != test.bHasA {
				t.Errorf("contains: %v, %v", a.Contains(b), b.Contains(a))
			}
			ab, ba := a.Union(b), b.Union(a)
			if got := ab.String(); got != test.union || !ab.Equal(ba) {
				t.Errorf("unions %q, %q, want %q", got, ba, test.union)
			}
			if !test.parted && (!ab.Contains(a) || !ab.Contains(b)) {
				t.Errorf("union %q has not all of both", ab)
			}
		})
	}
}

func TestBinlogState(t *testing.T) {
	tests := []struct{ name, in, want, position string }{
		{"nothing logged", "", "", ""},
		{"one server", "0-100-7", "0-100-7", "0-100-7"},
		{"the newest comes last", "0-102-5,0-101-6,0-100-7", "0-101-6,0-102-5,0-100-7", "0-100-7"},
		{"the newest is not the highest", "0-100-7,0-101-6", "0-100-7,0-101-6", "0-101-6"},
		{"domains", "1-1-1,0-101-6,1-2-2,0-100-7", "0-101-6,0-100-7,1-1-1,1-2-2", "0-100-7,1-2-2"},
		{"a server twice", "0-1-5,0-2-6,0-1-3", "0-2-6,0-1-3", "0-1-3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := state(t, test.in)
			if b.String() != test.want || b.Position().String() != test.position || b.Empty() != (test.in == "") {
				t.Errorf("%q at %q, want %q at %q", b, b.Position(), test.want, test.position)
			}
		})
	}
}

func TestBinlogStateUnion(t *testing.T) {
	tests := []struct{ name, a, b, want string }{
		{"nothing", "", "", ""},
		{"with nothing", "0-100-7,0-101-6", "", "0-100-7,0-101-6"},
		{"a position behind it", "0-101-6,0-100-7", "0-100-5", "0-101-6,0-100-7"},
		{"a position ahead of it", "0-101-6,0-100-7", "0-101-9", "0-100-7,0-101-9"},
		{"a server that it has not seen", "0-100-7", "0-102-8,1-1-1", "0-100-7,0-102-8,1-1-1"},
		{"an older one", "0-100-7", "0-102-6", "0-102-6,0-100-7"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ab, ba := state(t, test.a).Union(state(t, test.b)), state(t, test.b).Union(state(t, test.a))
			if got := ab.String(); got != test.want || !ba.Equal(ab) {
				t.Errorf("%q, %q, want %q", got, ba, test.want)
			}
		})
	}
	if state(t, "0-100-7,0-101-6").Equal(state(t, "0-101-6,0-100-7")) {
		t.Error("states with another newest one are equal")
	}
}

func TestErrant(t *testing.T) {
	tests := []struct {
		name, ours, source string
		ranges             []gtid.Range
		text               string
	}{
		{"nothing", "", "", nil, ""},
		{"the same", "0-100-7", "0-100-7", nil, ""},
		{"behind", "0-101-3,0-100-7", "0-101-3,0-100-9", nil, ""},
		{"one", "0-100-7,0-101-8", "0-100-9", []gtid.Range{{Domain: 0, Server: 101, From: 0, To: 8}}, "within 0-101-1..8"},
		{"the first of all", "0-101-1", "", []gtid.Range{{Domain: 0, Server: 101, From: 0, To: 1}}, "0-101-1"},
		{"one more than the source", "0-100-8", "0-100-7", []gtid.Range{{Domain: 0, Server: 100, From: 7, To: 8}}, "0-100-8"},
		{"a lower number", "0-101-4,0-100-7", "0-101-3,0-100-9", []gtid.Range{{Domain: 0, Server: 101, From: 3, To: 4}}, "0-101-4"},
		{
			"several", "7-1-5,0-100-7,0-102-9,0-101-8", "0-100-7,0-102-2,7-1-4",
			[]gtid.Range{{Domain: 0, Server: 101, From: 0, To: 8}, {Domain: 0, Server: 102, From: 2, To: 9}, {Domain: 7, Server: 1, From: 4, To: 5}},
			"within 0-101-1..8,0-102-3..9,7-1-5",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := state(t, test.ours).Errant(state(t, test.source))
			if d := cmp.Diff(test.ranges, e.Ranges()); d != "" {
				t.Error(d)
			}
			if got := e.String(); got != test.text || e.Empty() != (test.text == "") {
				t.Errorf("%q, empty %v, want %q", got, e.Empty(), test.text)
			}
		})
	}
}

func TestErrantWithout(t *testing.T) {
	e := state(t, "0-101-8,1-101-3").Errant(state(t, "0-101-2"))
	rest := e.Without(func(r gtid.Range) bool { return r.Domain == 0 })
	if rest.String() != "within 1-101-1..3" || e.String() != "within 0-101-3..8,1-101-1..3" {
		t.Errorf("%q without domain 0 is %q", e, rest)
	}
	for g, want := range map[gtid.GTID]bool{{0, 101, 2}: false, {0, 101, 3}: true, {0, 101, 8}: true, {0, 101, 9}: false, {0, 100, 5}: false, {1, 101, 1}: true} {
		if e.Holds(g) != want {
			t.Errorf("%s holds %s: %v", e, g, !want)
		}
	}
}

func TestNarrow(t *testing.T) {
	e := state(t, "0-101-8,1-101-3").Errant(state(t, "0-101-2,1-101-2"))
	logged := []gtid.GTID{{0, 100, 5}, {0, 101, 7}, {0, 101, 8}, {0, 101, 2}, {0, 101, 4}, {0, 101, 4}, {2, 101, 5}, {0, 101, 9}}
	tests := []struct {
		name     string
		logged   []gtid.GTID
		complete bool
		want     string
	}{
		{"all", logged, true, "0-101-4,0-101-7..8,1-101-3"},
		{"some purged", logged, false, "at least 0-101-4,0-101-7..8,1-101-3"},
		{"all purged", nil, false, "at least 0-101-8,1-101-3"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := e.Narrow(test.logged, test.complete).String(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if none := (gtid.Errant{}).Narrow(logged, false); none.String() != "" || !none.Empty() {
		t.Errorf("nothing, narrowed, is %q", none)
	}
}
