package lead

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// The reasons of what a Controller tells: see Config.Tell.
const (
	ReasonAcknowledgerNamed   = "AcknowledgerNamed"
	ReasonAcknowledgerRemoved = "AcknowledgerRemoved"
	ReasonDegraded            = "Degraded"
	ReasonElected             = "Elected"
	ReasonElectionFailed      = "ElectionFailed"
	ReasonFailoverAllowed     = "FailoverAllowed"
	ReasonFailoverForbidden   = "FailoverForbidden"
	ReasonForced              = "Forced"
	ReasonForeign             = "Foreign"
	ReasonLeaseWritten        = "LeaseWritten"
	ReasonLeads               = "Leads"
	ReasonNotDegraded         = "NotDegraded"
	ReasonResigned            = "Resigned"
	ReasonStandoff            = "Standoff"
	ReasonStrangers           = "Strangers"
	ReasonVolumeStands        = "VolumeStands"
	ReasonSwitchedOver        = "SwitchedOver"
	ReasonSwitchoverFailed    = "SwitchoverFailed"
)

// event tells people, unless it was told too often of late.
func (c *Controller) event(failed bool, reason, format string, args ...any) {
	if c.Tell == nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	switch more, last := c.budget.take(reason, fence.Now()); {
	case !more:
	case last:
		c.Tell(failed, reason, fmt.Sprintf("%s; more of this kind are in the log only, for %v", text, eventSpan))
	default:
		c.Tell(failed, reason, text)
	}
}

const (
	// eventBurst is how many Events of one reason are told in eventSpan.
	eventBurst = 5
	eventSpan  = 10 * time.Minute
)

// budget bounds how often each reason is told, so that a set that flaps does not flood people.
type budget struct {
	mu sync.Mutex
	at map[string][]time.Duration
}

// take says whether one more is told now, and whether it is the last one for a while.
func (b *budget) take(reason string, now time.Duration) (more, last bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at == nil {
		b.at = map[string][]time.Duration{}
	}
	at := slices.DeleteFunc(b.at[reason], func(at time.Duration) bool { return now-at >= eventSpan })
	more = len(at) < eventBurst
	if more {
		at = append(at, now)
	}
	b.at[reason] = at
	return more, len(at) == eventBurst
}

// news is something that a leader tells of its Lease.
type news struct {
	failed       bool
	reason, text string
}

// changes are the news between two records of one leader's term.
func changes(before, after failover.Record) (all []news) {
	add := func(failed bool, reason, format string, args ...any) {
		all = append(all, news{failed, reason, fmt.Sprintf(format, args...)})
	}
	for _, a := range after.Acknowledgers {
		if !named(before, a.Member) {
			add(false, ReasonAcknowledgerNamed, "%s acknowledges commits of term %d: %d named", a.Member, after.Term, len(after.Acknowledgers))
		}
	}
	for _, a := range before.Acknowledgers {
		if !named(after, a.Member) {
			add(len(after.Acknowledgers) == 0, ReasonAcknowledgerRemoved, "%s acknowledges no more in term %d: %d named", a.Member, after.Term, len(after.Acknowledgers))
		}
	}
	switch {
	case degraded(after) && !degraded(before):
		add(true, ReasonDegraded, "term %d goes on without acknowledgers: commits are on this volume only, and nobody else can be elected, until a replica follows again", after.Term)
	case degraded(before) && !degraded(after):
		add(false, ReasonNotDegraded, "commits of term %d wait for a replica again", after.Term)
	}
	return all
}

// degraded says that commits of the term do not wait though the mode would have them wait.
func degraded(r failover.Record) bool {
	return r.Mode == failover.Preferred && r.Phase == failover.Opened && len(r.Acknowledgers) == 0 && len(r.Members) > 1
}

// notice notes what has changed in the Lease: when the term began, and what a leader tells of it.
func (c *Controller) notice(r failover.Record) {
	now := fence.Now()
	c.mu.Lock()
	before, leads := c.noticed, c.part == leader && c.term == r.Term
	if r.Term > before.Term {
		c.begunAt = now
	}
	gave := time.Duration(0)
	if c.blockedAt > 0 && r.Phase == failover.Opened && r.Term > c.blockedIn {
		gave, c.blockedAt = now-c.blockedAt, 0
		c.counts.Switched = gave
	}
	c.noticed = r
	c.mu.Unlock()
	if gave > 0 {
		c.event(false, ReasonSwitchedOver, "%s leads term %d, %.1f s after writes were blocked", r.Last.Member, r.Term, gave.Seconds())
	}
	if !leads || before.Term != r.Term || before.Phase != failover.Opened {
		return
	}
	for _, n := range changes(before, r) {
		c.event(n.failed, n.reason, "%s", n.text)
	}
}

// gaveAway notes a planned change: the Lease of a term was given away, and writes have been blocked
// since.
func (c *Controller) gaveAway(term uint64, since time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blockedAt, c.blockedIn = since, term
}

// sinceTerm is for how many seconds this member has seen the term.
func (c *Controller) sinceTerm(term uint64) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noticed.Term != term {
		return 0
	}
	return (fence.Now() - c.begunAt).Seconds()
}

// Counts are what a Controller has counted.
type Counts struct {
	// Elected and Failed are the elections that this member held and that found an heir, or did not.
	Elected, Failed uint64
	// Switched is how long the last planned change took in which it gave the Lease away, from the block
	// of writes until the heir was seen to be open; 0: there was none.
	Switched time.Duration
}

func (c *Controller) count(change func(*Counts)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.counts)
}
