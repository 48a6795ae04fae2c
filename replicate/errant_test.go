package replicate

import (
	"testing"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// What a primary that lost its volume, or is about to catch up, lacks is no reason to give it no
// copy.
func TestInCopies(t *testing.T) {
	const primary, own = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
	mysql := Facts{ServerUUID: own, ServerID: 101}
	mariadb := Facts{ServerID: 101}
	for _, tt := range []struct {
		name          string
		f             Facts
		flavor        flavor.Flavor
		has, source   string
		readOnly, any bool
	}{
		{"mysql: a primary that catches up", mysql, flavor.MySQL, primary + ":1-9", primary + ":1-7", true, false},
		{"mysql: our own, and the primary catches up", mysql, flavor.MySQL, primary + ":1-9," + own + ":1", primary + ":1-7", true, true},
		{"mysql: an open primary", mysql, flavor.MySQL, primary + ":1-9", primary + ":1-7", false, true},
		{"mysql: nothing", mysql, flavor.MySQL, primary + ":1-7", primary + ":1-9", false, false},
		{"mariadb: a primary that catches up", mariadb, flavor.MariaDB, "0-100-9", "0-100-7", true, false},
		{"mariadb: our own", mariadb, flavor.MariaDB, "0-101-9", "0-100-7", true, true},
		{"mariadb: an open primary", mariadb, flavor.MariaDB, "0-100-9", "0-100-7", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			has, err := gtid.Parse(tt.flavor, tt.has)
			if err != nil {
				t.Fatal(err)
			}
			source, err := gtid.Parse(tt.flavor, tt.source)
			if err != nil {
				t.Fatal(err)
			}
			if got := inCopies(has.Errant(source), identity{readOnly: tt.readOnly}, tt.f); (got != "") != tt.any {
				t.Errorf("%q, want any: %v", got, tt.any)
			}
		})
	}
}
