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
	"understudy/replicate/gtid"
	"understudy/replicate/guard"
)

// follow is a step of a member that has no part in the term.
func (c *Controller) follow(ctx context.Context, v view, state State, fresh bool) {
	memory := c.remembered()
	gone := failover.WentBack(v.record, memory.volume(""))
	if gone == "" {
		c.back = 0
	}
	begins := v.record == nil || v.record.Ended() // the first ordinal does
	switch r := v.record; {
	case v.version == nil:
		c.hold(ctx, "the Lease has not been read yet: "+v.away)
		return
	case v.bad != nil:
		c.hold(ctx, v.bad.Error())
		return
	case fresh && state.Writable && (!begins || !c.First || gone != "") && !c.resumes(v, state, memory): // before its term the agent looks after it
		const why = "its server is open for writes, and the Lease does not let it lead"
		c.hold(ctx, why)
		c.shut(ctx, why)
		return
	case gone != "":
		c.rebuild(ctx, gone, fresh)
		return
	case begins && c.First:
		c.begin(ctx, v, fresh)
		return
	case begins:
		c.assume(ctx, Role{Follows: c.Before, Plain: true})
		return
	case r.Holder == c.Name:
		c.mine(ctx, v, state, fresh, memory)
		return
	}
	enough := fresh && c.foretell(ctx, *v.record, memory, state)
	if c.seek(ctx, v, memory, fresh, enough) {
		return
	}
	if fresh && (state.Offline || state.OfTerm) && c.paused() == "" {
		c.giveBack(ctx, state)
	}
	c.comeBack(ctx, v, state, fresh, memory)
}

// giveBack ends what a member that was an heir, or led, has done to its server for that.
func (c *Controller) giveBack(ctx context.Context, state State) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if c.lock(ctx) != nil {
		return
	}
	defer c.unlock()
	if state.OfTerm { // before clients are let in: they would go on under the term's name
		if err := c.Server.WriteAs(ctx, 0); err != nil {
			c.Log.Warn("the server writes under the name of its term yet", "error", err)
			return
		}
	}
	if state.Offline {
		if err := c.Server.SetOffline(ctx, false); err != nil {
			c.Log.Warn("only administrators are let in yet", "error", err)
		}
	}
	_, _ = c.look(ctx)
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
	case memory.Opened != r.Term && fence.Now()-v.beatAt < c.Timings.Duration:
		c.hold(ctx, "the Lease names this member, and somebody else may still lead by that name: an earlier pod")
	default:
		// Its server has restarted, or another took its data directory's place: an election tells who
		// leads.
		c.hold(ctx, "its server was closed: it waits for the next leader")
		if !c.electAfter(ctx, v, state) {
			c.release(ctx, v)
		}
	}
}

// resumes says that the open server is the one that this member has opened for the term that the
// Lease says.
func (c *Controller) resumes(v view, state State, memory Memory) bool {
	r := v.record
	return r != nil && c.diskTrouble() == "" && memory.Opened == r.Term && memory.Boot == state.Boot && state.Writable &&
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
	fenced := ""
	if c.Fence != nil {
		if fenced, err = c.armAgain(ctx, v.record.Term, until, state.Boot); err != nil {
			c.Log.Warn("it does not lead again yet", "error", err)
			return
		}
	}
	c.leads(v.record.Term, state.Boot, fenced, until)
	c.assume(ctx, Role{Leads: true})
	c.Log.Info("it leads again", "term", v.record.Term)
}

// armAgain arms the fence for a server that is open, and that still is the one which started as boot:
// understudy run may have started another one since it was looked at last.
func (c *Controller) armAgain(ctx context.Context, term uint64, until time.Duration, boot string) (fenced string, err error) {
	if fenced, err = c.Fence.Boot(ctx); err != nil {
		return "", err
	}
	switch state, err := c.look(ctx); {
	case err != nil:
		return "", err
	case state.Boot != boot || !state.Writable:
		return "", errors.New("its server has been started anew, or is closed")
	}
	return fenced, c.Fence.Arm(ctx, fenced, term, until)
}

