package failover

import (
	"strings"
	"testing"
)

// ofLeader is a report of an acknowledger that has received from the last leader alone.
func ofLeader(r *Report) { r.Upstream = uuidA }

// ledByA is an election after a leader whose data directory is uuidA, with two acknowledgers.
func ledByA(changes ...func(*Record)) Record {
	r := record(changes...)
	r.Last.Data = uuidA
	return r
}

// A commit under another server's name, which its leader had no time to adopt, is acknowledged like any
// other: who lacks it is not elected, and who has it may be.
func TestElectionHeedsWhatWasNotAdopted(t *testing.T) {
	const uuidC = "00000003-0000-0000-0000-000000000001"
	less := report("db-1", "r1", uuidA+":1-11", ofLeader)
	has := uuidA + ":1-11," + uuidB + ":1"
	for _, tt := range []struct {
		name   string
		record Record
		more   Report
		want   string
	}{
		{"an acknowledger has it", ledByA(), report("db-2", "r2", has, ofLeader), "db-2"},
		{"the last leader has it", ledByA(noneNamed), report("db-0", "", has, func(r *Report) { r.Data = uuidA }), "db-0"},
		{"its entry is void", ledByA(), report("db-2", "r3", has, ofLeader), ""},
		{"it has received from another server since", ledByA(), report("db-2", "r2", has, func(r *Report) { r.Upstream = uuidC }), "db-1"},
		{"it is its own", ledByA(), report("db-2", "r2", has, ofLeader, ofDataB), "db-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			reports := []Report{less, tt.more}
			if e := Decide(tt.record, reports, 0); e.Heir != tt.want {
				t.Errorf("%+v, want %q", e, tt.want)
			}
			heir := tt.record.Choose(tt.want)
			if why := Ready(heir, reports, tt.want); (why == "") != (tt.want != "") {
				t.Errorf("ready: %q", why)
			}
		})
	}
	if lost, err := Loss(ledByA(), less, []Report{report("db-2", "r2", has, ofLeader)}, nil); err != nil || !strings.Contains(strings.Join(lost, " "), "db-2 has "+uuidB+":1") {
		t.Errorf("promote does not tell of it: %q, %v", lost, err)
	}
	if why := MayOpen("db-0", Record{
		Term: 4, Phase: Opened, Holder: "db-0", Last: Leader{4, "db-0", uuidA}, Ledger: opened().Ledger,
	}, Volume{Seen: 4, Data: uuidA}, has); why != "" {
		t.Errorf("the leader itself does not go on: %s", why)
	}
}

// A member is named that has nothing beyond the ledger but what its leader is about to adopt.
func TestSurplus(t *testing.T) {
	r := opened()
	for _, tt := range []struct{ has, position, want string }{
		{uuidA + ":1-10", uuidA + ":1-12", ""},
		{uuidA + ":1-10," + uuidB + ":1", uuidA + ":1-12," + uuidB + ":1-2", ""},
		{uuidA + ":1-10," + uuidB + ":1-3", uuidA + ":1-12," + uuidB + ":1-2", uuidB + ":3"},
	} {
		if got := r.Surplus(tt.has, tt.position); got != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.has, tt.position, got, tt.want)
		}
	}
}

// The last leader's own data tell all that it had executed: what an acknowledger has beyond that,
// somebody has written there.
func TestElectionHeedsTheLastLeaderAlone(t *testing.T) {
	leader := report("db-0", "", uuidA+":1-12", func(r *Report) { r.Data = uuidA })
	odd := report("db-2", "r2", uuidA+":1-12,"+uuidB+":1", ofLeader)
	if r := ledByA().Heeding([]Report{odd, leader}); r.Foreign(odd.Has) == "" {
		t.Errorf("it is the set's: %+v", r.Ledger)
	}
	next, foreign := ledByA().Elect("db-2", []Report{odd})
	if foreign != uuidB+":1" || next.Naming != ledByA().Naming+1 || next.Holder != "db-2" {
		t.Errorf("%q, %+v", foreign, next)
	}
	if next, foreign = ledByA().Elect("db-2", nil); foreign != "" || next.Naming != ledByA().Naming {
		t.Errorf("nothing is new: %q, %+v", foreign, next)
	}
}
