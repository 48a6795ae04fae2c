package lead

import (
	"context"
	"fmt"
	"slices"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// Promotion is what comes of making a member the leader without the reports that an election needs.
type Promotion struct {
	// Member would lead Term. Last led last, in term LastTerm.
	Member   string `json:"member"`
	Term     uint64 `json:"term"`
	Last     string `json:"last"`
	LastTerm uint64 `json:"lastTerm"`
	// Refused says why it cannot be; empty: it can.
	Refused string `json:"refused,omitempty"`
	// Lost says what may be lost, line by line.
	Lost []string `json:"lost,omitempty"`
	// Leads says that it leads Term by now.
	Leads bool `json:"leads,omitempty"`
}

// promoteTries is how often the Lease is read again that has changed meanwhile.
const promoteTries = 5

// Promote says what would be lost if this member led now, with all that it has and nothing else; and
// where the question says so, has it lead.
func (c *Controller) Promote(ctx context.Context, q Ask) (Promotion, error) {
	if q.To != c.Name {
		return Promotion{}, fmt.Errorf("%w: this is %s", errNoReport, c.Name)
	}
	var changed error
	for range promoteTries {
		p, v, next, err := c.promotion(ctx)
		if err != nil || p.Refused != "" || !q.Force {
			return p, err
		}
		if _, changed = c.line.swap(ctx, v, next); changed != nil {
			continue // another candidate was faster, it may be
		}
		c.Log.Warn("a person has it lead without the reports of the others", "term", p.Term, "lost", p.Lost)
		c.event(true, ReasonForced, "understudy promote: it is to lead term %d without the reports of the others", p.Term)
		poke(c.wakeWork)
		return p, c.awaitLeading(ctx, &p)
	}
	return Promotion{}, fmt.Errorf("the Lease could not be taken in %d tries: %w", promoteTries, changed)
}

// promotion looks, and makes the record with which it would begin.
func (c *Controller) promotion(ctx context.Context) (p Promotion, v view, next failover.Record, err error) {
	if err := c.line.read(ctx); err != nil {
		return p, v, next, err
	}
	v = c.line.view()
	memory := c.remembered()
	r, why := c.forcible(v, memory)
	if p.Member, p.Refused = c.Name, why; why != "" {
		return p, v, next, nil
	}
	state, fresh := c.seen()
	switch {
	case !fresh || !c.isSettled():
		p.Refused = "its server does not answer"
	case c.mayNotLead(state) != "":
		p.Refused = c.mayNotLead(state)
	case !slices.Contains(r.Members, c.Name) && !r.Ledger.Knows(state.Has):
		p.Refused = "it is not registered in the Lease, and has nothing of the set's history"
	}
	if p.Refused != "" {
		return p, v, next, nil
	}
	term, silent := max(r.Term, memory.Seen), []string(nil)
	var reports []failover.Report
	for _, m := range others(r.Members, c.Name) {
		a, err := c.tell(ctx, m)
		switch {
		case err != nil || a.Data == "":
			silent = append(silent, m)
			continue
		case a.Writable:
			p.Refused = m + " is open for writes"
			return p, v, next, nil
		}
		term = max(term, a.Seen)
		reports = append(reports, a.report())
	}
	p.Term, p.Last, p.LastTerm = term+1, r.Last.Member, r.Last.Term
	p.Lost, err = failover.Loss(r, c.describe(r.Term, memory, state), reports, silent)
	return p, v, r.Force(p.Term, c.Name), err
}

// forcible is the record to go on from, or why no member may be made the leader by hand.
func (c *Controller) forcible(v view, memory Memory) (r failover.Record, why string) {
	now := fence.Now()
	switch gone := failover.WentBack(v.record, memory.volume("")); {
	case v.bad != nil:
		return r, v.bad.Error()
	case v.record != nil && gone == "":
		r = *v.record
	case memory.newest() == nil:
		return r, "the Lease has no term record, and this volume keeps none"
	default: // who led by what is lost has to have ended
		if since := now - max(v.phaseAt, v.beatAt); since < c.Timings.Duration {
			return r, fmt.Sprintf("the Lease was changed %s ago; its leader may write until %s have passed", since.Round(time.Second), c.Timings.Duration)
		}
		return *memory.newest(), ""
	}
	switch quiet := now - v.beatAt; {
	case r.Phase == failover.Ended:
		return r, fmt.Sprintf("the set went by its first ordinal after term %d: that opens the next one", r.Term)
	case r.NoFailover != "":
		return r, "failover is forbidden: " + r.NoFailover
	case r.Phase != failover.Electing && r.Holder != "" && r.Holder != c.Name && quiet < c.Timings.Duration:
		return r, fmt.Sprintf("%s holds the Lease for term %d, %s, and has renewed it within %s", r.Holder, r.Term, r.Phase, c.Timings.Duration)
	case r.Led() && r.Holder == c.Name:
		return r, "it leads term " + fmt.Sprint(r.Term)
	}
	return r, ""
}

// awaitLeading returns when the member leads, or with why it does not.
func (c *Controller) awaitLeading(ctx context.Context, p *Promotion) error {
	for {
		c.mu.Lock()
		part, term, waits := c.part, c.term, c.waits
		c.mu.Unlock()
		if p.Leads = part == leader && term == p.Term; p.Leads {
			return nil
		}
		if r := c.line.view().record; r != nil && (r.Term > p.Term || r.Term == p.Term && r.Holder != c.Name) {
			return fmt.Errorf("term %d has ended before %s opened: %s", p.Term, c.Name, waits)
		}
		if !wait(ctx, workEvery, nil) {
			return fmt.Errorf("%s is not open yet: %s", c.Name, waits)
		}
	}
}
