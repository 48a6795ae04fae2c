package wire

import (
	"slices"
	"testing"
	"time"
)

// A stream goes only where the diagram has an arrow; what is refused changes nothing.
func TestStates(t *testing.T) {
	arrows := map[state][]state{
		starting: {attached, settled}, attached: {detached}, detached: {attached, settled}, settled: {forgotten},
	}
	for from := starting; from <= forgotten; from++ {
		for to := starting; to <= forgotten; to++ {
			o := &outgoing{state: from, grace: time.Hour, expired: func() {}, ring: newReplay(1, 1)}
			want := from
			legal := slices.Contains(arrows[from], to)
			if legal {
				want = to
			}
			if got := o.enter(to); got != legal || o.state != want {
				t.Errorf("%d to %d: %v, is %d", from, to, got, o.state)
			}
			if waits := o.timer != nil; waits != (legal && (to == detached || to == settled)) {
				t.Errorf("%d to %d: grace runs: %v", from, to, waits)
			}
			if (o.ring == nil) != (o.state == forgotten && legal) {
				t.Errorf("%d to %d: the bytes are still there: %v", from, to, o.ring != nil)
			}
			o.stopTimer()
		}
	}
}
