package lead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
	"understudy/replicate/guard"
)

// askAgain is the time after which a member is asked again that has not reported.
const askAgain = 200 * time.Millisecond

// gather asks the members for reports that have not given one. It does not wait for the answers.
func (c *Controller) gather(ctx context.Context, r failover.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range others(r.Members, c.Name) {
		if _, ok := c.reports[m]; ok || c.asked[m] {
			continue
		}
		c.asked[m] = true
		go c.ask(ctx, r, m)
	}
}

func (c *Controller) ask(ctx context.Context, r failover.Record, member string) {
	short, cancel := context.WithTimeout(ctx, c.Timings.Report)
	defer cancel()
	report, err := c.Members.Report(short, member, Ask{From: c.Name, To: member, Term: r.Term, Naming: r.Naming})
	if err == nil && report.Member != member {
		err = fmt.Errorf("%s answers for %s", report.Member, member)
	}
	if err != nil {
		c.Log.Debug("a member does not report", "member", member, "term", r.Term, "error", err)
		wait(ctx, askAgain, nil)
	}
	if err == nil {
		c.learn(report)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.term != r.Term || c.reports == nil {
		return
	}
	delete(c.asked, member)
	if err == nil {
		c.reports[member] = report
	}
	poke(c.wakeWork)
}

// collected are the reports, with the member's own of now.
func (c *Controller) collected(ctx context.Context, r failover.Record) ([]failover.Report, failover.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timings.Report)
	defer cancel()
	own, err := c.Report(ctx, Ask{From: c.Name, To: c.Name, Term: r.Term, Naming: r.Naming})
	if err != nil {
		return nil, own, err
	}
	return c.with(own), own, nil
}

// with are the reports, with the member's own.
func (c *Controller) with(own failover.Report) []failover.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]failover.Report{}
	maps.Copy(all, c.reports) // none is left where it has resigned meanwhile
	all[own.Member] = own
	return slices.SortedFunc(maps.Values(all), func(a, b failover.Report) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
}

// waitsFor says, once, why an election or a promotion waits.
func (c *Controller) waitsFor(why string) {
	c.mu.Lock()
	news := c.waits != why
	c.waits = why
	c.mu.Unlock()
	if news && why != "" {
		c.Log.Info("waiting", "reason", why)
	}
}

// awaits is waitsFor, and tells it to whoever asks this member.
func (c *Controller) awaits(ctx context.Context, why string) {
	c.waitsFor(why)
	_, term := c.now()
	c.hold(ctx, fmt.Sprintf("no leader: term %d: %s", term, why))
}

// collect is a step of the holder of an election.
func (c *Controller) collect(ctx context.Context, v view) {
	r := *v.record
	lasts := fence.Now() - c.partSince()
	if lasts >= c.Timings.Electing {
		c.failLate(ctx, v, "the election has not ended in time")
		return
	}
	c.gather(ctx, r)
	reports, _, err := c.collected(ctx, r)
	if err != nil {
		c.awaits(ctx, err.Error())
		return
	}
	e := failover.Decide(r, reports, c.MaxLag)
	switch {
	case e.Step == failover.Refuse:
		c.fail(ctx, v, e.Reason)
	case e.Step != failover.Elect && e.Step != failover.Fetch:
		c.awaits(ctx, e.String())
	case r.Mode == failover.Off && len(reports) < len(r.Members) && lasts < c.Timings.Report:
		c.waitsFor("the others may have more")
	default:
		next, foreign := r.Elect(e.Heir, reports)
		if _, err := next.Encode(); err != nil {
			c.awaits(ctx, err.Error())
			return
		}
		if _, err := c.line.swap(ctx, v, next); err != nil {
			c.Log.Info("the heir was not written into the Lease", "heir", e.Heir, "error", err)
			return
		}
		if foreign != "" {
			c.Log.Warn("the last leader had executed what is named after another server: it is the set's now", "transactions", foreign)
		}
		c.Log.Info("elected", "term", r.Term, "heir", e.Heir, "reason", e.Reason, "seconds", lasts.Seconds())
		c.count(func(n *Counts) { n.Elected++ })
		c.event(false, ReasonElected, "%s is to lead term %d, %.1f s after it began: %s", e.Heir, r.Term, c.sinceTerm(r.Term), e.Reason)
		if e.Heir != c.Name {
			c.resign("the heir is " + e.Heir)
			c.wakeOthers(ctx, []string{e.Heir})
		}
		poke(c.wakeWork)
	}
}

// fail gives up an election, or a promotion, and lets others try first.
func (c *Controller) fail(ctx context.Context, v view, why string) {
	c.Log.Warn("the election failed", "term", v.record.Term, "reason", why)
	c.count(func(n *Counts) { n.Failed++ })
	c.event(true, ReasonElectionFailed, "no leader: %s", why) // the same one is told once in ten minutes
	c.mu.Lock()
	c.notBefore = fence.Now() + c.Timings.Electing/2
	c.mu.Unlock()
	c.stopFetching(ctx)
	c.release(ctx, v)
	c.resign(why)
}

