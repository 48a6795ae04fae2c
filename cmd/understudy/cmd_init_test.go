package main

import (
	"testing"

	"understudy/clone/volume"
)

// An image that was interrupted counts: it is of no use for ever.
func TestAttempt(t *testing.T) {
	for _, tt := range []struct {
		journal *volume.Journal
		verdict volume.Verdict
		want    int
	}{
		{nil, volume.Start, 1},
		{&volume.Journal{Phase: volume.Initialising, Attempt: 1}, volume.Start, 1}, // nothing had been made
		{&volume.Journal{Phase: volume.Initialising}, volume.StartAnew, 2},         // of an older program
		{&volume.Journal{Phase: volume.Initialising, Attempt: 2}, volume.StartAnew, 3},
		{&volume.Journal{Phase: volume.Attached, Attempt: 2}, volume.Start, 1},
	} {
		if got := attempt(tt.journal, tt.verdict); got != tt.want {
			t.Errorf("%+v, %s: attempt %d, want %d", tt.journal, tt.verdict, got, tt.want)
		}
	}
}
