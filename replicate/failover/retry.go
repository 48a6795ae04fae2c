package failover

import (
	"fmt"
	"strings"
	"time"
)

// retryMost bounds the wait between two elections of which no term was opened.
const retryMost = time.Minute

// Retry is how long a member waits before it elects again, after a number of elections in a row
// that opened no term: the first one costs nothing, then it doubles, up to a minute. Members with
// neighbouring ordinals wait for different times, so that they do not meet.
func (t Timings) Retry(failed uint64, ordinal int) time.Duration {
	if failed < 2 {
		return 0
	}
	return min(t.Electing/2<<min(failed-2, 10), retryMost) + time.Duration(ordinal%8)*t.Report/4
}

// failed is how many elections since the last opened term have opened none, if the one that the
// record speaks of is over.
func (r Record) failed() uint64 {
	if r.Phase == Opened {
		return 0
	}
	return r.Term - r.Last.Term
}

// Led says that the record names a leader, which may be dead.
func (r Record) Led() bool { return r.Phase == Opened && r.Holder != "" }

// Foretell says what an election would come to now, by what the members say of themselves when
// nothing binds them: each report is for the term after this one. enough says that a candidate need
// not wait any longer, Retry or not: where the last election had no heir, that there is one, and
// where an heir has not opened, that one could do so at once.
func Foretell(r Record, candidate string, reports []Report, maxLag time.Duration) (e Election, enough bool) {
	next := r.Seek(candidate)
	e = Decide(next, reports, maxLag)
	switch {
	case e.Step == Fetch:
		return e, r.Phase != Heir
	case e.Step != Elect:
		return e, false
	}
	return e, r.Phase != Heir || Ready(next, reports, e.Heir) == ""
}

// String says for people what the election waits for.
func (e Election) String() string {
	if len(e.For) == 0 {
		return e.Reason
	}
	return fmt.Sprintf("it waits for %s: %s", strings.Join(e.For, ", "), e.Reason)
}
