package lead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/guard"
)

// What a member says of itself: reports, which bind it, and answers, which do not.

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
	if err := c.bound(q.Term); err != nil {
		return failover.Report{}, fmt.Errorf("%w: %w", errNoReport, err)
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
	var bound error
	err = c.remember(func(m *Memory) {
		if bound = c.bound(q.Term); bound == nil {
			m.Seen, m.Promised = max(m.Seen, q.Term), max(m.Promised, q.Term)
		}
	})
	if err = cmp.Or(bound, err); err != nil {
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
	if q.From != c.Name || c.Role().Hold == "" { // else it says what it waits for
		c.be(ctx, Role{Hold: fmt.Sprintf("it has reported for term %d", q.Term)})
	}
	if guard.Lacks(guard.Binding) && q.From != c.Name {
		return c.describe(q.Term, memory, state), nil
	}
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

// upstream is empty where not all that the member has came from there: it has more than the set, and
// its leader had the time to adopt that.
func (c *Controller) upstream(state State) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.errant {
		return ""
	}
	return state.Upstream
}

func (c *Controller) describe(term uint64, memory Memory, state State) failover.Report {
	return failover.Report{
		Member: c.Name, Term: term, Seen: memory.Seen, Record: memory.Record, Receipt: state.Receipt(), Data: state.Data,
		Upstream: c.upstream(state), Has: state.Has, Executed: state.Executed,
		Barred: cmp.Or(c.barred(state), c.line.view().cutOff()), Unfenced: c.fenceTrouble(), Serves: true, Healthy: state.Error == "" && (!state.Channel || state.Applier != ""), Ordinal: c.Ordinal, Lag: c.lag(state),
	}
}

// Answer says what the member is, to whoever asks. What it answers is seen after the question, and
// after it was told of the naming.
func (c *Controller) Answer(ctx context.Context, q Ask) (Answer, error) {
	if q.To != c.Name {
		return Answer{}, fmt.Errorf("%w: this is %s", errNoReport, c.Name)
	}
	if r := c.line.view().record; q.Wake || r == nil || r.Term != q.Term || r.Naming != q.Naming {
		poke(c.wakeLease)
	}
	c.hear(q)
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
	if why := c.diskTrouble(); err == nil && why != "" { // what it promises would not last
		err = errors.New(why)
	}
	if err == nil && !settled {
		err = errors.New("what was begun at the server is not ended yet")
	}
	if err != nil {
		a.Trouble = err.Error()
		a.Side = true // nobody knows
		return a, nil
	}
	a.Writable, a.Offline = state.Writable, state.Offline
	a.Upstream = c.upstream(state)
	a.Receipt, a.Data, a.Executed, a.Has, a.Side = state.Receipt(), state.Data, state.Executed, state.Has, state.Side
	a.Severed = state.Severed
	a.Lag = c.lag(state)
	if role := c.Role(); role.Reseed == "" {
		a.Follows = role.Follows
	}
	a.Barred, a.Trouble, a.Unfenced = cmp.Or(c.barred(state), c.line.view().cutOff()), state.Error, c.fenceTrouble()
	return a, nil
}
