package failover

import (
	"flag"
	"fmt"
	"testing"

	"understudy/replicate/flavor"
)

// mutant is a guard that the simulation leaves out.
type mutant string

const (
	barDoesNothing          mutant = "a member that is removed is not barred"
	barDoesNotCut           mutant = "a member that is removed is barred, and its connection is left"
	removeUnmarked          mutant = "the position is taken before the member is barred"
	recoverUnwaited         mutant = "the first acknowledger is named by a position that was taken before commits waited"
	degradeUntold           mutant = "waiting stops before the Lease says so"
	unknownIsDone           mutant = "a write to the Lease whose answer is lost counts as landed"
	emptyAsksNobody         mutant = "an empty set asks nobody"
	oneAcknowledgerIsEnough mutant = "one acknowledger's report is enough"
	voidCounts              mutant = "an acknowledger counts after a restart"
	oldLeaderByName         mutant = "the last leader counts with another data directory"
	reportsDoNotBind        mutant = "a member goes on receiving after its report"
	nameUnchecked           mutant = "a report is not checked for the member's name"
	chosenMeansReady        mutant = "an heir does not ask for reports itself"
	openUndrained           mutant = "an heir opens before it has applied what it received"
	openKeepsTheSet         mutant = "an heir opens with the acknowledgers that there were"
	heirInherits            mutant = "an heir does not bar the members that an earlier leader admitted"
	relaxUnasked            mutant = "a barred member is let in without having said that its side is off"
	staleNaming             mutant = "a member turns its side on by an older record than it was told of"
	sideByConfiguration     mutant = "a replica's side is on from its start"
	dropTailEarly           mutant = "an old leader drops its tail during an election"
	idOfMember              mutant = "a MariaDB leader keeps its member's server_id"
	leaseWentBack           mutant = "a Lease with a lower term is believed"
	noTimer                 mutant = "no timer ends a leader's server"
	countFromAnswer         mutant = "the permission counts from the answer"
	oneSilentIsEnough       mutant = "a round without one member's promise extends the permission"
	promisesDoNotBind       mutant = "a member seeks the Lease, and reports, although it promised to follow"
	reportsDespitePromise   mutant = "a member reports although it promised to follow"
	forgetsPromise          mutant = "a member forgets at a restart that it promised to follow"
	promiseFromAnswer       mutant = "the permission counts from when the last promise is heard"
	absolvesEarly           mutant = "a leader ends the promises before it is closed"
	foreignUnheeded         mutant = "an election calls errant what the last leader had not adopted yet"
	anybodyVouches          mutant = "whatever any member has becomes the set's history"
	surplusNamed            mutant = "a member is named that has more than its leader"
	strangersKept           mutant = "the set is left as it is while a stranger acknowledges"
	strangersNamed          mutant = "members are named while a stranger acknowledges"
	strayAdmitted           mutant = "a leader that names its first acknowledger bars registered members only"
	strayInherited          mutant = "an heir bars registered members only"
	othersUnawaited         mutant = "an acknowledger is removed before others have what it may have acknowledged"
	removedUnasked          mutant = "a member is not asked to follow whose removal may not have landed"
	mayNameNobody           mutant = "a member is not asked to follow that may have been registered"
	rollBackUnknown         mutant = "a switchover is rolled back while its compare-and-swap may still land"
)

var (
	simRuns  = flag.Int("simulation.runs", 60, "runs of the simulation for each flavour and mode")
	simSteps = flag.Int("simulation.steps", 1500, "steps of a run")
	simSeed  = flag.Uint64("simulation.seed", 1, "seed of the first run")
)

// With all guards no run shows a fault.
func TestSimulation(t *testing.T) {
	total := map[string]int{}
	for _, f := range []flavor.Flavor{flavor.MySQL, flavor.MariaDB} {
		for _, mode := range []Mode{Preferred, Required, Off} {
			for _, clocks := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %s clocks %v", f, mode, clocks), func(t *testing.T) {
					for i := range *simRuns {
						w := newWorld(*simSeed+uint64(i), f, "", mode, clocks)
						if fault := w.run(*simSteps); fault != "" {
							t.Fatalf("seed %d: %s", *simSeed+uint64(i), fault)
						}
						for k, v := range w.stats {
							total[k] += v
						}
						total["acknowledged"] += len(w.acked)
					}
				})
			}
		}
	}
	t.Log(total)
}
