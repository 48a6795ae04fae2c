package lead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/flavor"
)

// errNoSwitch is returned where a planned change was not made: the leader is as it was.
var errNoSwitch = errors.New("the leader is not changed")

const (
	// levelPatience is how long the next leader may take to execute what the leader has, while writes
	// are blocked.
	levelPatience = 2 * time.Second
	// switchTimeout bounds a planned change.
	switchTimeout = 30 * time.Second
)

// switching is a planned change that somebody waits for.
type switching struct {
	//nolint:containedctx // a request that nobody waits for any more is not carried out
	ctx  context.Context
	to   string
	done chan error
}

// SwitchOver gives the Lease to a member, to the healthiest where the question names none, and
// returns when that member leads. The error errNoSwitch says that nothing has changed.
func (c *Controller) SwitchOver(ctx context.Context, q Ask) (Answer, error) {
	if q.To != c.Name {
		return Answer{}, fmt.Errorf("%w: this is %s", errNoSwitch, c.Name)
	}
	if p, _ := c.now(); p != leader {
		r := c.line.view().record
		if r == nil {
			return Answer{}, fmt.Errorf("%w: there is no term", errNoSwitch)
		}
		return Answer{}, fmt.Errorf("%w: %s does not lead, the Lease names %q", errNoSwitch, c.Name, r.Holder)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Drain+switchTimeout)
	defer cancel()
	s := switching{ctx: ctx, to: q.Switch, done: make(chan error, 1)}
	select {
	case c.switches <- s:
	default:
		return Answer{}, fmt.Errorf("%w: another change is under way", errNoSwitch)
	}
	poke(c.wakeWork)
	select {
	case err := <-s.done:
		if err != nil {
			return Answer{}, err
		}
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("the change has not ended in time: %w", ctx.Err())
	}
	for {
		if r := c.line.view().record; r != nil && r.Phase == failover.Opened && r.Holder != "" && r.Holder != c.Name {
			return Answer{Member: r.Holder}, nil
		}
		poke(c.wakeLease)
		if !wait(ctx, workEvery, nil) {
			return Answer{}, errors.New("the next leader has not opened in time")
		}
	}
}

// next is the member that is to lead: the one that was asked for, or an acknowledger, or the lowest
// ordinal.
func (c *Controller) next(r failover.Record, asked string) (string, error) {
	var may []string
	why := errors.New("no member follows")
	for _, m := range others(r.Members, c.Name) {
		if asked != "" && m != asked {
			continue
		}
		said, unfit := c.fit(m)
		if unfit == nil && said.Unfenced != "" {
			unfit = fmt.Errorf("%s may not lead: %s", m, said.Unfenced)
		}
		if unfit != nil {
			why = unfit
			continue
		}
		may = append(may, m)
	}
	if may == nil {
		return "", fmt.Errorf("%w: %w", errNoSwitch, why)
	}
	for _, m := range may {
		if named(r, m) {
			return m, nil
		}
	}
	return slices.Min(may), nil
}

// fit is a member's last answer; the error says why it could not lead next.
func (c *Controller) fit(member string) (said Answer, why error) {
	said, ok := c.answer(member)
	switch {
	case !ok:
		why = fmt.Errorf("%s does not answer", member)
	case said.Follows != c.Name || said.Receipt == "":
		why = fmt.Errorf("%s does not follow", member)
	case said.Barred+said.Trouble != "":
		why = fmt.Errorf("%s may not lead: %s", member, cmp.Or(said.Barred, said.Trouble))
	}
	return said, why
}

