package gtid_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"understudy/replicate/gtid"
)

const (
	u1 = "0000000a-0000-11ef-9c5c-000000000001"
	u2 = "35f06186-b1c2-11ef-9c5c-0242ac110002"
	u3 = "ffffffff-ffff-ffff-ffff-ffffffffffff"

	highest = "9223372036854775806" // 2^63-2
)

func set(tb testing.TB, text string) gtid.Set {
	tb.Helper()
	s, err := gtid.ParseSet(text)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestSet(t *testing.T) {
	tests := []struct {
		name, in, want string
		count          uint64
	}{
		{"nothing", "", "", 0},
		{"blanks", " \n\t\r", "", 0},
		{"commas", ",, ,\n,", "", 0},
		{"UUIDs without numbers", u2 + "," + u1 + ":tag," + u3, "", 0},
		{"one", u2 + ":1", u2 + ":1", 1},
		{"a range", u2 + ":5-7", u2 + ":5-7", 3},
		{"a range of one", u2 + ":5-5", u2 + ":5", 1},
		{"as the server prints it", u1 + ":1-3:5,\n" + u2 + ":1-9", u1 + ":1-3:5," + u2 + ":1-9", 13},
		{"order", u3 + ":1," + u2 + ":9:1-3," + u1 + ":4", u1 + ":4," + u2 + ":1-3:9," + u3 + ":1", 6},
		{"capitals", strings.ToUpper(u2) + ":1", u2 + ":1", 1},
		{"a UUID twice", u2 + ":1-3," + u1 + ":1," + u2 + ":7", u1 + ":1," + u2 + ":1-3:7", 5},
		{"ranges that touch", u2 + ":4-6:1-3:7", u2 + ":1-7", 7},
		{"ranges that overlap", u2 + ":1-5:3-9:4", u2 + ":1-9", 9},
		{"a range in another", u2 + ":1-9:3-4:11", u2 + ":1-9:11", 10},
		{"blanks everywhere", " \n" + u2 + " : 1 - 3 : 5 :\ttag : 7 , \n" + u1 + "\n:\n2 ", u1 + ":2," + u2 + ":1-3:5:tag:7", 6},
		{"tags", u2 + ":1-3:tag:4-5", u2 + ":1-3:tag:4-5", 5},
		{"a tag holds until the next", u2 + ":b:1:3:a:2:1", u2 + ":a:1-2:b:1:3", 4},
		{"no tag comes first", u2 + ":a:7," + u2 + ":1", u2 + ":1:a:7", 2},
		{"only tags", u1 + ":a:1," + u2 + ":a:1", u1 + ":a:1," + u2 + ":a:1", 2},
		{"tags in capitals", u2 + ":TAG:1:tag:2", u2 + ":tag:1-2", 2},
		{"the order of tags", u2 + ":b:1:a_:1:a1:1:_:1:aa:1", u2 + ":_:1:a1:1:a_:1:aa:1:b:1", 5},
		{"the longest tag", u2 + ":" + strings.Repeat("x", 32) + ":1", u2 + ":" + strings.Repeat("x", 32) + ":1", 1},
		{"the highest number", u2 + ":" + highest, u2 + ":" + highest, 1},
		{"all of one stream", u2 + ":1-" + highest, u2 + ":1-" + highest, math.MaxInt64 - 1},
		{"more than can be counted", u1 + ":1-" + highest + "," + u2 + ":1-" + highest + "," + u3 + ":1-4", u1 + ":1-" + highest + "," + u2 + ":1-" + highest + "," + u3 + ":1-4", math.MaxUint64},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := set(t, test.in)
			if got := s.String(); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if s.Count() != test.count || s.Empty() != (test.count == 0) {
				t.Errorf("count %d, empty %v, want %d", s.Count(), s.Empty(), test.count)
			}
		})
	}
}

