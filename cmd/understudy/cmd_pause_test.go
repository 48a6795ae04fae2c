package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/volume"

	"github.com/google/go-cmp/cmp"
)

// checkPause checks that a running sidecar sees at once what others do to the pause.
func checkPause(t *testing.T, vol *volume.Volume, r *record) {
	t.Helper()
	root := filepath.Dir(vol.Live())
	check := func(what, want string) {
		t.Helper()
		if got := r.Standing().Paused; got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	since := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	write := func(p volume.Pause) {
		t.Helper()
		if err := volume.WritePause(root, p); err != nil {
			t.Fatal(err)
		}
	}
	check("never paused", "")
	write(volume.Pause{Since: since, Reason: "why"})
	check("paused", "paused since 2026-11-26T12:00:00Z: why")
	write(volume.Pause{Since: since, Until: time.Now()})
	check("its time is up", "")
	if err := os.WriteFile(filepath.Join(root, ".understudy", "paused"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.Standing().Paused; !strings.Contains(got, "nobody can say why") {
		t.Errorf("a pause that cannot be read: %q", got)
	}
	if err := volume.RemovePause(root); err != nil {
		t.Fatal(err)
	}
	check("resumed", "")
}

func TestPauseAgain(t *testing.T) {
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	now := noon.Add(time.Hour)
	for _, tt := range []struct {
		name   string
		v      pauseVerb
		before *volume.Pause
		want   volume.Pause
	}{
		{"the first", pauseVerb{reason: "a"}, nil, volume.Pause{Since: now, Reason: "a"}},
		{"for a time", pauseVerb{length: time.Minute}, nil, volume.Pause{Since: now, Until: now.Add(time.Minute)}},
		{"again", pauseVerb{}, &volume.Pause{Since: noon, Reason: "a"}, volume.Pause{Since: noon, Reason: "a"}},
		{"for another reason", pauseVerb{reason: "b"}, &volume.Pause{Since: noon, Reason: "a"}, volume.Pause{Since: noon, Reason: "b"}},
		{
			"without an end after one with it",
			pauseVerb{},
			&volume.Pause{Since: noon, Until: now.Add(1)},
			volume.Pause{Since: noon},
		},
		{
			"after one that has ended",
			pauseVerb{},
			&volume.Pause{Since: noon, Until: now, Reason: "a"},
			volume.Pause{Since: now},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, tt.v.pause(tt.before, now)); d != "" {
				t.Error(d)
			}
		})
	}
}
