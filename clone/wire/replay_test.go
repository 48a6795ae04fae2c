package wire

import "testing"

// A report may be here before the donor knows that its write was done. It counts all the same: the
// joiner does not repeat it, and may wait for what comes after it.
func TestReportOvertakesTheWrite(t *testing.T) {
	const keep, ahead = 64, 64
	r := newReplay(keep, ahead)
	put := func(n int) {
		t.Helper()
		for n > 0 {
			p, err := r.space(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			r.commit(len(p))
			n -= len(p)
		}
	}
	put(keep + ahead)
	r.confirm(0)
	p, err := r.next(t.Context(), keep)
	if err != nil || len(p) != keep {
		t.Fatal(len(p), err)
	}
	r.confirm(keep) // all of it has arrived
	r.take(keep)
	if !r.ready() {
		t.Error("the donor waits for a report that it has had")
	}
	r.confirm(1 << 40) // and no joiner has what was not made
	if n := r.available(); n != ahead {
		t.Errorf("%d bytes may leave, want %d", n, ahead)
	}
}
