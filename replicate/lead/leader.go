package lead

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/guard"
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
	// noteEvery is the time between two positions that a leader notes: a member that has not executed
	// the one before the last is too far behind to be named.
	noteEvery = 2 * time.Second
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
	promises *promises

	// before and recent are positions of this leader, the last one taken at noted.
	before, recent string
	noted          time.Duration

	plan    []failover.LeaderStep
	change  string
	who     string
	receipt string
	mark    string
	began   time.Duration
	pause   time.Duration

	// asked is a planned change that is due, draining are the transactions that are given time, since
	// drainBegan.
	asked      *switching
	pursuit    pursuit
	drainBegan time.Duration
	draining   []string
	drained    bool

	// scaledAway are members that the set is not to have any more, as was said to a question at
	// scaleAskedAt.
	scaledAway   []string
	scaleAskedAt time.Duration

	// foreign says that people were told of what the ledger cannot have.
	foreign   bool
	adoptedAt time.Duration

	tension   tension
	strangers strangers

	// stuck are the commits that waited at letGoAt, see letGo.
	stuck   []uint64
	letGoAt time.Duration

	// woken says that the events run that ran on the leader before, scheduleAt is when they are looked
	// at next.
	woken      bool
	scheduleAt time.Duration
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
	if c.work == nil { // it has resigned
		return
	}
	c.tellAll(ctx, c.work)
	if v.unsure || v.version == nil || v.record == nil || failover.WentBack(v.record, c.remembered().volume("")) != "" {
		return // what holds is not known
	}
	r := *v.record
	if why := c.paused(); why != "" {
		c.leaveAlone(ctx, v, state, why)
		return
	}
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
	if c.planned(ctx, v) {
		return
	}
	c.schedule(ctx)
	c.tend(ctx, v, state)
}

// tend is a step towards the acknowledgers that the leader can have.
func (c *Controller) tend(ctx context.Context, v view, state State) {
	l, r := c.work, *v.record
	c.observe(r, state)
	c.letGo(ctx, r, state)
	if c.endStandoff(ctx, v, state) {
		return
	}
	l.note(state.Position)
	shuns, wrote := c.shun(ctx, v, state)
	if wrote || c.adopt(ctx, v, state) {
		return
	}
	if (shuns || c.mustDegrade(r)) && c.waitsForMembers() {
		l.plan = nil
	}
	if l.plan != nil {
		c.carryOut(ctx, v)
		return
	}
	if fence.Now() < l.pause {
		return
	}
	if c.register(ctx, v) || c.unregister(ctx, v) || c.steadies(ctx, v) || c.mend(ctx, v, state) || !shuns && c.plan(r) {
		return
	}
	c.relax(ctx, r)
}

// tellAll asks all members what they are. It does not wait for the answers.
func (c *Controller) tellAll(ctx context.Context, l *leading) {
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
		all := c.allMembers(ctx)
		if r := c.line.view().record; r != nil {
			all = append(all, r.Members...)
		}
		slices.Sort(all)
		c.askEach(ctx, others(slices.Compact(all), c.Name), keep(l.answers))
		c.mu.Lock()
		defer c.mu.Unlock()
		l.telling = false
	}()
}

// allMembers are the members that may exist, as Kubernetes said last. Its answer is not waited for:
// what the members are is asked meanwhile, also where it takes seconds.
func (c *Controller) allMembers(ctx context.Context) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.listing {
		c.listing = true
		go func() {
			all := c.Members.All(ctx)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.all, c.listing = all, false
		}()
	}
	return slices.Clone(c.all)
}

// askEach asks members what they are, all at once, and waits for the answers. note gets each one, or
// why there is none, with mu locked.
func (c *Controller) askEach(ctx context.Context, members []string, note func(member string, a Answer, err error)) {
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() {
			a, err := c.tell(ctx, m)
			c.mu.Lock()
			defer c.mu.Unlock()
			note(m, a, err)
		})
	}
	wg.Wait()
}

// keep has askEach keep answers; of a member that gives none, the last one stays.
func keep(answers map[string]heard) func(member string, a Answer, err error) {
	return func(member string, a Answer, err error) {
		if err == nil {
			answers[member] = heard{a, fence.Now()}
		}
	}
}

