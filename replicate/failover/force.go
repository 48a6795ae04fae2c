package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// forcedNamings is more than the changes of acknowledgers that a record can lack.
const forcedNamings = 1 << 32

// Force is the record with which a person makes a member the heir of a term without the reports that
// an election needs. Its naming is a later one than any volume has seen, also where this record is an
// old one.
func (r Record) Force(term uint64, heir string) Record {
	r.Term, r.Phase, r.Holder, r.Forced = term, Heir, heir, term
	r.Naming += forcedNamings
	if !slices.Contains(r.Members, heir) { // it was scaled away, and has come back to a set without a leader
		r.Members = append(slices.Clone(r.Members), heir)
	}
	return r
}

// readyForced is Ready in such a term: the heir has executed all that it has itself.
func (r Record) readyForced(ballots []ballot, heir string) string {
	for _, b := range ballots {
		if b.Member != heir {
			continue
		}
		m, err := r.Ledger.Measure(b.Executed)
		if err != nil {
			return fmt.Sprintf("what %s has executed cannot be read: %v", heir, err)
		}
		if lacks := m.Lacks(b.Extent); lacks != "" {
			return fmt.Sprintf("%s has not executed %s", heir, lacks)
		}
		return ""
	}
	return heir + " has not reported"
}

// Loss says, line by line, what of the set's transactions may be lost for good when a member leads
// without the reports that an election needs; empty: nothing. others are what the members say that
// answer, silent those that do not. What nobody who answers has cannot be named one by one: the
// ledger tells of whom it would be, and after what.
func Loss(r Record, own Report, others []Report, silent []string) ([]string, error) {
	r = r.Heeding(append([]Report{own}, others...))
	has, err := r.Ledger.Measure(own.Has)
	if err != nil {
		return nil, fmt.Errorf("what %s has cannot be read: %w", own.Member, err)
	}
	var lines []string
	if has.Errant != "" {
		lines = append(lines, fmt.Sprintf("%s has %s, which no leader has committed: it becomes part of the set", own.Member, has.Errant))
	}
	if r.led(own) {
		return lines, nil // it has all that it ever acknowledged
	}
	for _, o := range others {
		m, err := r.Ledger.Measure(o.Has)
		if err != nil {
			return nil, fmt.Errorf("what %s has cannot be read: %w", o.Member, err)
		}
		if lacks := has.Lacks(m.Extent); lacks != "" {
			lines = append(lines, fmt.Sprintf("%s has %s, which %s lacks: lost", o.Member, lacks, own.Member))
		}
	}
	_, unheard := r.quorum(r.heard(own, others))
	if r.Mode == Off && len(silent) > 0 {
		unheard = "no commit has waited for a replica"
	}
	if unheard == "" {
		return lines, nil
	}
	for _, m := range silent {
		role := ""
		if _, named := r.acknowledger(m); named {
			role = ", and may alone have acknowledged commits"
		}
		if m == r.Last.Member {
			role = fmt.Sprintf(", and led term %d", r.Last.Term)
		}
		lines = append(lines, fmt.Sprintf("%s does not answer%s", m, role))
	}
	return append(lines, unheard, r.beyond(own)), nil
}

// heard are ballots of what members say of themselves.
func (r Record) heard(own Report, others []Report) (ballots []ballot) {
	for _, b := range append([]Report{own}, others...) {
		m, err := r.Ledger.Measure(b.Has)
		if err != nil {
			continue // Loss has seen it
		}
		ballots = append(ballots, ballot{b, m, r.valid(b)})
	}
	return ballots
}

// beyond says what the last leader may have committed that nobody who answers has.
func (r Record) beyond(own Report) string {
	last := r.Ledger.Terms[len(r.Ledger.Terms)-1]
	upTo := own.Has
	if h, err := gtid.Parse(r.Ledger.Flavor, own.Has); err == nil && r.Ledger.Flavor == flavor.MySQL {
		mine, _ := h.Split(func(server string) bool { return strings.EqualFold(server, last.Server) })
		upTo = mine.Text()
	}
	return fmt.Sprintf("of what %s committed in term %d, under %s, %s has %s: all else of it is lost, also what clients were told is committed",
		r.Last.Member, r.Last.Term, last.Server, own.Member, cmp.Or(upTo, "nothing"))
}
