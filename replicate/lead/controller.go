package lead

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// Config are the settings of a Controller.
type Config struct {
	// Name and Ordinal are the member's. First says that it may open the first term; Before names the
	// member that may.
	Name    string
	Ordinal int
	First   bool
	Before  string
	Flavor  flavor.Flavor
	// Mode is the mode that the leader writes into the Lease.
	Mode    failover.Mode
	Timings failover.Timings
	// MaxLag is by how much an heir may have been behind in mode off; 0: by any time.
	MaxLag time.Duration
	// Drain is the time that running transactions get to end before a planned change.
	Drain time.Duration

	Lease   Lease
	Server  Server
	Members Members
	// Fence is nil without understudy run: then only this process ends a leader.
	Fence Fence
	Store Store
	// MayBegin says that a first ordinal lacks nothing that a member has, and is to open.
	MayBegin func() bool
	// HostOf is the host of a member's server.
	HostOf func(member string) string
	// Barred says why the member may not lead now, such as that it is paused; empty: it may.
	Barred func() string
	// Paused says since when and why people want the server left alone; empty: they do not.
	Paused func() string
	// Opened hears of each term that this member has opened, and who led before.
	Opened func(ctx context.Context, before string)
	// Clones are those that the member gives now; nil: none.
	Clones func() Clones
	// Tell hears what people want to know without reading the log, by one of the reasons above event.
	Tell func(failed bool, reason, text string)
	Log  *slog.Logger
}

// part is what the member does in the current term.
type part string

const (
	follower  part = "follower"
	candidate part = "candidate"
	heir      part = "heir"
	leader    part = "leader"
)

// Controller has the member lead, follow or hold, as the Lease says. Make one with New.
type Controller struct {
	Config
	*gate
	line *line

	// wakeLease and wakeWork end the waits of their loops.
	wakeLease, wakeWork chan struct{}
	changed             chan struct{}
	switches            chan switching
	remembering         sync.Mutex // one write of the memory at a time
	closing             sync.Mutex // one attempt at a time to close the server

	mu      sync.Mutex
	memory  Memory
	settled bool
	// state is what was seen of the server last, lookedAt when that look began; looked is why it
	// failed.
	state    State
	lookedAt time.Duration
	looked   error

	part     part
	term     uint64
	since    time.Duration // since when it has this part
	boot     string        // of the server that it leads with
	deadline time.Duration // of its permission
	// renewed is when the renewal was sent that it rests on, blocked when its writes were blocked
	// last.
	renewed, blocked time.Duration
	// reports are those of the term, asked those that are being asked.
	reports map[string]failover.Report
	asked   map[string]bool
	waits   string // why an election or a promotion waits
	// naming is the highest that was heard of.
	naming uint64
	// notBefore is until when it does not seek the Lease, after an election that failed.
	notBefore time.Duration
	// back is since when the Lease is missing or went back, for who has no part in a term.
	back time.Duration
	// fetching is what an heir receives from another member.
	fetching *fetching
	// forecast is nil while the Lease names a leader.
	forecast *forecast
	// surplusOf is what the member has more than the set's history, since surplusAt; only the work uses
	// them. errant says that its leader had the time to adopt that.
	surplusOf string
	surplusAt time.Duration
	errant    bool
	// openedTerm was seen to open at openedAt, or was open when the first record was read: then that is 0.
	openedTerm uint64
	openedAt   time.Duration
	hasRead    bool

	// pace is how this member keeps up with what its leader tells.
	pace pace
	// events are those that run on this leader, as Ask has them.
	events string
	// disk is what is known of the member's volume.
	disk disk
	// unfenced is why understudy run did not answer last, unfencedBefore the time before; nil: it did.
	unfenced, unfencedBefore error
	// complained is when people were told last that the volume's memory cannot be written. Only the
	// work goes by it.
	complained time.Duration
	// fenced is the server's identity for the fence. locks says that its files were seen locked when the
	// member began to lead.
	fenced string
	locks  bool
	// given is what it has promised to a leader, over what it has to tell those who promised it.
	given given
	over  *over
	// all are the members that may exist, as Kubernetes said last; listing: it is being asked.
	all     []string
	listing bool
	// noticed is the record that was seen last, begunAt when its term was seen first. blockedAt is when
	// writes were blocked for the planned change that ended term blockedIn; 0: there is none.
	noticed            failover.Record
	begunAt, blockedAt time.Duration
	blockedIn          uint64
	counts             Counts
	budget             budget
	end                end
	kept               kept
	standoff           standoff
	// standsFor says why it stands back, see standsBack; standoffAfter is the constant but in tests.
	standsFor     string
	standoffAfter time.Duration
	silentFor     time.Duration // the constant but in tests
	// leading is what a leader remembers. Only the work goes by it; what goroutines change in it is
	// guarded by mu.
	leading *leading
	// work is leading as the step under way goes by it.
	work *leading
}