// seek takes the Lease where it may; false: it does not.
func (c *Controller) seek(ctx context.Context, v view, memory Memory, fresh, enough bool) bool {
	state, _ := c.seen()
	now := fence.Now()
	c.mu.Lock()
	notBefore, following := c.notBefore, c.following()
	c.mu.Unlock()
	barred := c.mayNotLead(state)
	if !fresh {
		barred = "its server does not answer"
	} else if now < notBefore {
		barred = "its last election failed"
	}
	o := failover.Observed{Unrenewed: now - v.beatAt, InPhase: now - v.phaseAt, Following: following, Barred: barred, Ordinal: c.Ordinal, Enough: enough}
	step, why := failover.MaySeek(c.Name, v.record, memory.volume(state.Data), o, c.Timings)
	if step != failover.Seek || v.away != "" { // what could not be read again may be long over
		c.Log.Debug("it does not seek the Lease", "reason", why, "away", v.away)
		return false
	}
	done, ok := c.seeks()
	if !ok {
		return false
	}
	defer done()
	if enough {
		c.spend()
	}
	c.Log.Info("it seeks the Lease", "term", v.record.Term+1, "reason", why)
	if _, err := c.line.swap(ctx, v, c.unplanned(v).Seek(c.Name)); err != nil {
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
	if e, ending := c.toEnd(state); ending {
		why = e.why
	}
	if why == "" {
		why = c.diskTrouble()
	}
	if why == "" {
		why = c.StandsBack()
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
	if says := cmp.Or(c.StandsBack(), c.foretold(), c.backsOff(v)); says != "" {
		role.Hold = "no leader: " + says
	}
	switch step {
	case failover.Follow:
		role = Role{Follows: r.Last.Member}
	case failover.Replace:
		role = c.surplus(Role{Follows: r.Last.Member, Reseed: why, Tail: isTail(*r, state.Has)}, v, state)
	}
	if step == failover.Follow {
		c.surplusOf, c.surplusAt = "", 0
		c.setErrant(false)
	}
	follows := role.Follows != "" && role.Reseed == ""
	if c.paused() != "" { // its server is left as it is
		c.assume(ctx, role)
		return
	}
	if state.Fetches && step == failover.Follow { // it gave up as an heir
		c.endFetch(ctx, state)
		return
	}
	side := c.side(r, state) && (follows || guard.Lacks(guard.Binding))
	// What a former leader applies would wait for replicas, too. Nothing waits, so that nothing is let
	// go.
	waits := state.Source && !state.Writable && state.Held == 0 && r.Phase == failover.Opened && r.Last.Member != c.Name
	now := c.Role()
	if now.same(role) && state.Side == side && !waits {
		return
	}
	if step == failover.Follow && now.Follows != role.Follows && !c.letsIn(ctx, v) {
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

// isTail says that what a member has outside the set's history was acknowledged to nobody. Where commits
// waited for nobody, where somebody has promoted a member, or where the ledger does not go back far enough,
// that is not known.
func isTail(r failover.Record, has string) bool {
	m, err := r.Ledger.Measure(has)
	return err == nil && m.Errant != "" && !m.Old && r.Mode != failover.Off && r.Forced == 0
}

// backsOff says why nobody takes a Lease that is free, or that nobody renews.
func (c *Controller) backsOff(v view) string {
	now := fence.Now()
	o := failover.Observed{Unrenewed: now - v.beatAt, InPhase: now - v.phaseAt, Ordinal: c.Ordinal}
	if v.record.Holder != "" && o.Unrenewed < c.Timings.Duration {
		return ""
	}
	return c.Timings.BacksOff(v.record, o)
}

// unplanned is the record after a term whose end nobody has planned. Whether the term was short is not
// known of one that was open when it was first seen.
func (c *Controller) unplanned(v view) failover.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.openedTerm != v.record.Last.Term || c.openedAt == 0 {
		return *v.record
	}
	return v.record.Unplanned(v.beatAt-c.openedAt < c.Timings.Stable)
}

// surplusFor is for how long a member has to have more than the set's history before that counts: its
// leader may be about to adopt it. A leader that does not renew the Lease cannot write that either.
const surplusFor = 3 * time.Second

// surplus is the role of a member that has more than the set's history: the one that it has, until it
// has had some of that for surplusFor.
func (c *Controller) surplus(role Role, v view, state State) Role {
	m, err := v.record.Ledger.Measure(state.Has)
	if err != nil || m.Old {
		return role
	}
	if c.surplusOf = c.still(m.Errant); c.surplusOf == "" {
		c.surplusOf, c.surplusAt = m.Errant, fence.Now()
	}
	if v.beatAt-c.surplusAt >= surplusFor {
		c.setErrant(true)
		return role
	}
	if has := c.Role(); has.Follows == role.Follows && has.Reseed == "" {
		return has
	}
	return Role{Hold: role.Reseed}
}

func (c *Controller) setErrant(is bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errant = is
}

// still is what the member has had too much before, and has still. MariaDB's leader adopts nothing.
func (c *Controller) still(errant string) string {
	before, err := gtid.ParseSet(c.surplusOf)
	now, nowErr := gtid.ParseSet(errant)
	if c.Flavor != flavor.MySQL || err != nil || nowErr != nil {
		return c.surplusOf
	}
	return before.Subtract(before.Subtract(now)).String()
}

// letsInPatience is how long a member waits for a new leader to let members in, letsInAnswer for one
// answer.
const letsInPatience, letsInAnswer = time.Second, 300 * time.Millisecond

// letsIn says that the leader of a new term lets members in, or has had the time for it. A receiver
// that comes before is refused, and tries again a second later: for so long no commit returns.
func (c *Controller) letsIn(ctx context.Context, v view) bool {
	left := letsInPatience - (fence.Now() - v.phaseAt)
	if left <= 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, min(left, letsInAnswer))
	defer cancel()
	a, err := c.tell(ctx, v.record.Last.Member)
	return err == nil && a.Writable && !a.Offline
}

// side says that the member acknowledges: the Lease names it, with the relay logs that it has, and
// nobody has spoken of a later naming, but where its side is on: a record that is not the newest keeps
// it on, and never turns it on; and its channel logs in by the account that the leader can
// bar. On MariaDB it does so with other relay logs, too: its applier begins anew when it moves to
// another leader, and a commit that it has received with its side off would wait until another one
// follows. Its entry is void meanwhile, so that no election counts it.
func (c *Controller) side(r *failover.Record, state State) bool {
	c.mu.Lock()
	naming := c.naming
	c.mu.Unlock()
	named := slices.ContainsFunc(r.Acknowledgers, func(a failover.Acknowledger) bool {
		return a.Member == c.Name && (a.Receipt == state.Receipt() || c.Flavor == flavor.MariaDB)
	}) || guard.Lacks(guard.Side)
	return named && r.Phase == failover.Opened && (r.Naming >= naming || state.Side) && state.User == Account(c.Name)
}

// Account is the name of the account by which a member logs in at the leader. There is one for each
// member, so that the leader can bar one.
func Account(member string) string { return "understudy_" + member }
