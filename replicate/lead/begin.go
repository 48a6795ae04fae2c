package lead

import (
	"context"
	"fmt"

	"understudy/replicate/failover"
)

// begin opens the first term, or the next one of a set that had gone back to its first ordinal. Only
// that does, once it has all that the members have, and all members that the set knows of have said
// that they go by the Lease.
func (c *Controller) begin(ctx context.Context, v view, fresh bool) {
	c.mu.Lock()
	waits := c.waits
	c.mu.Unlock()
	c.assume(ctx, Role{Leads: true, Begins: true, Waits: waits})
	if !fresh || !c.Role().Leads || !c.MayBegin() {
		return
	}
	ended := uint64(0)
	if v.record != nil {
		ended = v.record.Term
	}
	members := []string{c.Name}
	known, err := c.Members.Known(ctx)
	if err != nil {
		c.waitsFor(err.Error())
		return
	}
	for _, m := range known {
		short, cancel := context.WithTimeout(ctx, c.Timings.Request)
		a, err := c.Members.Tell(short, m, Ask{From: c.Name, To: m})
		cancel()
		if err == nil && (a.Seen > ended || a.Writable) {
			c.waitsFor(fmt.Sprintf("%s has seen term %d, or is open for writes: the Lease was deleted or restored", m, a.Seen))
			return
		}
		if err != nil || a.Member != m {
			c.waitsFor(fmt.Sprintf("the set's term begins when %s says that it goes by the Lease: %v", m, err))
			return
		}
		members = append(members, m)
	}
	short, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.lock(short); err != nil {
		return
	}
	defer c.unlock()
	if err := c.beginWith(short, v, members); err != nil {
		c.waitsFor("the set's term was not opened: " + err.Error())
	}
}

func (c *Controller) beginWith(ctx context.Context, v view, members []string) error {
	r := v.record.Begin(c.Name, c.Mode, members)
	r.Ledger.Flavor = c.Flavor
	if err := c.fencedFrom(ctx); err != nil {
		return err
	}
	if err := c.Server.SetOffline(ctx, true); err != nil {
		return err
	}
	if err := c.Server.WriteAs(ctx, r.Term); err != nil {
		return err
	}
	state, err := c.look(ctx)
	switch {
	case err != nil:
		return err
	case state.Writable || state.Channel || !c.writesAs(state, r.Term):
		return fmt.Errorf("the server is not what it was: %+v", state)
	}
	domain, begins, err := c.beginning(state)
	if err != nil {
		return err
	}
	r.Last.Data = state.Data
	r.Ledger.Domain = domain
	r.Ledger.Terms = []failover.Term{{Term: r.Term, Server: state.Writer, Begins: begins}}
	sent, err := c.line.swap(ctx, v, r)
	if err != nil {
		return err
	}
	return c.open(ctx, r, state.Boot, sent, "")
}
