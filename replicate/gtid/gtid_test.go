package gtid_test

import (
	"errors"
	"strings"
	"testing"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

func history(tb testing.TB, f flavor.Flavor, texts ...string) gtid.History {
	tb.Helper()
	h, err := gtid.Parse(f, texts...)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

func TestHistory(t *testing.T) {
	tests := []struct {
		name         string
		flavor       flavor.Flavor
		ours, source []string
		text         string // of ours
		sourceHasAll bool
		weHaveAll    bool
		errant       string
	}{
		{name: "nothing on mysql", flavor: flavor.MySQL, ours: []string{""}, sourceHasAll: true, weHaveAll: true},
		{name: "nothing on mariadb", flavor: flavor.MariaDB, ours: []string{"", ""}, sourceHasAll: true, weHaveAll: true},
		{
			name: "behind on mysql", flavor: flavor.MySQL,
			ours: []string{u1 + ":1-5"}, source: []string{u1 + ":1-9"}, text: u1 + ":1-5", sourceHasAll: true,
		},
		{
			name: "received on mysql", flavor: flavor.MySQL,
			ours: []string{u1 + ":1-5", u1 + ":4-9"}, source: []string{u1 + ":1-9"}, text: u1 + ":1-9", sourceHasAll: true, weHaveAll: true,
		},
		{
			name: "errant on mysql", flavor: flavor.MySQL,
			ours: []string{u1 + ":1-5," + u2 + ":1"}, source: []string{u1 + ":1-9"}, text: u1 + ":1-5," + u2 + ":1", errant: u2 + ":1",
		},
		{
			name: "behind on mariadb", flavor: flavor.MariaDB,
			ours: []string{"0-100-5", "0-100-5"}, source: []string{"", "0-100-9"}, text: "0-100-5", sourceHasAll: true,
		},
		{
			name: "received on mariadb", flavor: flavor.MariaDB,
			ours: []string{"0-100-5", "0-100-5", "0-100-9"}, source: []string{"", "0-100-9"}, text: "0-100-9", sourceHasAll: true, weHaveAll: true,
		},
		{
			name: "errant on mariadb, and ahead", flavor: flavor.MariaDB,
			ours: []string{"0-100-9", "0-100-9,0-101-10"}, source: []string{"", "0-100-9"}, text: "0-101-10", weHaveAll: true, errant: "within 0-101-1..10",
		},
		{
			name: "errant on mariadb, and hidden by later ones", flavor: flavor.MariaDB,
			ours: []string{"0-100-9", "0-101-1,0-100-9"}, source: []string{"", "0-100-9"}, text: "0-100-9",
			sourceHasAll: true, weHaveAll: true, errant: "0-101-1",
		},
		{
			name: "a fresh clone on mariadb", flavor: flavor.MariaDB,
			ours: []string{"0-100-9", ""}, source: []string{"", "0-100-9"}, text: "0-100-9", sourceHasAll: true, weHaveAll: true,
		},
		{
			name: "a source on mariadb that is a fresh clone", flavor: flavor.MariaDB,
			ours: []string{"0-100-8", "0-100-8"}, source: []string{"0-100-9", ""}, text: "0-100-8", sourceHasAll: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ours, source := history(t, test.flavor, test.ours...), history(t, test.flavor, test.source...)
			if got := ours.String(); got != test.text || ours.Empty() != (test.text == "") {
				t.Errorf("%q, empty %v, want %q", got, ours.Empty(), test.text)
			}
			if got := source.Contains(ours); got != test.sourceHasAll {
				t.Errorf("source has all: %v", got)
			}
			if got := ours.Contains(source); got != test.weHaveAll {
				t.Errorf("we have all: %v", got)
			}
			if got := ours.Errant(source); got.String() != test.errant || got.Empty() != (test.errant == "") {
				t.Errorf("errant %q, want %q", got, test.errant)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		flavor flavor.Flavor
		texts  []string
		want   error
	}{
		{flavor.MySQL, []string{u1 + ":1", "0-100-5"}, gtid.ErrMalformed},
		{flavor.MariaDB, []string{"0-100-5", u1 + ":1"}, gtid.ErrMalformed},
		{"", []string{""}, flavor.ErrUnknown},
	} {
		if h, err := gtid.Parse(test.flavor, test.texts...); !errors.Is(err, test.want) || !h.Empty() {
			t.Errorf("%s %q: %q, %v", test.flavor, test.texts, h, err)
		}
	}
}

func TestErrantOnlyOf(t *testing.T) {
	const ours, other = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, tt := range []struct {
		f    flavor.Flavor
		have string
		want bool
	}{
		{flavor.MySQL, "", true},
		{flavor.MySQL, ours + ":1-3:tag:1", true},
		{flavor.MySQL, ours + ":1-3," + other + ":7", false},
		{flavor.MariaDB, "", true},
		{flavor.MariaDB, "0-101-8,1-101-2", true},
		{flavor.MariaDB, "0-101-8,0-102-9", false},
	} {
		have, err := gtid.Parse(tt.f, tt.have)
		if err != nil {
			t.Fatal(err)
		}
		if got := have.Errant(gtid.History{}).OnlyOf(strings.ToUpper(ours), 101); got != tt.want {
			t.Errorf("%s %q: %v", tt.f, tt.have, got)
		}
	}
}