// planned makes the planned change that somebody waits for. False: there is none, or running
// transactions are given time.
func (c *Controller) planned(ctx context.Context, v view) bool {
	l := c.work
	if l.asked == nil {
		select {
		case s := <-c.switches:
			l.asked = &s
		default:
			return false
		}
	}
	s := *l.asked
	if s.ctx.Err() != nil {
		l.asked, l.drainBegan, l.drained, l.pursuit = nil, 0, false, pursuit{}
		return false
	}
	to, err := c.next(*v.record, s.to)
	if err == nil && !l.drained && c.drains(ctx) {
		return false
	}
	l.drained = true // the next leader may take some time until it is near
	if err == nil {
		var near bool
		if near, err = c.near(ctx, to); err == nil && !near {
			return false
		}
	}
	l.asked, l.plan, l.drained, l.pursuit = nil, nil, false, pursuit{}
	if err == nil {
		err = c.switchOver(ctx, v, to, false)
	}
	if err != nil {
		c.Log.Warn("the planned change was not made", "error", err)
		c.event(true, ReasonSwitchoverFailed, "the planned change was not made: %v", err)
	}
	s.done <- err
	return true
}

const (
	// nearEnough is how long a next leader may take to execute what its leader has, before writes are
	// blocked for it; nearPatience is for how long it gets the chance to.
	nearEnough   = 500 * time.Millisecond
	nearPatience = 10 * time.Second
)

// pursuit is how a member follows that is to lead next.
type pursuit struct {
	begun, marked time.Duration
	mark          string
}

// near says that a member executes what this leader has within nearEnough: writes are blocked for as
// long as it takes to execute the rest. It is asked again and again; the error says that it is too far
// behind.
func (c *Controller) near(ctx context.Context, member string) (bool, error) {
	p, now := &c.work.pursuit, fence.Now()
	if p.begun == 0 {
		p.begun = now
	}
	if p.mark == "" {
		state, _ := c.seen()
		p.mark, p.marked = state.Position, now
	}
	level := c.hasExecuted(ctx, member, p.mark)
	now = fence.Now()
	behind := now - p.marked
	if level {
		if p.mark = ""; behind <= nearEnough {
			return true, nil
		}
	}
	if now-p.begun > nearPatience {
		return false, fmt.Errorf("%w: %s is %.1f s behind; writes were not blocked: try again when it has caught up", errNoSwitch, member, behind.Seconds())
	}
	return false, nil
}

// hasExecuted asks a member whether it has executed all of a position.
func (c *Controller) hasExecuted(ctx context.Context, member, position string) bool {
	a, err := c.tell(ctx, member)
	return err == nil && c.contains(a.Executed, position)
}

// switchOver blocks writes, waits until the next leader has all, and gives it the Lease. Where the
// server is about to end, it stays armed until the next leader is open: it may have to report.
func (c *Controller) switchOver(ctx context.Context, v view, to string, ending bool) error {
	r := *v.record
	begun := fence.Now()
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.lock(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNoSwitch, err)
	}
	defer c.unlock()
	// A failure up to the write of the Lease leaves it closed: the next step opens it again, see lead.
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.blocked = fence.Now()
	}()
	c.work.scheduleAt = 0
	c.schedule(ctx) // the next leader hears of the events as they are now
	if err := c.block(ctx); err != nil {
		return fmt.Errorf("%w: %w", errNoSwitch, err)
	}
	if err := c.awaitLevel(ctx, to); err != nil {
		return fmt.Errorf("%w: %w", errNoSwitch, err)
	}
	if err := c.seal(ctx, r, to); err != nil {
		return fmt.Errorf("%w: %w", errNoSwitch, err)
	}
	if ending {
		c.quieted()
	}
	// From here on it stays closed until the Lease says who leads.
	if _, err := c.line.swap(ctx, v, c.adopted(r).Seek(to).Choose(to)); err != nil {
		return fmt.Errorf("whether %s leads next is not known yet: %w", to, err)
	}
	c.gaveAway(r.Term, begun)
	c.resign("a planned change: " + to + " leads next")
	c.absolve(ctx, true) // before its heir asks for reports
	c.be(ctx, Role{Hold: "a planned change: " + to + " leads next"})
	c.wakeOthers(ctx, []string{to})
	if !ending {
		c.mu.Lock()
		fenced := c.fenced
		c.mu.Unlock()
		c.disarm(ctx, fenced, r.Term)
	}
	c.Log.Info("the Lease is given away", "to", to, "term", r.Term+1, "seconds", (fence.Now() - begun).Seconds())
	return nil
}

