package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/replicate/gtid"
)

// Forecast says what an election would do now, without the leader.
type Forecast struct {
	// Possible says that Heir would lead.
	Possible bool
	Heir     string
	// After is how long an election would wait, as the last terms were short.
	After time.Duration
	// Reason says why, for people.
	Reason string
}

// String is the forecast in one line.
func (f Forecast) String() string {
	switch {
	case f.Possible && f.After > 0:
		return fmt.Sprintf("failover: possible, to %s, but not for another %.0f s: the last terms were short", f.Heir, f.After.Seconds())
	case f.Possible:
		return "failover: possible, to " + f.Heir
	}
	return "failover: not possible: " + f.Reason
}

// Sight is what a leader sees of the other members.
type Sight struct {
	// Reports are what they would report, of those whose servers answer.
	Reports []Report
	// Troubles say what is wrong with the others, as far as it is known.
	Troubles map[string]string
	// Position is what the leader's server has.
	Position string
}

// Foresee says whether an election would succeed now if the leader were gone, its server and its
// data, and why not. r is the record of an opened term. It is Decide, of reports that bind nobody.
func Foresee(r Record, s Sight, maxLag time.Duration) Forecast {
	election := r.Seek("")
	var reports []Report
	for _, report := range s.Reports {
		if report.Member == r.Last.Member {
			continue
		}
		report.Term = election.Term
		reports = append(reports, report)
	}
	others := slices.DeleteFunc(slices.Clone(r.Members), func(m string) bool { return m == r.Last.Member })
	if len(others) == 0 {
		return Forecast{Reason: r.Last.Member + " is the only member"}
	}
	e := Decide(election, reports, maxLag)
	switch e.Step {
	case Elect, Fetch:
		return Forecast{Possible: true, Heir: e.Heir, Reason: e.Reason}
	case Refuse:
		return Forecast{Reason: e.Reason}
	}
	// Await: what is missing, by member.
	var why []string
	for _, m := range others {
		if text := r.lacking(s, m); text != "" {
			why = append(why, text)
		}
	}
	if len(why) == 0 || len(r.Acknowledgers) == 0 && r.Mode != Off {
		why = append([]string{e.Reason}, why...)
	}
	return Forecast{Reason: strings.Join(why, "; ")}
}

// lacking says why a member could not report, or not as an acknowledger, or not lead; empty: it
// could.
func (r Record) lacking(s Sight, member string) string {
	i := slices.IndexFunc(s.Reports, func(report Report) bool { return report.Member == member })
	if i < 0 {
		if trouble := s.Troubles[member]; trouble != "" {
			return member + ": " + trouble
		}
		return member + " does not answer"
	}
	report := s.Reports[i]
	m, err := r.Ledger.Measure(report.Has)
	if err != nil {
		return fmt.Sprintf("what %s has cannot be read", member)
	}
	var all []string
	if a, named := r.acknowledger(member); named && a.Receipt != report.Receipt {
		all = append(all, "was restarted")
	}
	if n := r.Behind(report.Has, s.Position); n > 0 && len(all) > 0 {
		all = append(all, fmt.Sprintf("is %d transactions behind", n))
	}
	if why := (ballot{Report: report, Measured: m}).why(); why != "" {
		all = append(all, "may not lead ("+why+")")
	}
	if len(all) == 0 {
		return ""
	}
	return member + " " + strings.Join(all, " and ")
}

// Behind is how many transactions of position a member lacks; 0 where that cannot be read.
func (r Record) Behind(has, position string) uint64 {
	h, err := gtid.Parse(r.Ledger.Flavor, has)
	if err != nil {
		return 0
	}
	p, err := gtid.Parse(r.Ledger.Flavor, position)
	if err != nil {
		return 0
	}
	return h.Behind(p)
}
