package gtid

import (
	"testing"

	"understudy/replicate/flavor"
)

func TestSplit(t *testing.T) {
	const a, b = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	tests := []struct {
		name          string
		f             flavor.Flavor
		text, server  string
		theirs, other string
	}{
		{"nothing", flavor.MySQL, "", a, "", ""},
		{"two servers", flavor.MySQL, a + ":1-3:tag:7," + b + ":1-5", a, a + ":1-3:tag:7", b + ":1-5"},
		{"a server that has made none", flavor.MySQL, b + ":1-5", a, "", b + ":1-5"},
		{"the newest is theirs", flavor.MariaDB, "0-100-9,0-102-4,0-101-10,1-100-3", "101", "0-101-10", "0-102-4,0-100-9,1-100-3"},
		{"an old one is theirs", flavor.MariaDB, "0-101-7,0-100-9", "101", "0-101-7", "0-100-9"},
		{"all are theirs", flavor.MariaDB, "0-101-7,1-101-9", "101", "0-101-7,1-101-9", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := Parse(tt.f, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			theirs, other := h.Split(func(server string) bool { return server == tt.server })
			if theirs.Text() != tt.theirs || other.Text() != tt.other {
				t.Errorf("theirs %q, want %q; the rest %q, want %q", theirs.Text(), tt.theirs, other.Text(), tt.other)
			}
			again, err := Parse(tt.f, h.Text())
			if err != nil || again.Text() != h.Text() {
				t.Errorf("read back: %q, %v, want %q", again.Text(), err, h.Text())
			}
		})
	}
}
