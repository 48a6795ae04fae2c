package lead

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// What a member does whose server is about to be ended, by the kubelet or by somebody on the node:
//
//	what it is         what it does
//	-----------------  ------------------------------------------------------------------------
//	leader             a planned change, to the member that is best now
//	leader, and nobody closes its server, and releases the Lease once no commit waits: it, or whoever
//	may lead           has all, is elected later
//	candidate or heir  gives up, and releases the Lease
//	follower           stands for no election
//
// A server in which commits wait is not closed. In mode preferred, they wait for some seconds only
// where no member is left; else the server is left to the fence, which kills it.

const (
	// EndPatience bounds the end of a leader, beside the time that its transactions are given.
	EndPatience = 20 * time.Second
	// openPatience is how long a closed server is kept for reports and for the next leader, within its
	// permission.
	openPatience = 3 * time.Second
	// askPatience bounds the questions to all members before one is chosen.
	askPatience = 500 * time.Millisecond
)

// end is the end of a server that is to come.
type end struct {
	why  string
	boot string // of the server; another one stays
	// quiet is since when the server is closed and nothing waits in it, 0: it is not. Released says
	// that nobody was found who may lead, and that nobody needs this server's report: in mode off only
	// it knows what it had.
	quiet    time.Duration
	released bool
	// fenced and term are what the fence is disarmed by, until is when it has to be.
	fenced string
	term   uint64
	until  time.Duration
}

// toEnd is the end that is to come for the server that runs.
func (c *Controller) toEnd(state State) (end, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end, c.end.why != "" && c.end.boot == state.Boot
}

// End prepares the end of the member's server, and returns when it may be ended: see the table
// above. It does nothing more for a server that is started after it. The error says that commits
// still wait in the server, or that it is still open.
func (c *Controller) End(ctx context.Context, why string) error {
	c.mu.Lock()
	boot := c.state.Boot
	if c.end.boot != boot || c.end.why == "" {
		c.end = end{why: why, boot: boot}
	}
	c.mu.Unlock()
	for {
		e, same := c.toEnd(State{Boot: boot})
		p, _ := c.now()
		switch {
		case !same: // another server has been started meanwhile
			return nil
		case p == follower && e.quiet == 0:
			return nil
		case e.quiet > 0 && (e.released || c.led() || fence.Now() >= min(e.quiet+openPatience, e.until)):
			c.disarm(ctx, e.fenced, e.term)
			return nil
		}
		poke(c.wakeWork)
		if !wait(ctx, workEvery/2, nil) {
			return errors.New("the leader is not closed for writes, or commits wait for replicas")
		}
	}
}

// led says that another member has opened a term.
func (c *Controller) led() bool {
	r := c.line.view().record
	return r != nil && r.Phase == failover.Opened && r.Holder != "" && r.Holder != c.Name
}

// leave is a step of a leader whose server is about to be ended.
func (c *Controller) leave(ctx context.Context, v view, state State, e end) {
	c.mu.Lock()
	c.work = c.leading
	c.mu.Unlock()
	if c.work == nil || v.unsure || v.version == nil || v.record == nil || failover.WentBack(v.record, c.remembered().volume("")) != "" {
		return
	}
	c.askNow(ctx, *v.record)
	to, err := c.next(*v.record, "")
	if err == nil {
		if c.drains(ctx) {
			c.adopt(ctx, v, state)
			return
		}
		err = c.switchOver(ctx, v, to, true)
	}
	if errors.Is(err, errNoSwitch) {
		c.Log.Info("nobody leads next yet", "reason", err)
		err = c.retire(ctx, v)
	}
	if err != nil {
		c.Log.Warn("the leader's server is about to end, and it leads still", "end", e.why, "error", err)
		if state.Writable { // commits may wait for members that end, too: preferred goes on without them
			c.tend(ctx, v, state)
		}
	}
}

// askNow asks all members what they are, and waits for the answers.
func (c *Controller) askNow(ctx context.Context, r failover.Record) {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	note := keep(c.work.answers)
	c.askEach(ctx, others(r.Members, c.Name), func(member string, a Answer, err error) {
		delete(c.work.answers, member) // who does not answer now is not asked to lead
		note(member, a, err)
	})
}

// retire closes the server, and releases the Lease.
func (c *Controller) retire(ctx context.Context, v view) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	if err := c.block(ctx); err != nil {
		return err
	}
	c.quieted()
	if _, err := c.line.swap(ctx, v, c.adopted(*v.record).Release()); err != nil {
		return fmt.Errorf("the Lease is not released yet: %w", err)
	}
	c.mu.Lock()
	c.end.released = v.record.Mode != failover.Off || len(v.record.Members) == 1
	c.mu.Unlock()
	const why = "its server is about to end, and nobody leads yet"
	c.resign(why)
	c.absolve(ctx, true) // before others ask for reports
	c.be(ctx, Role{Hold: why})
	c.wakeOthers(ctx, v.record.Members)
	return nil
}

// quieted notes that the server of a leader is closed, and that nothing waits in it.
func (c *Controller) quieted() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.quiet == 0 {
		c.end.quiet, c.end.fenced, c.end.term, c.end.until = fence.Now(), c.fenced, c.term, c.deadline-c.Timings.Kill
	}
}