// seal keeps administrators of MariaDB, whom a closed server lets write, from being told of a commit
// that the next leader lacks: commits wait, nobody is left to acknowledge them, and the next leader
// is level after that.
func (c *Controller) seal(ctx context.Context, r failover.Record, to string) error {
	if c.Flavor != flavor.MariaDB {
		return nil
	}
	if r.Mode != failover.Off {
		if err := c.Server.SetWaiting(ctx, true); err != nil {
			return err
		}
	}
	if err := c.Server.SetOffline(ctx, true); err != nil {
		return err
	}
	return c.awaitLevel(ctx, to)
}

// disarm tells the fence that a server that is closed for writes, and in which nothing waits, may
// end gracefully.
func (c *Controller) disarm(ctx context.Context, fenced string, term uint64) {
	if c.Fence == nil || fenced == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Timings.Request)
	defer cancel()
	err := c.Fence.Disarm(ctx, fenced, term)
	if err != nil && !errors.Is(err, fence.ErrBoot) && !errors.Is(err, fence.ErrAway) { // then it is killed
		c.Log.Warn("the fence was not disarmed", "error", err)
	}
}

// awaitLevel waits until a member has executed all that this server has, which is closed.
func (c *Controller) awaitLevel(ctx context.Context, to string) error {
	state, err := c.look(ctx)
	if err != nil {
		return err
	}
	for begun := fence.Now(); fence.Now()-begun < levelPatience; {
		if c.hasExecuted(ctx, to, state.Position) {
			return nil
		}
		if !wait(ctx, workEvery/5, nil) {
			break
		}
	}
	return fmt.Errorf("%s has not executed all that this server has in %v", to, levelPatience)
}

// block closes the server for writes. It is closed, and nothing waits in it, where there is no
// error.
func (c *Controller) block(ctx context.Context) error {
	if err := c.Server.Block(ctx); err != nil {
		return fmt.Errorf("writes could not be blocked: %w", err)
	}
	state, err := c.look(ctx)
	if err == nil && (state.Writable || state.Held > 0) {
		err = fmt.Errorf("the server is not quiet: %d commits wait", state.Held)
	}
	return err
}

// drains says that transactions which ran when a planned change began run still, and may.
func (c *Controller) drains(ctx context.Context) bool {
	l := c.work
	if c.Drain == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	running, err := c.Server.Running(ctx)
	if err != nil {
		c.Log.Warn("which transactions run is not known: they get no time to end", "error", err)
	}
	if l.drainBegan == 0 {
		l.drainBegan, l.draining = fence.Now(), running
	}
	l.draining = slices.DeleteFunc(l.draining, func(t string) bool { return !slices.Contains(running, t) })
	over := fence.Now()-l.drainBegan >= c.Drain
	if len(l.draining) > 0 && !over {
		return true
	}
	if over {
		c.Log.Info("transactions did not end in time", "transactions", len(l.draining))
	}
	l.drainBegan, l.draining = 0, nil
	return false
}

// reopen opens the server of a leader again, whose writes were blocked: once a renewal has landed
// that was sent since, so that nothing of a planned change lands any more, and not after it has
// reported for a later term.
func (c *Controller) reopen(ctx context.Context, term uint64) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	c.mu.Lock()
	early := c.renewed <= c.blocked
	boot, fenced, until := c.boot, c.fenced, c.deadline
	leads := c.part == leader && c.term == term
	c.mu.Unlock()
	if !leads || early || c.remembered().Promised > term {
		return nil
	}
	return c.Server.Open(ctx, boot, func(ctx context.Context) error {
		if fence.Now() >= until {
			return errors.New("its permission has ended")
		}
		if c.Fence == nil {
			return nil
		}
		return c.Fence.Arm(ctx, fenced, term, until)
	})
}
