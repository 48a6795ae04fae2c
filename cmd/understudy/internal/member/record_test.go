package member

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/volume"
	"understudy/replicate"
	"understudy/replicate/origin"

	"github.com/google/go-cmp/cmp"
)

// checkPause checks that a running sidecar sees at once what others do to the pause.
func checkPause(t *testing.T, vol *volume.Volume, r *Record) {
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
	if got := r.Standing().Paused; !strings.Contains(got, "the pause cannot be read") {
		t.Errorf("a pause that cannot be read: %q", got)
	}
	if err := volume.RemovePause(root); err != nil {
		t.Fatal(err)
	}
	check("resumed", "")
}

// What the agent records in the journal is there after a restart.
func TestRecord(t *testing.T) {
	root := t.TempDir()
	vol, err := volume.Open(t.Context(), root, time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = vol.Close() }()
	byFile := &origin.Origin{Mode: origin.Position, Of: origin.Source, File: "binlog.000003", Position: 671}
	if err := vol.WriteJournal(volume.Journal{Phase: volume.Published, ID: "a", Origin: byFile}); err != nil {
		t.Fatal(err)
	}
	open := func() *Record {
		t.Helper()
		r, err := newRecord(vol, func(context.Context) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := replicate.Recorded{Origin: byFile}
	check := func(what string, r *Record) {
		t.Helper()
		if d := cmp.Diff(want, r.Standing()); d != "" {
			t.Error(what, d)
		}
	}
	r := open()
	check("at first", r)
	if err := r.MarkConfigured(); err != nil {
		t.Fatal(err)
	}
	want.Configured = true
	check("configured", r)
	check("configured, and read again", open())
	checkPause(t, vol, r)
	if err := r.MarkAttached(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.MarkSemiSynced(); err != nil {
		t.Fatal(err)
	}
	want.Attached, want.SemiSynced = true, true
	check("attached", r)
	check("attached, and read again", open())
}

func TestKeepGTIDMode(t *testing.T) {
	tests := []struct {
		name string
		j    volume.Journal
		want bool
	}{
		{"a set that was made by us", volume.Journal{}, false},
		{"a copy by GTID", volume.Journal{Origin: &origin.Origin{Mode: origin.GTID}}, false},
		{"a copy by file and position", volume.Journal{Origin: &origin.Origin{Mode: origin.Position}}, true},
		{"a copy that says so once it has booted", volume.Journal{Origin: &origin.Origin{Mode: origin.FirstBoot}}, true},
		{"adopted", volume.Journal{Adopted: true, Origin: &origin.Origin{Mode: origin.GTID}}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := KeepsGTIDMode(&tt.j); got != tt.want {
				t.Error(got)
			}
		})
	}
}