func TestMalformedSet(t *testing.T) {
	for _, in := range []string{
		"x", ":1", "1-3", u2[:35] + ":1", u2 + "0:1", strings.ReplaceAll(u2, "-", "") + ":1", "{" + u2 + "}:1",
		strings.Replace(u2, "-", "0", 1) + ":1", strings.Replace(u2, "3", "g", 1) + ":1", "3" + u2[:35] + ":1",
		u2 + ":", u2 + "::1", u2 + ":1:", u2 + ":1-", u2 + ":-1", u2 + ":1-2-3", u2 + ":1 2", u2 + ":1;" + u1 + ":1",
		u2 + ":0", u2 + ":0-3", u2 + ":1-0", u2 + ":01", u2 + ":1-03", u2 + ":0x1", u2 + ":+1", u2 + ":1-+2", u2 + ":1_0",
		u2 + ":3-2", u2 + ":tag:3-2",
		u2 + ":9223372036854775807", u2 + ":1-9223372036854775807", u2 + ":18446744073709551616", u2 + ":1-99999999999999999999999",
		u2 + ":1tag", u2 + ":täg:1", u2 + ":a-b:1", u2 + ":tag 1", u2 + ":" + strings.Repeat("x", 33) + ":1",
		u2 + " " + u1 + ":1", u2 + ":1\n" + u1 + ":1", u2 + ":1\x00", u2 + ":1," + strings.Repeat("x", 5000), u2 + ":" + strings.Repeat("9", 5000),
	} {
		if s, err := gtid.ParseSet(in); !errors.Is(err, gtid.ErrMalformed) || len(err.Error()) > 400 {
			t.Errorf("ParseSet(%.60q) = %q, %v", in, s, err)
		}
	}
}

func TestSetAlgebra(t *testing.T) {
	tests := []struct{ name, a, b, union, minus string }{
		{"nothing", "", "", "", ""},
		{"nothing of something", u1 + ":1", "", u1 + ":1", u1 + ":1"},
		{"something of nothing", "", u1 + ":1", u1 + ":1", ""},
		{"itself", u1 + ":1-3:5", u1 + ":1-3:5", u1 + ":1-3:5", ""},
		{"the end", u1 + ":1-9", u1 + ":7-9", u1 + ":1-9", u1 + ":1-6"},
		{"the beginning", u1 + ":1-9", u1 + ":1-3", u1 + ":1-9", u1 + ":4-9"},
		{"the middle", u1 + ":1-9", u1 + ":4:6-7", u1 + ":1-9", u1 + ":1-3:5:8-9"},
		{"over a gap", u1 + ":1-3:7-9", u1 + ":2-8", u1 + ":1-9", u1 + ":1:9"},
		{"over several", u1 + ":1:3:5:7", u1 + ":2-6", u1 + ":1-7", u1 + ":1:7"},
		{"side by side", u1 + ":1-3", u1 + ":4-6", u1 + ":1-6", u1 + ":1-3"},
		{"other servers", u1 + ":1," + u3 + ":1", u2 + ":1", u1 + ":1," + u2 + ":1," + u3 + ":1", u1 + ":1," + u3 + ":1"},
		{"the same numbers of another server", u1 + ":1-3", u2 + ":1-3", u1 + ":1-3," + u2 + ":1-3", u1 + ":1-3"},
		{"the same numbers of another tag", u1 + ":a:1-3", u1 + ":b:1-3", u1 + ":a:1-3:b:1-3", u1 + ":a:1-3"},
		{"other tags", u1 + ":1:a:1:c:1", u1 + ":a:1:b:1", u1 + ":1:a:1:b:1:c:1", u1 + ":1:c:1"},
		{"the highest number", u1 + ":1-" + highest, u1 + ":" + highest, u1 + ":1-" + highest, u1 + ":1-9223372036854775805"},
		{"up to the highest number", u1 + ":" + highest, u1 + ":1-" + highest, u1 + ":1-" + highest, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := set(t, test.a), set(t, test.b)
			if got := a.Union(b).String(); got != test.union {
				t.Errorf("union %q, want %q", got, test.union)
			}
			if got := a.Subtract(b).String(); got != test.minus {
				t.Errorf("difference %q, want %q", got, test.minus)
			}
			if got, want := b.Contains(a), test.minus == ""; got != want {
				t.Errorf("contains: %v, want %v", got, want)
			}
			if got, want := a.Equal(b), test.a == test.b; got != want {
				t.Errorf("equal: %v, want %v", got, want)
			}
		})
	}
}
