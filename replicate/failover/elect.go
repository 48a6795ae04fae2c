package failover

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/replicate/guard"
)

// Report is what a member says that it has, for one election. Before it answers, it has
// written down that it takes part in that term, has stopped receiving, and writes for no older
// term: so what it says stays true until a later term is opened.
type Report struct {
	Member string
	// Term is the term it was made for.
	Term uint64
	// Seen is the highest term that the volume has seen, Record the newest record that it keeps.
	Seen   uint64
	Record string
	// Receipt and Data are as in Acknowledger and Leader.
	Receipt, Data string
	// Upstream is the data directory of the server that it has received from last, as Leader has it;
	// empty: that is not known.
	Upstream string
	// Has is what it has executed and received; Executed is what it has executed: see
	// Ledger.Measure.
	Has, Executed string
	// Barred says why it may not lead, beside what its history says: it is paused, delayed,
	// being cloned, or was told never to lead.
	Barred string
	// Unfenced says that nobody could end its server, so that it may not lead; it may acknowledge.
	Unfenced string
	// Serves says that others can receive from it.
	Serves bool
	// Healthy says that nothing else is wrong with it: such members are preferred.
	Healthy bool
	// Ordinal breaks ties: the lower one is preferred.
	Ordinal int
	// Lag is by how much it was behind what the last leader told of itself; less than 0: that is not
	// known. It counts in mode off.
	Lag time.Duration
}

// ElectionStep says what the holder of an election does next.
type ElectionStep string

const (
	// Refuse means that this election cannot succeed: the holder releases the Lease.
	Refuse ElectionStep = "refuse"
	// Await means that reports are missing: the holder asks on.
	Await ElectionStep = "await"
	// Elect means that the heir has all that has to be kept.
	Elect ElectionStep = "elect"
	// Fetch means that the heir first receives what it lacks from another member.
	Fetch ElectionStep = "fetch"
)

// Election is what Decide says.
type Election struct {
	Step ElectionStep
	// Heir is who is to lead. Of Fetch, From is who has what it lacks.
	Heir, From string
	// For are the members for whose reports the election waits.
	For []string
	// Reason says why, for people.
	Reason string
}

// ballot is a report and what the ledger says of it.
type ballot struct {
	Report
	Measured
	valid bool // an acknowledger whose entry is not void
}

func (b ballot) mayLead() bool { return b.why() == "" }

func (b ballot) why() string {
	switch {
	case b.Old:
		return "its history is older than the ledger"
	case b.Errant != "":
		return "it has errant transactions " + b.Errant
	}
	return cmp.Or(b.Barred, b.Unfenced)
}

// Decide says who becomes the heir. It looks at nothing but its arguments. maxLag bounds Lag in
// mode off; 0: it does not. The first row that matches counts:
//
//	what is seen                                                     step
//	---------------------------------------------------------------  -------
//	the record is no election                                        Refuse
//	a volume has seen a later record: the Lease went back            Refuse
//	a report is unreadable                                           Refuse
//	failover is forbidden, and no report of the last leader¹         Refuse
//	not off: no acknowledger, and no report of the last leader¹      Await
//	not off: too few acknowledgers, no report of the last leader¹²   Await
//	nobody who reports may lead                                      Await
//	one who may lead has all, mode off, and was too far behind        Refuse
//	one who may lead has all that the reports have³                  Elect
//	what he lacks is with a member that serves³                      Fetch
//	else                                                             Await
//
// ¹ the last leader's report counts only with the data directory that it opened with: it holds
// all that it ever acknowledged. A member of its name with another directory is any member.
//
// ² of A acknowledgers, of which k hold each acknowledged commit, A-k+1 have to report: then one
// of them holds it. An entry counts in A as long as the Lease names it. It reports only with
// the receipt that the Lease names: with another one it may have lost relay logs.
//
// ³ all: the union of the set's own transactions in all reports, also of members that may not
// lead. A member with errant transactions does not serve, as these would come along. Where
// failover is forbidden, the last leader alone may lead: its server may have been restarted.
//
// What an acknowledger, or the last leader, has under other names counts as the set's: see Heeding.
func Decide(r Record, reports []Report, maxLag time.Duration) Election {
	return r.Heeding(reports).decide(reports, maxLag)
}

