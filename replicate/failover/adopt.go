package failover

import (
	"errors"
	"slices"
	"strings"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// What a leader of MySQL has executed under other names than its own, as somebody has replayed a binary
// log with its GTIDs, is acknowledged like any other commit, and becomes the set's history: the leader
// adds it to the beginning of its term. Until that is in the Lease, the ledger calls it errant.

// Adopt is the record whose last term begins with these transactions, too. The error says why a
// ledger cannot have them.
func (r Record) Adopt(transactions string) (Record, error) {
	if r.Ledger.Flavor != flavor.MySQL {
		return r, errors.New("MariaDB's ledger knows one domain, and the leaders' ids")
	}
	l, err := r.Ledger.adopt(transactions)
	if err != nil {
		return r, err
	}
	r.Ledger = l
	r.Naming++ // a later record than the one without
	_, err = r.Encode()
	return r, err
}

func (l Ledger) adopt(transactions string) (Ledger, error) {
	last := len(l.Terms) - 1
	begins, err := gtid.ParseSet(l.Terms[last].Begins)
	if err != nil {
		return l, err
	}
	more, err := gtid.ParseSet(transactions)
	if err != nil {
		return l, err
	}
	l.Terms = slices.Clone(l.Terms)
	l.Terms[last].Begins = begins.Union(more).String()
	return l, nil
}

// Foreign is what an open leader has executed, or is about to, under other names than its own, and has
// not adopted; position is what it has.
func (r Record) Foreign(position string) string {
	m, err := r.Ledger.Measure(position)
	if err != nil {
		return ""
	}
	return m.Errant
}

// Adopted is the record that has all that the leader has, as far as a ledger can: what a closed leader
// gives away, so that the next one has it, too.
func (r Record) Adopted(position string) Record {
	if foreign := r.Foreign(position); foreign != "" {
		if next, err := r.Adopt(foreign); err == nil {
			return next
		}
	}
	return r
}

// Surplus is what a member has that neither the ledger nor its open leader has: it was there before the
// member followed, or somebody has written it there. A member that has any is not to be named: what an
// acknowledger has counts as its leader's, see Heeding. position is what the leader has, looked at
// after the member has answered.
func (r Record) Surplus(has, position string) string {
	member, leader := r.Foreign(has), r.Foreign(position)
	if r.Ledger.Flavor != flavor.MySQL {
		if leader != "" { // which of it the member has cannot be told
			return ""
		}
		return member
	}
	beyond, err := gtid.ParseSet(member)
	if err != nil {
		return member
	}
	own, err := gtid.ParseSet(leader)
	if err != nil {
		return member
	}
	return beyond.Subtract(own).String()
}

// Heeding is the record as an election has to take it, whose last leader may have died before it could
// adopt what it had executed: the ledger has that, too, as far as it can be told from reports. The last
// leader's own data have all of it, and nothing else. Without them, an acknowledger whose entry is not
// void tells of it: it had none when it was named, and has received from that leader alone since, unless
// another data directory has taken its place; what bears the name of its own server it has logged itself.
func (r Record) Heeding(reports []Report) Record {
	if r.Ledger.Flavor != flavor.MySQL {
		return r
	}
	if i := slices.IndexFunc(reports, r.led); i >= 0 {
		reports = reports[i : i+1]
	}
	ledger := r.Ledger
	for _, b := range reports {
		if !r.led(b) && (!r.valid(b) || !strings.EqualFold(b.Upstream, r.Last.Data)) {
			continue
		}
		foreign, err := gtid.Parse(flavor.MySQL, r.Foreign(b.Has))
		if err != nil {
			continue
		}
		_, received := foreign.Split(func(server string) bool { return strings.EqualFold(server, b.Data) })
		if l, err := ledger.adopt(received.Text()); err == nil {
			ledger = l
		}
	}
	r.Ledger = ledger
	return r
}

// Elect is the record in which the holder of an election makes a member the heir that was found by
// reports, with the ledger that they were counted by. foreign is what that has more; empty: nothing.
func (r Record) Elect(heir string, reports []Report) (next Record, foreign string) {
	next = r.Heeding(reports)
	if begins := next.Ledger.begins(); begins != r.Ledger.begins() {
		next.Naming++ // a later record than the one without
		foreign = r.Foreign(begins)
	}
	return next.Choose(heir), foreign
}

// begins is where the last term begins.
func (l Ledger) begins() string {
	if len(l.Terms) == 0 {
		return ""
	}
	return l.Terms[len(l.Terms)-1].Begins
}
