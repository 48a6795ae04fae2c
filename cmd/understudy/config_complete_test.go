package main

import (
	"os"
	"path/filepath"
	"testing"

	"understudy/replicate"
	"understudy/replicate/flavor"
)

// What init writes while the server's image is to make the data directory becomes what it writes
// afterwards.
func TestCompleteConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, configFile)
	if changed, err := completeConfig(dir); changed || err != nil {
		t.Errorf("without a file: %v %v", changed, err)
	}
	s := replicate.Settings{Flavor: flavor.MySQL, ServerID: 100, ReportHost: "db-0.db", Initialising: true}
	if err := os.WriteFile(path, replicate.Render(replicate.Options(s)), 0o600); err != nil {
		t.Fatal(err)
	}
	for round, want := range []bool{true, false} {
		if changed, err := completeConfig(dir); changed != want || err != nil {
			t.Errorf("round %d: %v %v", round, changed, err)
		}
	}
	s.Initialising = false
	text, err := os.ReadFile(path)
	if want := replicate.Render(replicate.Options(s)); err != nil || string(text) != string(want) {
		t.Errorf("%s\nwant %s (%v)", text, want, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left are %v", entries)
	}
}
