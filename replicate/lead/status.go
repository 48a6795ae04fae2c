package lead

import (
	"fmt"
	"strings"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// Status is what a member knows of who leads.
type Status struct {
	// Record is the Lease's, with Term 0 where there is none that can be read.
	Record failover.Record
	// Part is what the member does in the term: it is the leader, heir, candidate or a follower.
	Part string
	// Age is the time since the last renewal was seen. Away is why the API server did not answer last.
	// Over says that it does, and that another leader's Lease has not been renewed for as long as it lasts.
	Age  time.Duration
	Over bool
	Away string
	// Lacking says, on the leader, which acknowledgers do not acknowledge now, and why.
	Lacking map[string]string
	// Degraded says that commits do not wait though the mode would have them wait.
	Degraded bool
	// Held is how many commits wait for a replica now.
	Held int
	// Strangers are, on the leader, replicas that acknowledge and are no members.
	Strangers []string
	// Permission is how much longer the leader may take writes; 0: it does not lead.
	Permission time.Duration
	// Forecast says what an election would do now. Only the leader knows: nil elsewhere.
	Forecast *failover.Forecast
	// Waits says why an election or a promotion that this member holds waits, or, where the set has no
	// leader, why an election would; empty: it does not.
	Waits string
	Counts
}

// Leads says that the member leads.
func (s Status) Leads() bool { return s.Part == string(leader) }

// Leader is who leads; empty: nobody.
func (s Status) Leader() string {
	if s.Record.Phase != failover.Opened || s.Over {
		return ""
	}
	return s.Record.Holder
}

// Status says what is known now. It asks nobody.
func (c *Controller) Status() Status {
	v := c.line.view()
	now := fence.Now()
	s, sight := c.standing(v, now)
	if s.Lacking != nil { // without the lock: renewals do not wait for arithmetic
		s.Forecast = c.foresee(v, sight)
	}
	return s
}

// standing is the status without the forecast, and on the leader what that is made of.
func (c *Controller) standing(v view, now time.Duration) (s Status, sight failover.Sight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s = Status{Part: string(c.part), Away: v.away, Held: c.state.Held, Counts: c.counts}
	if v.version != nil {
		s.Age = now - v.beatAt
		s.Over = v.away == "" && c.part != leader && s.Age >= c.Timings.Duration
	}
	if v.record == nil {
		return s, sight
	}
	s.Record, s.Degraded = *v.record, degraded(*v.record)
	switch {
	case c.part == leader:
		s.Permission = max(0, c.deadline-now)
		if c.leading != nil && s.Record.Phase == failover.Opened {
			s.Lacking, sight = c.lacking(s.Record, now), c.sight(now)
			s.Strangers = c.leading.strangers.told
		}
	case c.part != follower:
		s.Waits = c.waits
	case c.forecast != nil && !v.record.Led():
		s.Waits = c.forecast.says
	}
	return s, sight
}

// lacking are the acknowledgers that do not acknowledge now. c.mu is held.
func (c *Controller) lacking(r failover.Record, now time.Duration) map[string]string {
	all := map[string]string{}
	for _, a := range r.Acknowledgers {
		said, heard := c.leading.answers[a.Member]
		switch {
		case !heard || now-said.at >= told:
			all[a.Member] = "it does not answer"
		case said.Trouble != "":
			all[a.Member] = said.Trouble
		case said.Receipt != a.Receipt:
			all[a.Member] = "it was restarted"
		case said.Severed:
			all[a.Member] = "its receiver is not connected"
		case !said.Side || said.Follows != c.Name:
			all[a.Member] = "it does not acknowledge"
		}
	}
	return all
}

// sight is what the members have answered of late. c.mu is held.
func (c *Controller) sight(now time.Duration) failover.Sight {
	sight := failover.Sight{Troubles: map[string]string{}, Position: c.state.Position}
	for m, h := range c.leading.answers {
		switch {
		case now-h.at >= told:
		case h.Data == "": // its server would not report
			sight.Troubles[m] = h.Trouble
		default:
			sight.Reports = append(sight.Reports, h.report())
		}
	}
	return sight
}

// foresee is the forecast by what was seen.
func (c *Controller) foresee(v view, sight failover.Sight) *failover.Forecast {
	f := failover.Foresee(*v.record, sight, c.MaxLag)
	f.After = c.Timings.BackOff(v.record.Quick) // a Lease that is released has just been
	return &f
}

// report is what a member that answers so would report.
func (a Answer) report() failover.Report {
	return failover.Report{
		Member: a.Member, Seen: a.Seen, Receipt: a.Receipt, Data: a.Data, Upstream: a.Upstream, Has: a.Has, Executed: a.Executed,
		Barred: a.Barred, Unfenced: a.Unfenced, Serves: true, Healthy: a.Trouble == "", Ordinal: ordinalOf(a.Member), Lag: a.Lag,
	}
}

// Note says what people have to know of a member beside its role, and what to do; empty: nothing.
func (s Status) Note(name string) string {
	r := s.Record
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	switch {
	case r.Term == 0 || r.Phase == failover.Ended:
		return ""
	case s.Leads() && len(s.Strangers) > 0:
		say("%s", strangersAcknowledge(s.Strangers))
	case s.Leads() && s.Degraded:
		say("no replica acknowledges: commits are on this volume only, and nobody else can be elected; bring a replica back that follows")
	case s.Waits != "":
		say("term %d has no leader yet: %s; bring these members back", r.Term, s.Waits)
	case s.Leader() != "":
	case r.Phase == failover.Opened && r.Holder != "":
		say("nobody leads: %s has not renewed the Lease for %.0f s", r.Holder, s.Age.Seconds())
	case r.Holder != "" && r.Holder != name:
		say("term %d has no leader yet: it is %s, and the /readyz of %s says for whom it waits", r.Term, r.Phase, r.Holder)
	}
	if s.Leader() == "" && r.Last.Member == name && r.Mode != failover.Off && len(r.Acknowledgers) == 0 {
		say("this member led last, and only its data have all acknowledged commits: keep its volume, and bring its server up")
	}
	if r.NoFailover != "" && s.Leader() == "" {
		say("failover is forbidden: %s; understudy failover --allow ends that", r.NoFailover)
	}
	return strings.Join(all, "; ")
}
