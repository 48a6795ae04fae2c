package lead

import (
	"context"
	"fmt"
	"slices"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

const (
	// tellEvery is the time between two questions to all members, told for how long an answer counts.
	tellEvery = 500 * time.Millisecond
	told      = 3 * time.Second
	// planPatience bounds a plan, planPause is the time to the next one after one that failed.
	planPatience = 15 * time.Second
	planPause    = time.Second
	// removeAfter is for how long an acknowledger has to be away before it is removed, where another
	// one is there.
	removeAfter = 10 * time.Second
	// acknowledgers is how many are named at most.
	acknowledgers = 2
)

// leading is what a leader remembers.
type leading struct {
	answers map[string]heard
	telling bool
	toldAt  time.Duration
	// lost is since when each acknowledger is away, held since when none is there and commits wait.
	lost map[string]time.Duration
	none time.Duration
	// relaxed are members that have said since they were barred that their side is off.
	relaxed  map[string]bool
	lockedAt time.Duration

	plan    []failover.LeaderStep
	change  string
	who     string
	receipt string
	mark    string
	began   time.Duration
	pause   time.Duration
}

type heard struct {
	Answer
	at time.Duration
}

// lead is a step of the leader: it keeps the acknowledgers that it can.
func (c *Controller) lead(ctx context.Context, v view, state State) {
	c.mu.Lock()
	c.work = c.leading
	c.mu.Unlock()
	l := c.work
	if l == nil { // it has resigned
		return
	}
	c.tellAll(ctx)
	if v.unsure || v.version == nil || v.record == nil {
		return // what holds is not known
	}
	r := *v.record
	if state.Offline {
		short, cancel := context.WithTimeout(ctx, stepTimeout)
		defer cancel()
		c.did("let in whom the Lease lets in", nil, c.arrange(short, r))
		_, _ = c.look(short)
		return
	}
	if !state.Writable && r.Phase == failover.Opened { // a planned change that did not come about
		c.did("open again", nil, c.reopen(ctx, r.Term))
		_, _ = c.look(ctx)
		return
	}
	select {
	case s := <-c.switches:
		if s.ctx.Err() != nil {
			return
		}
		l.plan = nil
		err := c.switchOver(ctx, v, s)
		if err != nil {
			c.Log.Warn("the planned change was not made", "error", err)
		}
		s.done <- err
		return
	default:
	}
	c.observe(r, state)
	if l.plan != nil {
		c.carryOut(ctx, v)
		return
	}
	if fence.Now() < l.pause {
		return
	}
	if c.register(ctx, v) || c.mend(ctx, v, state) || c.plan(r) {
		return
	}
	c.relax(ctx, r)
}

// tellAll asks all members what they are. It does not wait for the answers.
func (c *Controller) tellAll(ctx context.Context) {
	l := c.work
	c.mu.Lock()
	due := !l.telling && fence.Now()-l.toldAt >= tellEvery
	if due {
		l.telling, l.toldAt = true, fence.Now()
	}
	c.mu.Unlock()
	if !due {
		return
	}
	go func() {
		all := c.Members.All(ctx)
		if r := c.line.view().record; r != nil {
			all = append(all, r.Members...)
		}
		slices.Sort(all)
		done := make(chan struct{})
		all = others(slices.Compact(all), c.Name)
		for _, m := range all {
			go func() {
				defer func() { done <- struct{}{} }()
				if a, err := c.tell(ctx, m); err == nil {
					c.mu.Lock()
					defer c.mu.Unlock()
					l.answers[m] = heard{a, fence.Now()}
				}
			}()
		}
		for range all {
			<-done
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		l.telling = false
	}()
}

// tell asks one member.
func (c *Controller) tell(ctx context.Context, member string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timings.Request)
	defer cancel()
	a, err := c.Members.Tell(ctx, member, c.question(member))
	if err == nil && a.Member != member {
		err = fmt.Errorf("%s answers for %s", a.Member, member)
	}
	return a, err
}

// answer is a member's last answer, if it still counts.
func (c *Controller) answer(member string) (Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.work.answers[member]
	return h.Answer, ok && fence.Now()-h.at < told
}

// observe notes which acknowledgers are away.
func (c *Controller) observe(r failover.Record, state State) {
	l, now := c.work, fence.Now()
	there := 0
	for _, a := range r.Acknowledgers {
		if said, ok := c.answer(a.Member); ok && said.Receipt == a.Receipt && said.Side && said.Follows == c.Name && said.Trouble == "" {
			there++
			delete(l.lost, a.Member)
		} else if l.lost[a.Member] == 0 {
			l.lost[a.Member] = now
		}
	}
	switch {
	case there > 0 || !state.Waiting:
		l.none = 0
	case l.none == 0:
		l.none = now
	}
}

// register adds a member to the Lease that answers, and follows.
func (c *Controller) register(ctx context.Context, v view) bool {
	c.mu.Lock()
	var fresh []string
	for m, h := range c.work.answers {
		if h.Receipt+h.Data != "" && !slices.Contains(v.record.Members, m) && fence.Now()-h.at < told {
			fresh = append(fresh, m)
		}
	}
	c.mu.Unlock()
	if fresh == nil || len(v.record.Members) >= failover.MaxMembers {
		return false
	}
	slices.Sort(fresh)
	next := *v.record
	next.Members = append(slices.Clone(next.Members), fresh...)
	err := c.Server.Accounts(ctx, fresh)
	if err == nil {
		_, err = c.line.swap(ctx, v, next)
	}
	c.did("register", fresh, err)
	return true
}

// did logs the end of a change.
func (c *Controller) did(what string, who any, err error) {
	if err != nil {
		c.Log.Warn("the leader could not do what it wants", "change", what, "member", who, "error", err)
		c.work.pause = fence.Now() + planPause
		return
	}
	c.Log.Info("the leader has changed the Lease", "change", what, "member", who)
}

// mend has commits wait as the Lease says. Where they did not, nobody may be elected on what the
// Lease says.
func (c *Controller) mend(ctx context.Context, v view, state State) bool {
	r := *v.record
	switch {
	case len(r.Acknowledgers) > 0 && !state.Waiting:
		_, err := c.line.swap(ctx, v, r.Empty())
		c.did("commits did not wait: empty the set", nil, err)
		return true
	case r.Mode == failover.Required && r.Naming > 1 && !state.Waiting, r.Mode == failover.Off && state.Source: // somebody has turned it off, or on
		c.did("have commits wait as the mode says", nil, c.Server.SetWaiting(ctx, r.Mode == failover.Required))
		_, _ = c.look(ctx)
		return true
	case r.Mode == failover.Preferred && len(r.Acknowledgers) == 0 && state.Waiting:
		c.begins("degrade", "", []failover.LeaderStep{failover.EmptySet, failover.StopWaiting})
		return true
	}
	return false
}

// plan begins a change, if one is due.
func (c *Controller) plan(r failover.Record) bool {
	l, now := c.work, fence.Now()
	if r.Mode != c.Mode {
		c.begins("mode", string(c.Mode), failover.PlanMode(r, c.Mode))
		return true
	}
	for _, a := range r.Acknowledgers {
		said, ok := c.answer(a.Member)
		if ok && said.Receipt != "" && said.Receipt != a.Receipt && said.Follows == c.Name {
			return c.change(failover.Renew, r, a.Member)
		}
	}
	if r.Mode == failover.Preferred && len(r.Acknowledgers) > 0 && l.none > 0 && now-l.none >= c.Timings.Degrade {
		return c.change(failover.Degrade, r, "")
	}
	for _, a := range r.Acknowledgers {
		if since := l.lost[a.Member]; since > 0 && now-since >= removeAfter && len(r.Acknowledgers)-1 >= r.Acknowledgments && c.othersThere(r, a.Member) {
			return c.change(failover.Remove, r, a.Member)
		}
	}
	if r.Mode == failover.Off || len(r.Acknowledgers) >= acknowledgers {
		return false
	}
	for _, m := range r.Members {
		said, ok := c.answer(m)
		if !ok || said.Follows != c.Name || said.Receipt == "" || said.Trouble != "" || said.Barred != "" || named(r, m) {
			continue
		}
		if len(r.Acknowledgers) == 0 {
			return c.change(failover.First, r, m)
		}
		return c.change(failover.Add, r, m)
	}
	return false
}

func named(r failover.Record, member string) bool {
	return slices.ContainsFunc(r.Acknowledgers, func(a failover.Acknowledger) bool { return a.Member == member })
}

// othersThere says that as many other acknowledgers are there as a commit needs.
func (c *Controller) othersThere(r failover.Record, member string) bool {
	n := 0
	for _, a := range r.Acknowledgers {
		if said, ok := c.answer(a.Member); a.Member != member && ok && said.Receipt == a.Receipt {
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
		if err := c.Server.SetWaiting(ctx, step == failover.StartWaiting); err != nil {
			return false, err
		}
		state, err := c.look(ctx)
		return err == nil && state.Waiting == (step == failover.StartWaiting), err
	case failover.Bar:
		delete(l.relaxed, l.who)
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
		return true, nil
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
		if err == nil && !c.contains(a.Executed, l.mark) {
			c.relax(ctx, r) // it cannot come while it is barred
			return false, nil
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
		return write(r.Name(failover.Acknowledger{Member: l.who, Receipt: l.receipt}))
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

// relax lets members follow that are barred and that the Lease does not name, once they have said
// that their side is off; and members that it names.
func (c *Controller) relax(ctx context.Context, r failover.Record) {
	l := c.work
	if fence.Now()-l.lockedAt < tellEvery {
		return
	}
	l.lockedAt = fence.Now()
	short, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	locked, err := c.Server.Locked(short)
	if err != nil {
		c.Log.Debug("which accounts are locked is not known", "error", err)
		return
	}
	for _, m := range others(r.Members, c.Name) {
		if !slices.Contains(locked, m) {
			continue
		}
		if !named(r, m) {
			if a, err := c.tell(short, m); err != nil || a.Side || a.Naming < r.Naming {
				continue
			}
			l.relaxed[m] = true
		}
		if err := c.Server.Admit(short, m); err != nil {
			delete(l.relaxed, m)
			c.Log.Warn("a member is not let in yet", "member", m, "error", err)
			continue
		}
		c.Log.Info("a member may follow", "member", m, "acknowledges", named(r, m))
	}
}
