//go:build full

package failover

import (
	"flag"
	"testing"

	"understudy/replicate/flavor"
)

var mutantRuns = flag.Uint64("simulation.mutants", 20000, "most runs without one guard")

// Each guard is needed: without it, the simulation finds a fault by chance, or a script does.
func TestSimulationFindsWhatEachGuardPrevents(t *testing.T) {
	tests := []struct {
		without mutant
		flavor  flavor.Flavor
		mode    Mode
		clocks  bool
	}{
		{barDoesNothing, flavor.MySQL, Required, false},
		{barDoesNotCut, flavor.MySQL, Required, false},
		{recoverUnwaited, flavor.MySQL, Preferred, false},
		{degradeUntold, flavor.MySQL, Preferred, false},
		{unknownIsDone, flavor.MySQL, Preferred, false},
		{emptyAsksNobody, flavor.MySQL, Preferred, false},
		{oneAcknowledgerIsEnough, flavor.MySQL, Required, false},
		{voidCounts, flavor.MySQL, Required, false},
		{oldLeaderByName, flavor.MySQL, Preferred, false},
		{reportsDoNotBind, flavor.MySQL, Required, false},
		{chosenMeansReady, flavor.MySQL, Required, false},
		{openUndrained, flavor.MySQL, Required, false},
		{openKeepsTheSet, flavor.MySQL, Required, false},
		{dropTailEarly, flavor.MariaDB, Required, false},
		{leaseWentBack, flavor.MySQL, Preferred, false},
		{noTimer, flavor.MySQL, Off, true},
		{anybodyVouches, flavor.MySQL, Required, false},
	}
	if n := len(tests) + len(scripts); n != 41 {
		t.Errorf("%d mutants, and docs/failover.md says 41", n)
	}
	for _, tt := range tests {
		t.Run(string(tt.without), func(t *testing.T) {
			t.Parallel()
			for i := range *mutantRuns {
				w := newWorld(*simSeed+i, tt.flavor, tt.without, tt.mode, tt.clocks)
				if fault := w.run(*simSteps); fault != "" {
					t.Logf("run %d: %s", i+1, w.fault)
					return
				}
			}
			t.Errorf("no fault in %d runs", *mutantRuns)
		})
	}
}
