package lead

import (
	"context"
	"fmt"
	"slices"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/guard"
)

// How a leader changes who acknowledges: one plan at a time, step by step.

// plan begins a change, if one is due.
func (c *Controller) plan(r failover.Record) bool {
	l, now := c.work, fence.Now()
	if r.Mode != c.Mode {
		c.begins("mode", string(c.Mode), failover.PlanMode(r, c.Mode))
		return true
	}
	if c.mustDegrade(r) {
		return c.change(failover.Degrade, r, "")
	}
	for _, a := range r.Acknowledgers {
		said, ok := c.answer(a.Member)
		if ok && said.Receipt != "" && said.Receipt != a.Receipt && said.Follows == c.Name && c.contains(said.Executed, l.before) {
			return c.change(failover.Renew, r, a.Member)
		}
	}
	away := 0
	for _, a := range r.Acknowledgers {
		since := l.lost[a.Member]
		if since == 0 || now-since < removeAfter {
			continue
		}
		away++
		if len(r.Acknowledgers)-1 >= r.Acknowledgments && c.othersThere(r, a.Member) {
			return c.change(failover.Remove, r, a.Member)
		}
	}
	if n := len(r.Acknowledgers); n > max(acknowledgers, r.Acknowledgments) && len(l.lost) == 0 { // each one more has to report in an election
		return c.change(failover.Remove, r, r.Acknowledgers[n-1].Member)
	}
	// Where all are away, another one is named beside them: none of them can be removed before.
	if r.Mode == failover.Off || len(r.Acknowledgers) >= acknowledgers && away < len(r.Acknowledgers) {
		return false
	}
	next := c.nearest(r)
	switch {
	case next == "":
		return false
	case len(r.Acknowledgers) == 0:
		return c.change(failover.First, r, next)
	}
	return c.change(failover.Add, r, next)
}

// mustDegrade says that commits have waited without an acknowledger for as long as they may in mode
// preferred.
func (c *Controller) mustDegrade(r failover.Record) bool {
	l := c.work
	return r.Mode == failover.Preferred && len(r.Acknowledgers) > 0 && l.none > 0 && fence.Now()-l.none >= c.Timings.Degrade
}

// waitsForMembers says that the plan may wait for members for long. It may end after any step.
func (c *Controller) waitsForMembers() bool {
	switch failover.Change(c.work.change) {
	case failover.Add, failover.First, failover.Renew, failover.Remove:
		return true
	}
	return false
}

// nearest is the member to be named next: of those that can be, the one that lacks least. One that is
// behind by more than some seconds waits, as one that would be renewed does: while it catches up, no
// other entry changes, and with the first one all commits wait. Empty: there is none.
func (c *Controller) nearest(r failover.Record) (member string) {
	var least uint64
	for _, m := range r.Members {
		said, unfit := c.fit(m)
		if unfit != nil || said.Severed || named(r, m) || !c.contains(said.Executed, c.work.before) {
			continue
		}
		if n := r.Behind(said.Executed, c.work.recent); member == "" || n < least {
			member, least = m, n
		}
	}
	return member
}

// note notes where the leader is, from time to time.
func (l *leading) note(position string) {
	switch now := fence.Now(); {
	case l.recent == "":
		l.before, l.recent, l.noted = position, position, now
	case now-l.noted >= noteEvery:
		l.before, l.recent, l.noted = l.recent, position, now
	}
}

func named(r failover.Record, member string) bool {
	return slices.ContainsFunc(r.Acknowledgers, func(a failover.Acknowledger) bool { return a.Member == member })
}

// othersThere says that as many other acknowledgers are there as a commit needs.
func (c *Controller) othersThere(r failover.Record, member string) bool {
	n := 0
	for _, a := range r.Acknowledgers {
		if a.Member != member && c.acknowledges(a) {
			n++
		}
	}
	return n >= r.Acknowledgments
}

func (c *Controller) change(change failover.Change, r failover.Record, member string) bool {
	steps, err := failover.Plan(change, r, member)
	if err != nil {
		return false
	}
	c.begins(string(change), member, steps)
	return true
}

func (c *Controller) begins(change, member string, steps []failover.LeaderStep) {
	l := c.work
	l.change, l.who, l.plan, l.began, l.receipt, l.mark = change, member, steps, fence.Now(), "", ""
}