func (r Record) decide(reports []Report, maxLag time.Duration) Election {
	if r.Phase != Electing && r.Phase != Heir {
		return Election{Step: Refuse, Reason: fmt.Sprintf("term %d is %s", r.Term, r.Phase)}
	}
	ballots, refused := r.count(reports)
	switch {
	case refused != "":
		return Election{Step: Refuse, Reason: refused}
	case r.NoFailover != "" && !r.leaderReports(ballots):
		return Election{Step: Refuse, Reason: r.forbids()}
	}
	if missing, reason := r.quorum(ballots); reason != "" {
		return Election{Step: Await, For: missing, Reason: reason}
	}
	return r.choose(ballots, maxLag)
}

// Ready says why an heir may not open yet, empty when it may: reports are fresh ones, its own
// among them, that it collected itself after it was chosen; what it has executed has to contain
// all that is in them. What it was chosen for may be gone: its server may have restarted since. In a
// term that a person has forced, what it has itself is enough.
func Ready(r Record, reports []Report, heir string) string {
	return r.Heeding(reports).ready(reports, heir)
}

func (r Record) ready(reports []Report, heir string) string {
	ballots, refused := r.count(reports)
	if refused != "" {
		return refused
	}
	if r.Forced == r.Term {
		return r.readyForced(ballots, heir)
	}
	if _, reason := r.quorum(ballots); reason != "" {
		return reason
	}
	var all, executed Extent
	for _, b := range ballots {
		all = all.Union(b.Extent)
		if b.Member != heir {
			continue
		}
		m, err := r.Ledger.Measure(b.Executed)
		if err != nil || !b.mayLead() {
			return fmt.Sprintf("%s may not lead: %s", heir, b.why())
		}
		executed = m.Extent
	}
	if lacks := executed.Lacks(all); lacks != "" && !guard.Lacks(guard.Drained) {
		return fmt.Sprintf("%s has not executed %s", heir, lacks)
	}
	return ""
}

// count leaves out what is no report for this election, and measures the others.
func (r Record) count(reports []Report) (ballots []ballot, refused string) {
	for _, report := range reports {
		if report.Seen > r.Term {
			return nil, fmt.Sprintf("%s has seen term %d, and the Lease says %d: it was deleted or restored", report.Member, report.Seen, r.Term)
		}
		if kept, err := report.kept(); err != nil {
			return nil, err.Error()
		} else if kept != nil && kept.Naming > r.Naming {
			return nil, fmt.Sprintf("%s has seen naming %d, and the Lease says %d: it was restored", report.Member, kept.Naming, r.Naming)
		}
		if report.Term != r.Term || !slices.Contains(r.Members, report.Member) {
			continue
		}
		m, err := r.Ledger.Measure(report.Has)
		if err != nil {
			return nil, fmt.Sprintf("what %s has cannot be read: %v", report.Member, err)
		}
		ballots = append(ballots, ballot{report, m, r.valid(report)})
	}
	return ballots, ""
}

// led says that a report is of the last leader, with the data that it led with.
func (r Record) led(b Report) bool { return b.Member == r.Last.Member && b.Data == r.Last.Data }

// leaderReports says that the last leader does, with those data.
func (r Record) leaderReports(ballots []ballot) bool {
	return slices.ContainsFunc(ballots, func(b ballot) bool { return r.led(b.Report) })
}

// valid says that a report is of an acknowledger with the relay logs that it was named with.
func (r Record) valid(b Report) bool {
	a, named := r.acknowledger(b.Member)
	return named && a.Receipt == b.Receipt
}

// forbids says who forbids elections.
func (r Record) forbids() string { return "failover is forbidden: " + r.NoFailover }

