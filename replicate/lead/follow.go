package lead

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// follow is a step of a member that has no part in the term.
func (c *Controller) follow(ctx context.Context, v view, state State, fresh bool) {
	memory := c.remembered()
	switch r := v.record; {
	case v.version == nil:
		c.hold(ctx, "the Lease has not been read yet: "+v.away)
		return
	case v.bad != nil:
		c.hold(ctx, v.bad.Error())
		return
	case fresh && state.Writable && (r != nil || !c.First) && !c.resumes(v, state, memory): // before the first term the agent looks after it
		const why = "its server is open for writes, and the Lease does not let it lead"
		c.hold(ctx, why)
		c.shut(ctx, why)
		return
	case r == nil && memory.Seen > 0:
		c.hold(ctx, fmt.Sprintf("the Lease has no term record, and this volume has seen term %d: the Lease was deleted or restored", memory.Seen))
		return
	case r == nil && c.First:
		c.begin(ctx, v, fresh)
		return
	case r == nil:
		c.assume(ctx, Role{Follows: c.Before, Plain: true})
		return
	case r.Holder == c.Name:
		c.mine(ctx, v, state, fresh, memory)
		return
	}
	if c.seek(ctx, v, memory, fresh) {
		return
	}
	if fresh && state.Offline { // it was an heir
		if err := c.Server.SetOffline(ctx, false); err != nil {
			c.Log.Warn("only administrators are let in yet", "error", err)
		}
		_, _ = c.look(ctx)
	}
	c.comeBack(ctx, v, state, fresh, memory)
}

// mine is what a member does that the Lease names, and that has no part yet.
func (c *Controller) mine(ctx context.Context, v view, state State, fresh bool, memory Memory) {
	r := v.record
	switch {
	case r.Term < memory.Seen || r.Term < memory.Promised:
		c.hold(ctx, fmt.Sprintf("the Lease says term %d, and this volume has seen %d", r.Term, max(memory.Seen, memory.Promised)))
	case r.Phase == failover.Electing:
		c.take(candidate, r.Term)
	case r.Phase == failover.Heir:
		c.take(heir, r.Term)
	case !fresh:
		c.hold(ctx, "its server does not answer")
		if c.refused() {
			c.releaseDead(ctx, v)
		}
	case c.resumes(v, state, memory):
		c.resume(ctx, v, state)
	default:
		// Its server has restarted, or another took its data directory's place: an election tells who
		// leads.
		c.hold(ctx, "its server was closed: it waits for the next leader")
		c.release(ctx, v)
	}
}

// resumes says that the open server is the one that this member has opened for the term that the
// Lease says.
func (c *Controller) resumes(v view, state State, memory Memory) bool {
	r := v.record
	return r != nil && memory.Opened == r.Term && memory.Boot == state.Boot && state.Writable &&
		failover.MayOpen(c.Name, *r, memory.volume(state.Data), state.Has) == ""
}

// resume goes on as the leader after a restart of this process, once a renewal has landed.
func (c *Controller) resume(ctx context.Context, v view, state State) {
	sent, err := c.line.swap(ctx, v, *v.record)
	if err != nil {
		c.Log.Warn("it does not lead again yet", "error", err)
		return
	}
	until := failover.Deadline(0, sent, c.Timings.Permission)
	if c.Fence != nil {
		if err := c.armAgain(ctx, v.record.Term, until); err != nil {
			c.Log.Warn("it does not lead again yet", "error", err)
			return
		}
	}
	c.leads(v.record.Term, state.Boot, until)
	c.assume(ctx, Role{Leads: true})
	c.Log.Info("it leads again", "term", v.record.Term)
}

// armAgain arms the fence for a server that is open.
func (c *Controller) armAgain(ctx context.Context, term uint64, until time.Duration) error {
	boot, err := c.Fence.Boot(ctx)
	if err != nil {
		return err
	}
	if err := c.Fence.Arm(ctx, boot, term, until); err != nil {
		return err
	}
	c.mu.Lock()
	c.fenced = boot
	c.mu.Unlock()
	return nil
}