// New makes a Controller. Run it.
func New(c Config) *Controller {
	if c.Clones == nil {
		c.Clones = func() Clones { return Clones{} }
	}
	made := &Controller{
		Config: c, gate: newGate(Role{Hold: "the Lease has not been read yet"}), line: &line{lease: c.Lease, log: c.Log},
		wakeLease: make(chan struct{}, 1), wakeWork: make(chan struct{}, 1), switches: make(chan switching, 1), changed: make(chan struct{}, 1), part: follower,
		standoffAfter: standoffAfter, silentFor: silentFor,
	}
	made.Server = watched{c.Server, made}
	return made
}

// Changed has a value after each change of the role.
func (c *Controller) Changed() <-chan struct{} { return c.changed }

const (
	// workEvery and lookEvery are the times between two steps, and between two looks at the server.
	workEvery = 100 * time.Millisecond
	lookEvery = 200 * time.Millisecond
	// lookTimeout bounds a look, closeTimeout an attempt to close the server, stepTimeout any other
	// step at the server.
	lookTimeout  = time.Second
	closeTimeout = 5 * time.Second
	stepTimeout  = 10 * time.Second
)

// Run works until ctx ends. The server of a leader stays open then: its permission ends.
func (c *Controller) Run(ctx context.Context) {
	for {
		memory, err := c.Store.Load()
		if err == nil {
			c.mu.Lock()
			c.memory = memory
			c.recall(memory)
			c.mu.Unlock()
			break
		}
		c.Log.Error("manual action required", "reason", fmt.Sprintf("the volume's memory of terms cannot be read: %v", err))
		if !wait(ctx, time.Second, nil) {
			return
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.keepLease(ctx) })
	wg.Go(func() { c.keepLooking(ctx) })
	wg.Go(func() { c.keepFollowers(ctx) })
	wg.Go(func() { c.watch(ctx) })
	wg.Go(func() { c.keepWriting(ctx) })
	wg.Go(func() { c.keepUseful(ctx) })
	wg.Go(func() { c.keepFenced(ctx) })
	for {
		c.step(ctx)
		if !wait(ctx, workEvery, c.wakeWork) {
			break
		}
	}
	wg.Wait()
}

