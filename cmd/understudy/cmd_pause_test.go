package main

import (
	"testing"
	"time"

	"understudy/clone/volume"

	"github.com/google/go-cmp/cmp"
)

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