// carryOut takes the next step of the plan.
func (c *Controller) carryOut(ctx context.Context, v view) {
	l := c.work
	short, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	done, err := c.take1(short, v, l.plan[0])
	if err == nil && !done && fence.Now()-l.began > planPatience {
		err = fmt.Errorf("%q has not ended in time", l.plan[0])
	}
	switch {
	case err != nil:
		c.did(l.change, l.who, err)
		l.plan = nil
	case done:
		if l.plan = l.plan[1:]; len(l.plan) == 0 {
			c.did(l.change, l.who, nil)
			l.plan = nil
		}
	}
}

// owns says of what a member has beyond the ledger that this leader has it, too, and has not adopted it
// yet; the error, that it has not.
func (c *Controller) owns(ctx context.Context, r failover.Record, has string) error {
	state, err := c.look(ctx)
	if surplus := r.Surplus(has, state.Position); err == nil && surplus != "" {
		err = fmt.Errorf("%s has %s, which this leader lacks", c.work.who, surplus)
	}
	return err
}

// take1 takes one step; false: it has not ended yet.
func (c *Controller) take1(ctx context.Context, v view, step failover.LeaderStep) (done bool, err error) {
	l, r := c.work, *v.record
	write := func(next failover.Record) (bool, error) {
		sent, err := c.line.swap(ctx, v, next)
		if err == nil {
			c.extend(ctx, r.Term, sent)
		}
		return err == nil, err
	}
	switch step {
	case failover.StartWaiting, failover.StopWaiting:
		if guard.Lacks(guard.Waiting) {
			return true, nil
		}
		if err := c.Server.SetWaiting(ctx, step == failover.StartWaiting); err != nil {
			return false, err
		}
		state, err := c.look(ctx)
		return err == nil && state.Waiting == (step == failover.StartWaiting), err
	case failover.Bar:
		delete(l.relaxed, l.who)
		if guard.Lacks(guard.Bar) {
			return true, nil
		}
		return true, c.Server.Bar(ctx, l.who)
	case failover.BarOthers:
		for _, m := range others(r.Members, c.Name) {
			if named(r, m) || l.relaxed[m] {
				continue
			}
			if err := c.Server.Bar(ctx, m); err != nil {
				return false, err
			}
		}
		err := c.barStrays(ctx, r)
		return err == nil, err
	case failover.AskReceipt:
		a, err := c.tell(ctx, l.who)
		l.receipt = a.Receipt
		return l.receipt != "", err
	case failover.Mark:
		state, err := c.look(ctx)
		l.mark = state.Position
		return true, err
	case failover.AwaitMember:
		a, err := c.tell(ctx, l.who)
		if err == nil && a.Receipt != l.receipt {
			err = fmt.Errorf("%s has restarted meanwhile", l.who)
		}
		if err == nil && !c.contains(a.Executed, l.mark) && !guard.Lacks(guard.Position) {
			c.relax(ctx, r) // it cannot come while it is barred
			return false, nil
		}
		if err == nil && r.Foreign(a.Has) != "" {
			err = c.owns(ctx, r, a.Has)
		}
		return true, err
	case failover.AwaitOthers:
		n := 0
		for _, a := range r.Acknowledgers {
			if a.Member == l.who {
				continue
			}
			if said, err := c.tell(ctx, a.Member); err == nil && said.Receipt == a.Receipt && c.contains(said.Has, l.mark) {
				n++
			}
		}
		return n >= r.Acknowledgments, nil
	case failover.NameMember:
		done, err = write(r.Name(failover.Acknowledger{Member: l.who, Receipt: l.receipt}))
		if done { // it is away from now on, if it does not turn its side on
			delete(l.lost, l.who)
			l.none = 0
		}
		return done, err
	case failover.UnnameMember:
		return write(r.Unname(l.who))
	case failover.EmptySet:
		if len(r.Acknowledgers) == 0 {
			return true, nil
		}
		return write(r.Empty())
	case failover.SetMode:
		r.Mode = failover.Mode(l.who)
		return write(r)
	case failover.Relax:
		return true, nil // relax does it, as soon as the member answers
	}
	return false, fmt.Errorf("unknown step %q", step)
}