func wait(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return ctx.Err() == nil
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// resign makes a leader, candidate or heir a follower.
func (c *Controller) resign(why string) {
	c.mu.Lock()
	before, term := c.resigns()
	c.mu.Unlock()
	c.hasResigned(before, term, why)
}

// resigns is resign, without saying so. c.mu is held.
func (c *Controller) resigns() (before part, term uint64) {
	before, term = c.part, c.term
	c.ends()
	c.part, c.since, c.reports, c.leading, c.fetching = follower, fence.Now(), nil, nil, nil
	return before, term
}

func (c *Controller) hasResigned(before part, term uint64, why string) {
	if before == leader {
		c.Log.Warn("it leads no more", "term", term, "reason", why)
		c.event(true, ReasonResigned, "it leads term %d no more: %s", term, why)
	} else if before != follower {
		c.Log.Info("it has no part in the term any more", "term", term, "was", before, "reason", why)
	}
}

// take gives the member a part in a term.
func (c *Controller) take(p part, term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takes(p, term)
}

// takes is take. c.mu is held.
func (c *Controller) takes(p part, term uint64) {
	c.part, c.term, c.since, c.reports, c.asked, c.waits = p, term, fence.Now(), map[string]failover.Report{}, map[string]bool{}, ""
	c.leading, c.fetching = nil, nil
	if p == leader {
		c.forecast, c.unfenced, c.unfencedBefore = nil, nil, nil // a leader does not ask
		c.leading = &leading{answers: map[string]heard{}, lost: map[string]time.Duration{}, relaxed: map[string]bool{}, promises: newPromises()}
	}
}

// shut closes the server for writes: by the fence, where there is one and this member has opened
// that server. Any other has no commits that wait. False: it may be open.
func (c *Controller) shut(ctx context.Context, why string) bool {
	if !c.closing.TryLock() {
		return false
	}
	defer c.closing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var err error
	c.mu.Lock()
	opened := c.state.Boot == c.memory.Boot
	c.mu.Unlock()
	if c.Fence != nil && opened {
		err = c.Fence.Kill(ctx, "", why)
	} else {
		err = c.Server.Shut(ctx)
	}
	if err != nil {
		c.Log.Warn("the server is not closed for writes yet", "error", err)
		return false
	}
	c.Log.Info("the server is closed for writes")
	c.absolve(ctx, true)
	_, _ = c.look(ctx) // what it says is in the state
	return true
}

// be changes the role that the agent goes by. The gate is locked.
func (c *Controller) be(ctx context.Context, r Role) {
	level, before := slog.LevelInfo, c.Role()
	if r.Hold != "" && before.Hold != "" {
		level = slog.LevelDebug
	}
	if c.become(r) {
		c.Log.Log(ctx, level, "role changed", "leads", r.Leads, "follows", r.Follows, "reseed", r.Reseed, "holds", r.Hold)
		poke(c.changed)
	}
}

// hold has the agent leave replication alone.
func (c *Controller) hold(ctx context.Context, why string) {
	c.assume(ctx, Role{Hold: why})
}

func (c *Controller) assume(ctx context.Context, r Role) {
	if c.Role().same(r) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	if c.lock(ctx) != nil {
		return // the next step tries again
	}
	defer c.unlock()
	c.be(ctx, r)
}

// remember writes the memory after a change.
func (c *Controller) remember(change func(*Memory)) error {
	c.remembering.Lock() // and not mu: renewals do not wait for the volume
	defer c.remembering.Unlock()
	before := c.remembered()
	next := before
	change(&next)
	if next == before {
		return nil
	}
	if err := c.Store.Save(next); err != nil {
		return fmt.Errorf("write the volume's memory of terms: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory = next
	return nil
}

func (c *Controller) remembered() Memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.memory
}

func (c *Controller) now() (part, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.part, c.term
}

// step is one turn of the work.
func (c *Controller) step(ctx context.Context) {
	if !c.settle(ctx) {
		return
	}
	v := c.line.view()
	if r := v.record; r != nil {
		if err := c.remember(func(m *Memory) {
			m.Seen = max(m.Seen, r.Term)
			m.keep(*r, v.version.Record())
		}); err != nil {
			c.complain(err)
			return
		}
		c.mu.Lock()
		c.naming = max(c.naming, r.Naming)
		if r.Phase == failover.Opened && r.Term > c.openedTerm {
			c.openedTerm, c.openedAt = r.Term, 0
			if c.hasRead {
				c.openedAt = fence.Now()
			}
		}
		c.hasRead = true
		c.mu.Unlock()
		c.notice(*r)
		if r.Led() {
			c.seeRenewal(r.Term, v.beatAt)
		}
	}
	if c.compare(ctx, v) { // the Lease may not be what it was
		poke(c.wakeWork)
		return
	}
	c.absolve(ctx, false)
	if m := c.remembered(); m.Follows > 0 {
		if err := c.expire(); err != nil {
			c.Log.Warn("a promise that has ended is not forgotten", "error", err)
		}
	}
	state, fresh := c.seen()
	c.standsBack(state, fresh)
	e, ending := c.toEnd(state)
	switch p, _ := c.now(); {
	case ending && p == leader && fresh:
		c.leave(ctx, v, state, e)
	case ending && (p == candidate || p == heir):
		c.fail(ctx, v, e.why)
	case p == leader:
		if fresh {
			c.lead(ctx, v, state)
		}
	case p == candidate:
		c.collect(ctx, v)
	case p == heir:
		c.promote(ctx, v)
	default:
		c.follow(ctx, v, state, fresh)
	}
}

// settle is done before anything else is done to the server, and again after a statement that was
// given up: the server may still be at it.
func (c *Controller) settle(ctx context.Context) bool {
	c.mu.Lock()
	done, looked := c.settled, c.looked == nil && c.lookedAt > 0
	c.mu.Unlock()
	if done || !looked {
		return done
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if c.enterForReport(ctx) != nil { // a step of the agent ends first
		return false
	}
	defer c.unlock()
	c.mu.Lock()
	c.settled = true // before: what fails meanwhile counts
	c.mu.Unlock()
	if err := c.Server.Settle(ctx); err != nil {
		c.Log.Warn("what was begun at the server is not ended yet", "error", err)
		c.Unsettle()
		return false
	}
	return true
}

// Unsettle says that a statement may still be under way whose end nobody waited for.
func (c *Controller) Unsettle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = false
}

// contains says that a member that has has all of what.
func (c *Controller) contains(has, what string) bool {
	h, err := gtid.Parse(c.Flavor, has)
	if err != nil {
		return false
	}
	w, err := gtid.Parse(c.Flavor, what)
	return err == nil && h.Contains(w)
}

func others(members []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(members), func(m string) bool { return m == name })
}
