package gtid_test

import (
	"testing"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

func TestBehind(t *testing.T) {
	for _, tt := range []struct {
		name         string
		f            flavor.Flavor
		have, source string
		want         uint64
	}{
		{"equal", flavor.MySQL, u1 + ":1-5", u1 + ":1-5", 0},
		{"nothing", flavor.MySQL, "", u1 + ":1-5:tag:1-2", 7},
		{"gaps", flavor.MySQL, u1 + ":1:3:5", u1 + ":1-5," + u2 + ":7", 3},
		{"more of another server does not count", flavor.MySQL, u1 + ":1-3," + u2 + ":1-9", u1 + ":1-5", 2},
		{"equal", flavor.MariaDB, "0-100-5", "0-100-5", 0},
		{"nothing", flavor.MariaDB, "", "0-100-5,1-100-2", 7},
		{"two domains", flavor.MariaDB, "0-100-5,1-100-7", "0-100-9,1-100-8", 5},
		{"ahead in one domain", flavor.MariaDB, "0-101-9,1-100-7", "0-100-5,1-100-8", 1},
		{"the newest of a binlog state", flavor.MariaDB, "0-101-3,0-100-5", "0-101-3,0-100-9", 4},
	} {
		t.Run(string(tt.f)+", "+tt.name, func(t *testing.T) {
			have, errHave := gtid.Parse(tt.f, tt.have)
			source, errSource := gtid.Parse(tt.f, tt.source)
			if errHave != nil || errSource != nil {
				t.Fatal(errHave, errSource)
			}
			if got := have.Behind(source); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
