package failover

import (
	"testing"

	"understudy/replicate/flavor"

	"github.com/google/go-cmp/cmp"
)

// A member without an applier has no receipt, as the leader before: it cannot be named.
func TestOpenNamesWhoHasAReceipt(t *testing.T) {
	const uuid, has = "3f2a0000-0000-0000-0000-000000000001", "3f2a0000-0000-0000-0000-000000000001:1-7"
	r := Record{
		Term: 2, Phase: Heir, Holder: "db-1", Mode: Preferred, Acknowledgments: 1, Naming: 3, Members: []string{"db-0", "db-1", "db-2"},
		Last:   Leader{Term: 1, Member: "db-0", Data: uuid},
		Ledger: Ledger{Flavor: flavor.MySQL, Terms: []Term{{Term: 1, Server: uuid}}},
	}
	m, err := r.Ledger.Measure(has)
	if err != nil {
		t.Fatal(err)
	}
	next := r.Open(Opening{
		Leader: Leader{Member: "db-1", Data: "d"}, Server: "3f2a0000-0000-0000-0000-000000000002", Begins: has, Has: m.Extent,
		Reports: []Report{{Member: "db-0", Term: 2, Executed: has}, {Member: "db-2", Term: 2, Executed: has, Receipt: "boot/applier"}},
	})
	if diff := cmp.Diff([]Acknowledger{{"db-2", "boot/applier"}}, next.Acknowledgers); diff != "" {
		t.Error(diff)
	}
	if _, err := next.Encode(); err != nil {
		t.Error(err)
	}
}

// Short terms in a row count, but not one that ended as planned, nor an election that opened none.
func TestShortTermsCount(t *testing.T) {
	opens := func(r Record) Record { return r.Choose("db-1").Open(Opening{Leader: Leader{Member: "db-1"}}) }
	r := opens(opened().Unplanned(true).Seek("db-1"))
	r = opens(r.Seek("db-1")) // planned
	r = opens(r.Release().Unplanned(true).Seek("db-2").Unplanned(true).Seek("db-1"))
	if r.Quick != 2 {
		t.Errorf("two short terms are %d", r.Quick)
	}
	if r = r.Unplanned(false); r.Quick != 0 {
		t.Errorf("a long term leaves %d", r.Quick)
	}
}
