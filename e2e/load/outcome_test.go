package load

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
)

func TestCompare(t *testing.T) {
	known := []outcome{acknowledged, rolledBack, uncertain, underWay, acknowledged}
	tests := []struct {
		name    string
		present []bool
		want    []string // parts of the error; none: no error
	}{
		{"as it must be", []bool{true, false, false, false, true}, nil},
		{"unknown ones may be there", []bool{true, false, true, true, true}, nil},
		{"lost", []bool{true, false, false, false, false}, []string{"1 of 2 acknowledged commits are missing: [5]"}},
		{"rolled back", []bool{true, true, true, true, true}, []string{"1 transactions are there that were rolled back: [2]"}},
		{"both", []bool{false, true, false, false, false}, []string{"2 of 2", "[1 5]", "[2]"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := compare(known, test.present)
			if (err == nil) != (len(test.want) == 0) {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v lacks %q", err, part)
				}
			}
		})
	}
}

func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		if diff := cmp.Diff(Stats{}, r.since(Mark{})); diff != "" {
			t.Errorf("with no commits (-want +got):\n%s", diff)
		}
		r.committed(time.Hour, time.Hour) // before the mark
		r.failed(true)
		mark := r.mark()
		for i := range 200 {
			time.Sleep(time.Second)
			r.committed(time.Duration(i+1)*time.Millisecond, time.Duration(i+2)*time.Millisecond)
		}
		r.failed(true)
		r.failed(false)
		time.Sleep(5 * time.Second)
		want := Stats{
			Commits: 200, ConnectionLosses: 1, Errors: 1, Elapsed: 205 * time.Second,
			Median: 100 * time.Millisecond, P99: 198 * time.Millisecond, Worst: 200 * time.Millisecond,
			WorstTransaction: 201 * time.Millisecond, LongestGap: 5 * time.Second,
		}
		if diff := cmp.Diff(want, r.since(mark)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestConnectionLost(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want bool
	}{
		{"cut", fmt.Errorf("commit: %w", mysql.ErrInvalidConn), true},
		{"bad", driver.ErrBadConn, true},
		{"no answer in time", context.DeadlineExceeded, true},
		{"shutdown", &mysql.MySQLError{Number: 1053}, true},
		{"killed", fmt.Errorf("commit: %w", &mysql.MySQLError{Number: 1927}), true},
		{"read-only", &mysql.MySQLError{Number: 1290}, false},
		{"no table", &mysql.MySQLError{Number: 1146}, false},
		{"cancelled", context.Canceled, false},
		{"another", errors.New("another"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := connectionLost(test.err); got != test.want {
				t.Errorf("connectionLost(%v) = %t", test.err, got)
			}
		})
	}
}