// tell asks one member.
func (c *Controller) tell(ctx context.Context, member string) (Answer, error) {
	return c.put(ctx, c.question(member))
}

// put asks the member that the question is to.
func (c *Controller) put(ctx context.Context, q Ask) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timings.Request)
	defer cancel()
	a, err := c.Members.Tell(ctx, q.To, q)
	if err == nil && a.Member != q.To {
		err = fmt.Errorf("%s answers for %s", a.Member, q.To)
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

// acknowledges says that an acknowledger is there, by its last answer.
func (c *Controller) acknowledges(a failover.Acknowledger) bool {
	said, ok := c.answer(a.Member)
	return ok && said.Receipt == a.Receipt && said.acknowledges() && said.Follows == c.Name && said.Trouble == ""
}

// observe notes which acknowledgers are away.
func (c *Controller) observe(r failover.Record, state State) {
	l, now := c.work, fence.Now()
	maps.DeleteFunc(l.lost, func(m string, _ time.Duration) bool { return !named(r, m) })
	there := 0
	for _, a := range r.Acknowledgers {
		if c.acknowledges(a) {
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

// steadies notes in the Lease that this term was not a short one: the next election waits for nothing.
func (c *Controller) steadies(ctx context.Context, v view) bool {
	if v.record.Quick == 0 || fence.Now()-c.partSince() < c.Timings.Stable {
		return false
	}
	next := *v.record
	next.Quick = 0
	_, err := c.line.swap(ctx, v, next)
	c.did("the term is not short", c.Name, err)
	return true
}

// adoptEvery is the time between two writes of what a leader has adopted.
const adoptEvery = time.Second

// adopt takes what a leader has executed, or is about to, under other names than its own into the
// ledger: what somebody has replayed from a binary log. Only an open leader can have it, and it is the
// set's history from then on. MariaDB's ledger cannot have it.
func (c *Controller) adopt(ctx context.Context, v view, state State) bool {
	l, r := c.work, *v.record
	if r.Phase != failover.Opened || !state.Writable || v.away != "" || fence.Now()-l.adoptedAt < adoptEvery {
		return false
	}
	errant := r.Foreign(state.Position)
	if errant == "" {
		return false
	}
	l.adoptedAt = fence.Now()
	next, err := r.Adopt(errant)
	if err != nil {
		if !l.foreign {
			l.foreign = true
			text := fmt.Sprintf("it has executed %s, which is not of its term: no other member can be elected with that, nor this one after a restart: %v. "+
				"Undo what made it (a gtid_domain_id or server_id that a session has set, a replayed binary log), and make the set anew from a dump", errant, err)
			c.Log.Warn("the ledger cannot have what this leader has executed", "reason", text)
			c.event(true, ReasonForeign, "%s", text)
		}
		return false
	}
	sent, err := c.line.swap(ctx, v, next)
	if err == nil {
		c.extend(ctx, r.Term, sent)
	}
	c.did("executed here, and named after another server", errant, err)
	return true
}

// adopted is the record of a closed leader that is to be given away, with what it has not adopted yet:
// its heir has that, too.
func (c *Controller) adopted(r failover.Record) failover.Record {
	state, _ := c.seen()
	return r.Adopted(state.Position)
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
	case guard.Lacks(guard.Waiting):
		return false
	case len(r.Acknowledgers) > 0 && !state.Waiting:
		_, err := c.line.swap(ctx, v, r.Empty())
		c.did("commits did not wait: empty the set", nil, err)
		return true
	case r.Mode == failover.Required && r.Naming > 1 && !r.WaitsForNobody() && !state.Waiting, r.Mode == failover.Off && state.Source: // somebody has turned it off, or on
		c.did("have commits wait as the mode says", nil, c.Server.SetWaiting(ctx, r.Mode == failover.Required))
		_, _ = c.look(ctx)
		return true
	case r.WaitsForNobody() && state.Waiting:
		c.begins("degrade", "", []failover.LeaderStep{failover.EmptySet, failover.StopWaiting})
		return true
	}
	return false
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