// seek takes the Lease where it may; false: it does not.
func (c *Controller) seek(ctx context.Context, v view, memory Memory, fresh bool) bool {
	state, _ := c.seen()
	now := fence.Now()
	c.mu.Lock()
	notBefore := c.notBefore
	c.mu.Unlock()
	barred := c.barred(state)
	if !fresh {
		barred = "its server does not answer"
	} else if now < notBefore {
		barred = "its last election failed"
	}
	o := failover.Observed{Unrenewed: now - v.beatAt, InPhase: now - v.phaseAt, Barred: barred}
	step, why := failover.MaySeek(c.Name, v.record, memory.volume(state.Data), o, c.Timings)
	if step != failover.Seek || v.away != "" { // what could not be read again may be long over
		c.Log.Debug("it does not seek the Lease", "reason", why, "away", v.away)
		return false
	}
	c.Log.Info("it seeks the Lease", "term", v.record.Term+1, "reason", why)
	if _, err := c.line.swap(ctx, v, v.record.Seek(c.Name)); err != nil {
		c.Log.Info("the Lease was not taken", "error", err)
		return false
	}
	poke(c.wakeWork)
	return true
}

// barred says why the member may not lead.
func (c *Controller) barred(state State) string {
	why := ""
	if c.Barred != nil {
		why = c.Barred()
	}
	if why == "" && state.Delay > 0 {
		why = fmt.Sprintf("its applier is behind by %s on purpose", state.Delay)
	}
	return why
}

// comeBack follows the leader, or not yet, or asks to be reseeded.
func (c *Controller) comeBack(ctx context.Context, v view, state State, fresh bool, memory Memory) {
	r := v.record
	if !fresh {
		c.hold(ctx, "its server does not answer")
		return
	}
	step, why := failover.Return(r, memory.volume(state.Data), state.Has, false, false)
	role := Role{Hold: why}
	switch step {
	case failover.Follow:
		role = Role{Follows: r.Last.Member}
	case failover.Replace:
		role = Role{Follows: r.Last.Member, Reseed: why}
	}
	side := c.side(r, state) && step == failover.Follow
	// What a former leader applies would wait for replicas, too. Nothing waits, so that nothing is let
	// go.
	waits := state.Source && !state.Writable && state.Held == 0 && r.Phase == failover.Opened && r.Last.Member != c.Name
	if c.Role().same(role) && state.Side == side && !waits {
		return
	}
	short, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if c.lock(short) != nil {
		return
	}
	defer c.unlock()
	// It may have promised a later term, or heard of a later record, while it waited.
	if c.remembered() != memory || c.line.view().version.Record() != v.version.Record() || side && !c.side(r, state) {
		return
	}
	if waits {
		if err := c.Server.SetWaiting(short, false); err != nil {
			c.Log.Warn("the source's side of a former leader is not off yet", "error", err)
			return
		}
	}
	if state.Side != side {
		if err := c.Server.SetSide(short, side); err != nil {
			c.Log.Warn("its side of semi-sync was not changed", "on", side, "error", err)
			return
		}
		c.Log.Info("its side of semi-sync", "on", side, "term", r.Term, "naming", r.Naming)
		_, _ = c.look(short)
	}
	c.be(ctx, role)
}

// side says that the member acknowledges: the Lease names it, with the relay logs that it has, and
// nobody has spoken of a later naming; and its channel logs in by the account that the leader can
// bar.
func (c *Controller) side(r *failover.Record, state State) bool {
	c.mu.Lock()
	naming := c.naming
	c.mu.Unlock()
	named := slices.Contains(r.Acknowledgers, failover.Acknowledger{Member: c.Name, Receipt: state.Receipt()})
	return named && r.Phase == failover.Opened && r.Naming >= naming && state.User == Account(c.Name)
}

// errNoReport is returned where the member does not report.
var errNoReport = errors.New("no report")

