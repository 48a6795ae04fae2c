package lead

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// What becomes of a Lease that is missing its record, or went back: see failover.Rebuild.

// newest is the newest record that the volume keeps; nil: none. It was read from the Lease.
func (m Memory) newest() *failover.Record {
	r, err := decode(m.Record)
	if err != nil {
		return nil
	}
	return r
}

func (m Memory) volume(data string) failover.Volume {
	v := failover.Volume{Seen: m.Seen, Promised: m.Promised, Data: data}
	if kept := m.newest(); kept != nil {
		v.Naming = kept.Naming
	}
	return v
}

// keep adds what the Lease says.
func (m *Memory) keep(r failover.Record, text string) {
	if kept := m.newest(); kept == nil || !r.Older(*kept) {
		m.Record = text
	}
}

// learn keeps what another volume remembers, if that is newer.
func (c *Controller) learn(report failover.Report) {
	r, err := decode(report.Record)
	if err != nil || r == nil {
		return
	}
	if kept := c.remembered().newest(); kept != nil && !kept.Older(*r) {
		return
	}
	if err := c.remember(func(m *Memory) { m.keep(*r, report.Record) }); err != nil {
		c.Log.Warn("a newer record of the Lease was not kept", "member", report.Member, "error", err)
	}
}

// goOn has a leader write again what the Lease has lost; false: it is no case of that. Its permission
// runs, so nobody has opened a later term, and the write succeeds only on the Lease that was read.
func (c *Controller) goOn(ctx context.Context, v view) bool {
	memory := c.remembered()
	kept := memory.newest()
	c.mu.Lock()
	leads := c.part == leader && kept != nil && kept.Term == c.term && kept.Holder == c.Name && kept.Phase == failover.Opened && fence.Now() < c.deadline
	c.mu.Unlock()
	why := failover.WentBack(v.record, memory.volume(""))
	if !leads || why == "" || v.bad != nil {
		return false
	}
	sent, err := c.line.swap(ctx, v, *kept)
	if err != nil {
		c.Log.Warn("the Lease was not written again", "reason", why, "error", err)
		return true
	}
	c.extend(ctx, kept.Term, sent)
	c.Log.Warn("the Lease was written again", "reason", why, "term", kept.Term, "naming", kept.Naming)
	c.event(true, ReasonLeaseWritten, "%s; its leader has written it again", why)
	return true
}

// rebuild is a step of a member under such a Lease, which nobody leads by: it waits for all members,
// and the lowest of them writes the Lease again.
func (c *Controller) rebuild(ctx context.Context, why string, fresh bool) {
	memory := c.remembered()
	kept := memory.newest()
	if c.back == 0 {
		c.back = fence.Now()
	}
	if fence.Now()-c.back < c.Timings.Report { // an election may be ahead of what was read
		return
	}
	if kept == nil {
		c.hold(ctx, why+"; this volume keeps no record of it")
		return
	}
	if !fresh {
		c.hold(ctx, why+"; its server does not answer")
		return
	}
	missing, seen, whole := c.heardOf(ctx, *kept)
	first := slices.MinFunc(kept.Members, func(a, b string) int { return ordinalOf(a) - ordinalOf(b) })
	switch {
	case !whole:
		c.hold(ctx, why)
	case len(missing) > 0:
		c.hold(ctx, "no leader: "+why+"; it waits for "+strings.Join(missing, ", ")+": all members have to report")
	case first != c.Name:
		c.hold(ctx, "no leader: "+why+"; "+first+" writes it again")
	default:
		c.hold(ctx, "no leader: "+why+"; it asks all members for reports")
		c.writeAgain(ctx, max(memory.Seen, seen)+1, *kept)
	}
}

// heardOf are the members that have not answered of late, and the highest term that the others have
// seen. whole is false while they have not all been asked.
func (c *Controller) heardOf(ctx context.Context, kept failover.Record) (missing []string, seen uint64, whole bool) {
	f, _ := c.askInTime(ctx, kept)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range others(kept.Members, c.Name) {
		h, ok := f.answers[m]
		if !ok || fence.Now()-h.at >= told || h.Data == "" {
			missing = append(missing, m)
		}
		seen = max(seen, h.Seen)
	}
	return missing, seen, f.whole
}

// writeAgain asks all members for reports for a later term, and begins an election of that term.
func (c *Controller) writeAgain(ctx context.Context, term uint64, kept failover.Record) {
	// A candidate that has asked this member for a report holds the Lease: what was read before that may
	// be older than what the volume has seen.
	before := c.remembered()
	if c.line.read(ctx) != nil {
		return
	}
	v := c.line.view()
	why := failover.WentBack(v.record, before.volume(""))
	if why == "" || v.bad != nil {
		return
	}
	reports := make([]failover.Report, len(kept.Members))
	done := make(chan error)
	short, cancel := context.WithTimeout(ctx, c.Timings.Report)
	defer cancel()
	for i, m := range kept.Members {
		go func() {
			var err error
			q := Ask{From: c.Name, To: m, Term: term, Naming: kept.Naming}
			if m == c.Name {
				reports[i], err = c.Report(short, q)
			} else {
				reports[i], err = c.Members.Report(short, m, q)
			}
			if err == nil && reports[i].Member != m {
				err = fmt.Errorf("%s answers for %s", reports[i].Member, m)
			}
			if err != nil {
				reports[i] = failover.Report{}
			}
			done <- err
		}()
	}
	for range kept.Members {
		if err := <-done; err != nil {
			c.Log.Info("a member does not report", "term", term, "error", err)
		}
	}
	next, wait := failover.Rebuild(reports, term, c.Name)
	if wait != "" {
		for _, b := range reports {
			c.learn(b)
		}
		c.back = fence.Now() // each round takes a term
		c.Log.Info("the Lease is not written again yet", "term", term, "reason", wait)
		return
	}
	if _, err := c.line.swap(ctx, v, next); err != nil {
		c.Log.Warn("the Lease was not written again", "term", term, "error", err)
		return
	}
	c.Log.Warn("the Lease was written again", "reason", why, "term", term, "naming", next.Naming)
	c.event(true, ReasonLeaseWritten, "%s; it was written again, with term %d, by what all members remember", why, term)
	poke(c.wakeWork)
}
