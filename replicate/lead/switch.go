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
	ctx, cancel := context.WithTimeout(ctx, switchTimeout)
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
		said, ok := c.answer(m)
		switch {
		case asked != "" && m != asked:
			continue
		case !ok:
			why = fmt.Errorf("%s does not answer", m)
		case said.Follows != c.Name || said.Receipt == "":
			why = fmt.Errorf("%s does not follow", m)
		case said.Barred+said.Trouble != "":
			why = fmt.Errorf("%s may not lead: %s", m, cmp.Or(said.Barred, said.Trouble))
		default:
			may = append(may, m)
		}
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

// switchOver blocks writes, waits until the next leader has all, and gives it the Lease.
func (c *Controller) switchOver(ctx context.Context, v view, s switching) error {
	r := *v.record
	to, err := c.next(r, s.to)
	if err != nil {
		return err
	}
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
	if err := c.Server.Block(ctx); err != nil {
		return fmt.Errorf("%w: writes could not be blocked: %w", errNoSwitch, err)
	}
	if err := c.awaitLevel(ctx, to); err != nil {
		return fmt.Errorf("%w: %w", errNoSwitch, err)
	}
	// From here on it stays closed until the Lease says who leads.
	if _, err := c.line.swap(ctx, v, r.Seek(to).Choose(to)); err != nil {
		return fmt.Errorf("whether %s leads next is not known yet: %w", to, err)
	}
	c.resign("a planned change: " + to + " leads next")
	c.be(ctx, Role{Hold: "a planned change: " + to + " leads next"})
	c.wakeOthers(ctx, []string{to})
	if c.Fence != nil {
		c.mu.Lock()
		fenced := c.fenced
		c.mu.Unlock()
		if err := c.Fence.Disarm(ctx, fenced, r.Term); err != nil { // then it is killed, and starts again
			c.Log.Warn("the fence was not disarmed", "error", err)
		}
	}
	c.Log.Info("the Lease is given away", "to", to, "term", r.Term+1, "seconds", (fence.Now() - begun).Seconds())
	return nil
}

// awaitLevel waits until a member has executed all that this server has.
func (c *Controller) awaitLevel(ctx context.Context, to string) error {
	state, err := c.look(ctx)
	if err == nil && (state.Writable || state.Held > 0) {
		err = fmt.Errorf("the server is not quiet: %d commits wait", state.Held)
	}
	if err != nil {
		return err
	}
	for begun := fence.Now(); fence.Now()-begun < levelPatience; {
		if a, err := c.tell(ctx, to); err == nil && c.contains(a.Executed, state.Position) {
			return nil
		}
		if !wait(ctx, workEvery/2, nil) {
			break
		}
	}
	return fmt.Errorf("%s has not executed all that this server has in %v", to, levelPatience)
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
