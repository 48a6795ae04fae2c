package gtid_test

import (
	"errors"
	"strings"
	"testing"

	"understudy/replicate/gtid"
)

// FuzzSet: what is read is printed in a form that is read as the same, and that is no longer than
// what was read, whatever numbers it names.
func FuzzSet(f *testing.F) {
	for _, seed := range []string{
		"", ",", u1, u1 + ":1", u1 + ":1-3:5,\n" + u2 + ":1-9", strings.ToUpper(u2) + ":TAG:1:a_1:2-3:7," + u2 + ":4",
		u3 + ":1-" + highest, u3 + ":9:7-8:1-3:4-6", u3 + ":3-2", u3 + ":0", u3 + ":9223372036854775807", " " + u1 + " : 1 - 2 ",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := gtid.ParseSet(text)
		if err != nil {
			if !errors.Is(err, gtid.ErrMalformed) || !s.Empty() || len(err.Error()) > 1000 {
				t.Fatalf("%q, %v", s, err)
			}
			return
		}
		printed := s.String()
		if len(printed) > len(text) {
			t.Fatalf("%d bytes, printed as %q", len(text), printed)
		}
		if again := set(t, printed); again.String() != printed || !again.Equal(s) {
			t.Fatalf("%q is printed, and read as %q", printed, again)
		}
		if !s.Contains(s) || !s.Subtract(s).Empty() || !s.Union(s).Equal(s) || s.Empty() != (s.Count() == 0) {
			t.Fatalf("%q is not equal to itself", printed)
		}
	})
}

// FuzzMariaDB does the same for positions and binlog states. What is a position is a state, too.
func FuzzMariaDB(f *testing.F) {
	for _, seed := range []string{
		"", ",", "0-100-7", "0-100-7,1-100-9", " 0-1-5 ,\n1-1-6", "0-102-5,0-101-6,0-100-7,3-1-1", "0-1-5,0-1-3", "00-01-05",
		"4294967295-4294967295-18446744073709551615", "0-1-18446744073709551616", "0-1", "0-1-2-3", "-0-1-2",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, errP := gtid.ParsePosition(text)
		b, errB := gtid.ParseBinlogState(text)
		for _, err := range []error{errP, errB} {
			if err != nil && (!errors.Is(err, gtid.ErrMalformed) || len(err.Error()) > 1000) {
				t.Fatal(err)
			}
		}
		if errB != nil {
			if errP == nil {
				t.Fatalf("%q is a position and no state: %v", text, errB)
			}
			return
		}
		printed := b.String()
		if again := state(t, printed); len(printed) > len(text) || again.String() != printed || !again.Equal(b) {
			t.Fatalf("%q is printed, and read as %q", printed, again)
		}
		if !b.Errant(b).Empty() || !b.Union(b).Equal(b) || !b.Position().Contains(b.Position()) {
			t.Fatalf("%q is not equal to itself", printed)
		}
		if errP == nil && (!b.Position().Equal(p) || p.String() != printed || !position(t, printed).Equal(p)) {
			t.Fatalf("%q is the position %q and the state %q", text, p, b)
		}
	})
}
