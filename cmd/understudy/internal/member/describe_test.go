package member

import (
	"errors"
	"testing"

	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate"
)

// Only the primary, or a replica whose applier runs, gives clones, and only once it is
// attached.
func TestServing(t *testing.T) {
	running := &replicate.Channel{SQLRunning: true, UsingGTID: true}
	byPosition := &replicate.Channel{SQLRunning: true}
	lacking := &replicate.SourceFacts{Errant: "0-101-8"}
	ok := replicate.Status{ServerVersion: "10.11.19-MariaDB", Facts: replicate.Facts{UsesGTID: true}}
	with := func(change func(*replicate.Status)) replicate.Status { s := ok; change(&s); return s }
	tests := []struct {
		name   string
		phase  volume.Phase
		status replicate.Status
		want   string // the origin's mode; empty: refused
	}{
		{"primary", volume.Attached, with(func(s *replicate.Status) { s.Primary = true }), "gtid"},
		{"primary without GTIDs", volume.Attached, with(func(s *replicate.Status) { s.Primary, s.Facts.UsesGTID = true, false }), "position"},
		{"primary, not attached", volume.Published, with(func(s *replicate.Status) { s.Primary = true }), ""},
		{"primary whose server is away", volume.Attached, with(func(s *replicate.Status) { s.Primary, s.Facts.Trouble = true, "away" }), ""},
		{"replica", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel = running }), "gtid"},
		{"replica by position", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel = byPosition }), "position"},
		{"replica, not attached", volume.Published, with(func(s *replicate.Status) { s.Facts.Channel = running }), ""},
		{"replica without a channel", volume.Attached, ok, ""},
		{"replica whose applier stopped", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel = &replicate.Channel{UsingGTID: true} }), ""},
		{"nothing seen yet", volume.Attached, replicate.Status{Primary: true}, ""},
		{"replica that needs help", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Verdict = running, replicate.Report }), ""},
		{"replica that is to be reseeded", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Verdict = running, replicate.Reseed }), ""},
		{"paused replica that is to be reseeded", volume.Attached, with(func(s *replicate.Status) {
			s.Facts.Channel, s.Verdict, s.Action.Step = running, replicate.Reseed, replicate.Leave
		}), ""},
		{"replica by position that needs help", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Verdict = byPosition, replicate.Report }), ""},
		{"replica with a transaction of its own", volume.Attached, with(func(s *replicate.Status) { s.Facts.Channel, s.Facts.Source = running, lacking }), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			errant := func() string {
				if tt.status.Facts.Source == lacking {
					return lacking.Errant
				}
				return ""
			}
			h, err := Serving(tt.phase, tt.status, errant)
			if tt.want == "" {
				if !errors.Is(err, wire.ErrNotServing) {
					t.Errorf("err = %v", err)
				}
				return
			}
			if err != nil || string(h.Origin) != tt.want {
				t.Errorf("origin %q, %v", h.Origin, err)
			}
		})
	}
}