// quorum says whose reports are missing; an empty reason: there are enough.
func (r Record) quorum(ballots []ballot) (missing []string, reason string) {
	if r.Mode == Off || r.leaderReports(ballots) || guard.Lacks(guard.Quorum) {
		return nil, ""
	}
	if len(r.Acknowledgers) == 0 {
		return []string{r.Last.Member}, fmt.Sprintf("no acknowledger is named: only %s has all acknowledged commits", r.Last.Member)
	}
	valid := 0
	for _, a := range r.Acknowledgers {
		if slices.ContainsFunc(ballots, func(b ballot) bool { return b.Member == a.Member && b.valid }) {
			valid++
			continue
		}
		missing = append(missing, a.Member)
	}
	need := len(r.Acknowledgers) - r.Acknowledgments + 1
	if valid >= need && need > 0 {
		return nil, ""
	}
	return append(missing, r.Last.Member), fmt.Sprintf("%d of %d acknowledgers report with the relay logs that they were named with, and %d are needed, or %s itself",
		valid, len(r.Acknowledgers), need, r.Last.Member)
}

// choose picks the heir.
func (r Record) choose(ballots []ballot, maxLag time.Duration) Election {
	var all Extent
	var heir *ballot
	var barred []string
	for i, b := range ballots {
		all = all.Union(b.Extent)
		why := b.why()
		if why == "" && r.NoFailover != "" && !r.led(b.Report) {
			why = r.forbids()
		}
		if why != "" {
			barred = append(barred, b.Member+": "+why)
			continue
		}
		if heir == nil || b.before(*heir) {
			heir = &ballots[i]
		}
	}
	if heir == nil {
		return Election{Step: Await, For: r.absent(ballots), Reason: strings.Join(append([]string{"no member that reports may lead"}, barred...), "; ")}
	}
	lacks := heir.Lacks(all)
	if lacks == "" {
		if why := r.tooFar(*heir, maxLag); why != "" {
			return Election{Step: Refuse, Reason: why}
		}
		return Election{Step: Elect, Heir: heir.Member, Reason: heir.Member + " has all that the reports have"}
	}
	if from := sender(ballots, *heir, all); from != nil {
		return Election{Step: Fetch, Heir: heir.Member, From: from.Member, Reason: fmt.Sprintf("%s lacks %s, which %s has", heir.Member, lacks, from.Member)}
	}
	return Election{Step: Await, For: r.absent(ballots), Reason: strings.Join(append([]string{fmt.Sprintf("%s lacks %s, and no member that has it can send it", heir.Member, lacks)}, barred...), "; ")}
}

// tooFar says why an heir in mode off lacks more than is allowed; empty: it does not. The last leader
// itself lacks nothing.
func (r Record) tooFar(heir ballot, maxLag time.Duration) string {
	const goOn = "bring the last leader back, or see understudy promote"
	switch {
	case r.Mode != Off || maxLag <= 0 || r.led(heir.Report):
		return ""
	case heir.Lag < 0:
		return fmt.Sprintf("how far %s was behind is not known, and --failover-max-lag allows %s; %s", heir.Member, maxLag, goOn)
	case heir.Lag > maxLag:
		return fmt.Sprintf("%s was behind by %s, and --failover-max-lag allows %s; %s", heir.Member, heir.Lag.Round(100*time.Millisecond), maxLag, goOn)
	}
	return ""
}

// before says that b is to be preferred: it has more, is healthier, or has the lower ordinal.
func (b ballot) before(c ballot) bool {
	switch more, less := b.Contains(c.Extent), c.Contains(b.Extent); {
	case more != less:
		return more
	case b.Healthy != c.Healthy:
		return b.Healthy
	}
	return b.Ordinal < c.Ordinal
}

// absent are the registered members without a report.
func (r Record) absent(ballots []ballot) []string {
	return slices.DeleteFunc(slices.Clone(r.Members), func(m string) bool {
		return slices.ContainsFunc(ballots, func(b ballot) bool { return b.Member == m })
	})
}