// Report is the member's answer to the holder of an election. It binds: the member has stopped
// receiving, and receives from no leader of an older term, also after a restart.
func (c *Controller) Report(ctx context.Context, q Ask) (failover.Report, error) {
	if q.To != c.Name {
		return failover.Report{}, fmt.Errorf("%w: this is %s", errNoReport, c.Name)
	}
	poke(c.wakeLease)
	if !c.isSettled() {
		return failover.Report{}, fmt.Errorf("%w: the sidecar has just started", errNoReport)
	}
	memory := c.remembered()
	if q.Term < memory.Promised {
		return failover.Report{}, fmt.Errorf("%w: it has reported for term %d", errNoReport, memory.Promised)
	}
	if q.Term < memory.Seen { // the asker learns of it, and nothing is promised
		state, fresh := c.seen()
		if !fresh {
			return failover.Report{}, fmt.Errorf("%w: its server does not answer", errNoReport)
		}
		return c.describe(q.Term, memory, state), nil
	}
	if err := c.enterForReport(ctx); err != nil {
		return failover.Report{}, err
	}
	defer c.unlock()
	state, err := c.look(ctx)
	if err != nil {
		return failover.Report{}, fmt.Errorf("%w: %w", errNoReport, err)
	}
	if state.Writable {
		if p, term := c.now(); p != follower && term < q.Term { // before: a leader would open it again
			c.resign(q.From + " asks for a report for a later term")
		}
		go c.shut(context.WithoutCancel(ctx), "it is asked for a report")
		return failover.Report{}, fmt.Errorf("%w: its server is open for writes, and is being closed", errNoReport)
	}
	if err := c.remember(func(m *Memory) { m.Seen, m.Promised = max(m.Seen, q.Term), max(m.Promised, q.Term) }); err != nil {
		return failover.Report{}, fmt.Errorf("%w: %w", errNoReport, err)
	}
	if memory = c.remembered(); memory.Promised > q.Term {
		return failover.Report{}, fmt.Errorf("%w: it has reported for term %d", errNoReport, memory.Promised)
	}
	if q.From != c.Name {
		if p, term := c.now(); p != follower && term <= q.Term {
			c.resign(q.From + " asks for a report for term " + fmt.Sprint(q.Term))
		}
	}
	c.be(ctx, Role{Hold: fmt.Sprintf("it has reported for term %d", q.Term)})
	if err := c.Server.StopReceiving(ctx); err != nil {
		return failover.Report{}, fmt.Errorf("%w: %w", errNoReport, err)
	}
	if state, err = c.look(ctx); err != nil {
		return failover.Report{}, fmt.Errorf("%w: %w", errNoReport, err)
	}
	if state.Writable || state.Receiving {
		return failover.Report{}, fmt.Errorf("%w: somebody has started its receiver, or opened its server", errNoReport)
	}
	return c.describe(q.Term, memory, state), nil
}

func (c *Controller) isSettled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settled
}

// patience is how long a report waits for a step of the agent before that is given up.
const patience = 500 * time.Millisecond

// enterForReport locks the gate. A step that is under way longer is given up: what it may still do
// is ended.
func (c *Controller) enterForReport(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if c.lock(short) == nil {
		return nil
	}
	c.Unsettle()
	if err := c.Server.Settle(ctx); err != nil {
		return fmt.Errorf("%w: a step is under way: %w", errNoReport, err)
	}
	if err := c.lock(ctx); err != nil {
		return fmt.Errorf("%w: a step is under way", errNoReport)
	}
	return nil
}

func (c *Controller) describe(term uint64, memory Memory, state State) failover.Report {
	return failover.Report{
		Member: c.Name, Term: term, Seen: memory.Seen, Receipt: state.Receipt(), Data: state.Data, Has: state.Has, Executed: state.Executed,
		Barred: c.barred(state), Serves: true, Healthy: state.Error == "" && (!state.Channel || state.Applier != ""), Ordinal: c.Ordinal, Lag: state.Lag,
	}
}

// Answer says what the member is, to whoever asks. What it answers is seen after the question, and
// after it was told of the naming.
func (c *Controller) Answer(ctx context.Context, q Ask) (Answer, error) {
	if q.To != c.Name {
		return Answer{}, fmt.Errorf("%w: this is %s", errNoReport, c.Name)
	}
	if r := c.line.view().record; r == nil || r.Term != q.Term || r.Naming != q.Naming {
		poke(c.wakeLease)
	}
	c.mu.Lock()
	later := q.Naming > c.naming
	c.mu.Unlock()
	if later {
		// No step by an older naming is under way then.
		if err := c.lock(ctx); err != nil {
			return Answer{}, err
		}
		defer c.unlock()
		c.mu.Lock()
		c.naming = max(c.naming, q.Naming)
		c.mu.Unlock()
	}
	state, err := c.look(ctx)
	c.mu.Lock()
	a := Answer{Member: c.Name, Naming: c.naming, Seen: c.memory.Seen}
	settled := c.settled
	c.mu.Unlock()
	if err == nil && !settled {
		err = errors.New("what was begun at the server is not ended yet")
	}
	if err != nil {
		a.Trouble = err.Error()
		a.Side = true // nobody knows
		return a, nil
	}
	a.Writable = state.Writable
	a.Receipt, a.Data, a.Executed, a.Has, a.Side = state.Receipt(), state.Data, state.Executed, state.Has, state.Side
	if role := c.Role(); role.Reseed == "" {
		a.Follows = role.Follows
	}
	a.Barred, a.Trouble = c.barred(state), state.Error
	return a, nil
}

// Account is the name of the account by which a member logs in at the leader. There is one for each
// member, so that the leader can bar one.
func Account(member string) string { return "understudy_" + member }
