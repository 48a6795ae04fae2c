package volume

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestPauseStays(t *testing.T) {
	root := t.TempDir()
	want := Pause{Since: noon, Until: noon.Add(time.Hour), Reason: "a look at a table"}
	if err := WritePause(root, want); !errors.Is(err, ErrNoVolume) {
		t.Errorf("a directory without a journal was paused: %v", err)
	}
	if err := RemovePause(root); !errors.Is(err, ErrNoVolume) {
		t.Errorf("a directory without a journal was resumed: %v", err)
	}
	v := open(t, root)
	if err := v.WriteJournal(Journal{Phase: Attached}); err != nil {
		t.Fatal(err)
	}
	check := func(want *Pause) {
		t.Helper()
		got, err := v.Pause()
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Error(d, err)
		}
	}
	check(nil)
	if err := WritePause(root, want); err != nil { // while v holds the lock
		t.Fatal(err)
	}
	check(&want)
	if err := v.Sweep(""); err != nil {
		t.Fatal(err)
	}
	check(&want)
	for range 2 {
		if err := RemovePause(root); err != nil {
			t.Fatal(err)
		}
		check(nil)
	}
	if err := os.WriteFile(pausePath(root), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := v.Pause(); !errors.Is(err, ErrPause) {
		t.Errorf("half a pause is %v, %v", p, err)
	}
}

func TestPauseEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Pause
		now  time.Time
		want bool
		text string
	}{
		{"without an end", Pause{Since: noon}, noon.AddDate(10, 0, 0), false, "paused since 2026-11-26T12:00:00Z"},
		{
			"before its end",
			Pause{Since: noon, Until: noon.Add(time.Hour)},
			noon.Add(time.Hour - 1), false,
			"paused since 2026-11-26T12:00:00Z until 2026-11-26T13:00:00Z",
		},
		{
			"at its end",
			Pause{Since: noon, Until: noon.Add(time.Hour), Reason: "x"},
			noon.Add(time.Hour), true,
			"paused since 2026-11-26T12:00:00Z until 2026-11-26T13:00:00Z: x",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.Ended(tt.now); got != tt.want || tt.p.String() != tt.text {
				t.Errorf("%v, %q; want %v, %q", got, tt.p, tt.want, tt.text)
			}
		})
	}
}