// failLate is fail with what was waited for last.
func (c *Controller) failLate(ctx context.Context, v view, why string) {
	c.mu.Lock()
	if c.waits != "" {
		why += ": " + c.waits
	}
	c.mu.Unlock()
	c.fail(ctx, v, why)
}

func (c *Controller) partSince() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}

// promote is a step of an heir. An heir becomes the leader in this order:
//
//	stop receiving, and read it back        it did for its report; a restart may have undone it
//	fetch what another member has
//	apply all that was received             never cut short: the promotion ends without it
//	collect reports, failover.Ready         with what it has executed itself
//	let in administrators only              an earlier leader may have admitted members here
//	take the term's server_id               MariaDB; what is logged from here on is of the term
//	have commits wait                       unless off
//	measure, choose acknowledgers           those that have executed all that this server has
//	write Opened into the Lease             one compare-and-swap
//	forget the channel
//	arm the timer, open, label the pod
func (c *Controller) promote(ctx context.Context, v view) {
	r := *v.record
	if fence.Now()-c.partSince() >= c.Timings.Promotion {
		c.failLate(ctx, v, "the heir is not ready in time")
		return
	}
	c.gather(ctx, r)
	if c.fetches() {
		return
	}
	reports, own, err := c.collected(ctx, r)
	if err != nil {
		c.awaits(ctx, err.Error())
		return
	}
	if why := failover.Ready(r, reports, c.Name); why != "" {
		c.awaits(ctx, why)
		if state, ok := c.seen(); ok && state.Channel && state.Applier == "" && state.Error == "" {
			if err := c.Server.Apply(ctx); err != nil {
				c.Log.Warn("the applier was not started", "error", err)
			}
		}
		c.fetch(ctx, r, reports, own)
		return
	}
	if c.mayNameMore(r, own) {
		return
	}
	short, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := c.lock(short); err != nil {
		return
	}
	err = c.becomeLeader(short, v, reports, own)
	c.unlock()
	if err != nil {
		c.Log.Warn("the heir is not open yet", "term", r.Term, "error", err)
		c.waitsFor(err.Error())
		wait(ctx, askAgain, nil)
	}
}

// applyPatience is how long an heir that may open waits for members to apply what they have, so
// that it can name them.
const applyPatience = 500 * time.Millisecond

// mayNameMore says that a member is about to have executed what the heir has. Its report is asked
// for again.
func (c *Controller) mayNameMore(r failover.Record, own failover.Report) bool {
	if r.Mode == failover.Off || fence.Now()-c.partSince() > applyPatience {
		return false
	}
	missing := false
	c.mu.Lock()
	for _, m := range others(r.Members, c.Name) {
		report, ok := c.reports[m]
		switch {
		case !ok:
			missing = missing || m != r.Last.Member // the old leader is the likeliest to be dead
		case !c.contains(report.Executed, own.Executed) && c.contains(report.Has, own.Executed):
			delete(c.reports, m)
			missing = true
		}
	}
	c.mu.Unlock()
	return missing
}

// becomeLeader prepares the server, writes the opened term into the Lease, and opens. The gate is
// locked.
func (c *Controller) becomeLeader(ctx context.Context, v view, reports []failover.Report, own failover.Report) error {
	r := v.record.Heeding(reports)
	if err := c.fencedFrom(ctx); err != nil {
		return err
	}
	c.be(ctx, Role{Hold: fmt.Sprintf("it is about to lead term %d", r.Term)})
	// Nobody may receive from it whom the Lease will not name: an earlier leader may have admitted
	// members here.
	if err := c.Server.SetOffline(ctx, true); err != nil {
		return err
	}
	// Before it is measured: what it writes from now on is known by the term.
	if err := c.Server.WriteAs(ctx, r.Term); err != nil {
		return err
	}
	// Before the Lease says so. Without an acknowledger they do not in mode preferred.
	if err := c.Server.SetWaiting(ctx, r.Mode != failover.Off && !guard.Lacks(guard.Waiting)); err != nil {
		return err
	}
	state, err := c.look(ctx)
	switch {
	case err != nil:
		return err
	case state.Writable || state.Receiving || !state.Offline || state.Executed != state.Has && !guard.Lacks(guard.Drained) || !c.contains(state.Executed, own.Executed) || state.Data != own.Data || !c.writesAs(state, r.Term):
		return fmt.Errorf("the server is not what it was: %+v", state)
	case r.Mode != failover.Off && !state.Waiting && !guard.Lacks(guard.Waiting):
		return fmt.Errorf("commits would not wait for replicas: %+v", state)
	}
	m, err := r.Ledger.Measure(state.Executed)
	if err != nil || r.Forced != r.Term && (m.Errant != "" || m.Old) {
		return errors.Join(fmt.Errorf("its history is not the set's: it has %s", m.Errant), err)
	}
	_, begins, err := c.beginning(state)
	if err != nil {
		return err
	}
	next := r.Open(failover.Opening{
		Leader: failover.Leader{Member: c.Name, Data: state.Data}, Server: state.Writer, Begins: begins, Has: m.Extent,
		Reports: others2(reports, c.Name),
	})
	sent, err := c.line.swap(ctx, v, next)
	if err != nil {
		return err
	}
	// Not before: with its applier it would lose what it is named by, if it is an acknowledger and the
	// write fails.
	if err := c.Server.Forget(ctx); err != nil {
		return err
	}
	if next.WaitsForNobody() {
		if err := c.Server.SetWaiting(ctx, false); err != nil {
			return err
		}
	}
	return c.open(ctx, next, state.Boot, sent, r.Last.Member)
}

// writesAs says that the server's transactions are named as those of the leader of a term.
func (c *Controller) writesAs(state State, term uint64) bool {
	return c.Flavor != flavor.MariaDB || state.Writer == strconv.FormatUint(uint64(failover.ServerID(term)), 10)
}

// beginning is what the ledger keeps of where a term begins: all that the server has executed, on
// MariaDB the newest of it, and its domain.
func (c *Controller) beginning(state State) (domain uint32, begins string, err error) {
	if c.Flavor != flavor.MariaDB {
		return 0, state.Executed, nil
	}
	h, err := gtid.Parse(c.Flavor, state.Executed)
	if err != nil || h.Empty() {
		return 0, "", err
	}
	begins = h.String()
	first, _, _ := strings.Cut(begins, "-")
	n, err := strconv.ParseUint(first, 10, 32)
	if err != nil || strings.Contains(begins, ",") {
		return 0, "", fmt.Errorf("its GTIDs are of more than one domain: %s", begins)
	}
	return uint32(n), begins, nil
}

func others2(reports []failover.Report, name string) []failover.Report {
	return slices.DeleteFunc(slices.Clone(reports), func(r failover.Report) bool { return r.Member == name })
}

// arrange lets in whom the Lease lets in: of the members the named ones, and then clients. The
// others are barred until they have said that their side is off.
func (c *Controller) arrange(ctx context.Context, r failover.Record) error {
	if err := c.Server.Accounts(ctx, r.Members); err != nil {
		return err
	}
	for _, m := range others(r.Members, c.Name) {
		do := c.Server.Bar
		if named(r, m) {
			do = c.Server.Admit
		}
		if err := do(ctx, m); err != nil {
			return err
		}
	}
	if err := c.barStrays(ctx, r); err != nil {
		return err
	}
	return c.Server.SetOffline(ctx, false)
}

// open opens the server for the term that the Lease says is open. The gate is locked.
func (c *Controller) open(ctx context.Context, r failover.Record, boot string, sent time.Duration, before string) error {
	if err := c.remember(func(m *Memory) { m.Seen, m.Opened, m.Boot = max(m.Seen, r.Term), r.Term, boot }); err != nil {
		return err
	}
	until := failover.Deadline(0, sent, c.Timings.Permission)
	fenced := ""
	if c.Fence != nil {
		var err error
		if fenced, err = c.Fence.Boot(ctx); err != nil { // before the connection on which it is opened is used
			return err
		}
	}
	err := c.Server.Open(ctx, boot, func(ctx context.Context) error {
		if fence.Now() >= until {
			return errors.New("its permission has ended already")
		}
		if promised := c.remembered().Promised; promised > r.Term {
			return fmt.Errorf("it has reported for term %d", promised)
		}
		if c.Fence == nil {
			return nil
		}
		return c.Fence.Arm(ctx, fenced, r.Term, until)
	})
	if err != nil {
		return err
	}
	c.leads(r.Term, boot, fenced, until)
	c.be(ctx, Role{Leads: true})
	if err := c.arrange(ctx, r); err != nil {
		c.Log.Warn("only administrators are let in yet", "error", err) // the next step arranges it
	}
	c.wakeOthers(ctx, r.Members)
	_, _ = c.look(ctx) // that they are let in: to arrange it again would cut members that log in now
	c.Log.Info("it leads", "term", r.Term, "acknowledgers", r.Acknowledgers, "gtid", r.Ledger.Terms[len(r.Ledger.Terms)-1].Begins)
	c.event(false, ReasonLeads, "it leads term %d, %.1f s after it began, from %s", r.Term, c.sinceTerm(r.Term), r.Ledger.Terms[len(r.Ledger.Terms)-1].Begins)
	if c.Opened != nil {
		go c.Opened(context.WithoutCancel(ctx), before)
	}
	return nil
}

// leads makes the member the leader, with a server that has these identities here and for the fence.
func (c *Controller) leads(term uint64, boot, fenced string, until time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takes(leader, term)
	c.boot, c.fenced, c.deadline, c.events, c.locks = boot, fenced, until, "", false
	go c.noteLocks(term) // the volume may hang
}

// noteLocks notes that the leader's server is seen to have its files locked.
func (c *Controller) noteLocks(term uint64) {
	is, err := c.Store.Served()
	if err != nil {
		c.Log.Warn("whether the server has its files locked is not known", "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.locks = c.locks || is && c.part == leader && c.term == term && c.looked == nil && c.state.Boot == c.boot
}
