package lead

import (
	"context"
	"errors"
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

	Lease   Lease
	Server  Server
	Members Members
	// Fence is nil without understudy run: then only this process ends a leader.
	Fence Fence
	Store Store
	// MayBegin says that a first ordinal lacks nothing that a member has, and is to open.
	MayBegin func() bool
	// Barred says why the member may not lead now, such as that it is paused; empty: it may.
	Barred func() string
	// Opened hears of each term that this member has opened, and who led before.
	Opened func(ctx context.Context, before string)
	// Tell hears what people want to know without reading the log.
	Tell func(failed bool, text string)
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
	// opened is when the last term was seen to be opened.
	openedTerm uint64
	openedAt   time.Duration

	// fenced is the server's identity for the fence.
	fenced string
	// leading is what a leader remembers. Only the work goes by it; what goroutines change in it is
	// guarded by mu.
	leading *leading
	// work is leading as the step under way goes by it.
	work *leading
}

// New makes a Controller. Run it.
func New(c Config) *Controller {
	made := &Controller{
		Config: c, gate: newGate(Role{Hold: "the Lease has not been read yet"}), line: &line{lease: c.Lease, log: c.Log},
		wakeLease: make(chan struct{}, 1), wakeWork: make(chan struct{}, 1), switches: make(chan switching, 1), changed: make(chan struct{}, 1), part: follower,
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
	wg.Go(func() { c.watch(ctx) })
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

// keepLease renews the Lease while this member holds it and its server answers, and reads it
// otherwise.
func (c *Controller) keepLease(ctx context.Context) {
	for {
		pause := c.Timings.Renew / 2
		v := c.line.view()
		if v.version != nil && c.renews(v) {
			pause = c.Timings.Renew
			if sent, err := c.line.swap(ctx, v, *v.record); err == nil {
				c.extend(ctx, v.record.Term, sent)
			} else if !errors.Is(err, errMoved) {
				c.Log.Debug("the Lease was not renewed", "error", err)
				pause = c.Timings.Renew / 4
			}
		} else if err := c.line.read(ctx); err != nil {
			c.Log.Debug("the Lease was not read", "error", err)
		}
		poke(c.wakeWork)
		if !wait(ctx, pause, c.wakeLease) {
			return
		}
	}
}

// renews says that the Lease is this member's to renew.
func (c *Controller) renews(v view) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.record == nil || v.record.Holder != c.Name || v.record.Term != c.term {
		return false
	}
	switch c.part {
	case leader:
		return v.record.Phase == failover.Opened && !errors.Is(c.looked, ErrDead) && c.state.Boot == c.boot && fence.Now()-c.lookedAt < c.Timings.Unhealthy
	case candidate, heir:
		return v.record.Phase != failover.Opened
	}
	return false
}

// extend counts the permission from when a renewal was sent.
func (c *Controller) extend(ctx context.Context, term uint64, sent time.Duration) {
	c.mu.Lock()
	until := failover.Deadline(c.deadline, sent, c.Timings.Permission)
	leads := c.part == leader && c.term == term
	if leads {
		c.deadline, c.renewed = until, sent
	}
	fenced := c.fenced
	c.mu.Unlock()
	if leads && c.Fence != nil {
		ctx, cancel := context.WithTimeout(ctx, c.Timings.Request)
		defer cancel()
		if err := c.Fence.Arm(ctx, fenced, term, until); err != nil {
			c.Log.Warn("the fence was not extended", "error", err)
			if errors.Is(err, fence.ErrBoot) || errors.Is(err, fence.ErrEnding) {
				c.resign("its server has ended")
				poke(c.wakeWork)
			}
		}
	}
}

// watch ends a leader whose permission has ended.
func (c *Controller) watch(ctx context.Context) {
	for wait(ctx, workEvery/2, nil) {
		c.mu.Lock()
		over := c.part == leader && fence.Now() >= c.deadline
		c.mu.Unlock()
		if over {
			c.resign("its permission has ended: the Lease was not renewed in time")
			c.shut(ctx, "its permission has ended")
		}
	}
}

// keepLooking looks at the server.
func (c *Controller) keepLooking(ctx context.Context) {
	for {
		_, _ = c.look(ctx) // what it says is in the state
		if !wait(ctx, lookEvery, nil) {
			return
		}
	}
}

func (c *Controller) look(ctx context.Context) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	began := fence.Now()
	state, err := c.Server.Look(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if began < c.lookedAt {
		return state, err // a later look has ended before
	}
	if err != nil {
		c.looked = err
		if errors.Is(err, ErrDead) {
			poke(c.wakeWork)
		}
		return state, err
	}
	if c.state.Boot != state.Boot {
		poke(c.wakeWork)
	}
	c.state, c.looked, c.lookedAt = state, nil, began
	return state, nil
}

// seen is the last look, and whether it still counts.
func (c *Controller) seen() (State, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.lookedAt > 0 && !errors.Is(c.looked, ErrDead) && fence.Now()-c.lookedAt < c.Timings.Unhealthy
}

// resign makes a leader, candidate or heir a follower.
func (c *Controller) resign(why string) {
	c.mu.Lock()
	before, term := c.part, c.term
	c.part, c.since, c.reports, c.leading = follower, fence.Now(), nil, nil
	c.mu.Unlock()
	if before == leader {
		c.Log.Warn("it leads no more", "term", term, "reason", why)
		c.Tell(true, fmt.Sprintf("it leads term %d no more: %s", term, why))
	} else if before != follower {
		c.Log.Info("it has no part in the term any more", "term", term, "was", before, "reason", why)
	}
}

// take gives the member a part in a term.
func (c *Controller) take(p part, term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.part, c.term, c.since, c.reports, c.asked, c.waits = p, term, fence.Now(), map[string]failover.Report{}, map[string]bool{}, ""
	c.leading = nil
	if p == leader {
		c.leading = &leading{answers: map[string]heard{}, lost: map[string]time.Duration{}, relaxed: map[string]bool{}}
	}
}

// shut closes the server for writes: by the fence, where there is one and this member has opened
// that server. Any other has no commits that wait.
func (c *Controller) shut(ctx context.Context, why string) {
	if !c.closing.TryLock() {
		return
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
		return
	}
	c.Log.Info("the server is closed for writes")
	_, _ = c.look(ctx) // what it says is in the state
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

func (m Memory) volume(data string) failover.Volume {
	return failover.Volume{Seen: m.Seen, Promised: m.Promised, Data: data}
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
		if err := c.remember(func(m *Memory) { m.Seen = max(m.Seen, r.Term) }); err != nil {
			c.Log.Error("manual action required", "reason", err.Error())
			return
		}
		c.mu.Lock()
		c.naming = max(c.naming, r.Naming)
		if r.Phase == failover.Opened && r.Term > c.openedTerm {
			c.openedTerm, c.openedAt = r.Term, fence.Now()
		}
		c.mu.Unlock()
	}
	c.compare(ctx, v)
	state, fresh := c.seen()
	switch p, _ := c.now(); p {
	case leader:
		if fresh {
			c.lead(ctx, v, state)
		}
	case candidate:
		c.collect(ctx, v)
	case heir:
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

// compare drops a part that the Lease does not give any more, and that of a leader whose server has
// died.
func (c *Controller) compare(ctx context.Context, v view) {
	p, term := c.now()
	if p == follower || v.version == nil {
		return
	}
	r := v.record
	switch {
	case r == nil || r.Holder != c.Name || r.Term != term:
		c.resign("the Lease names another")
	case p == leader && r.Phase != failover.Opened, p == candidate && r.Phase != failover.Electing, p == heir && r.Phase != failover.Heir:
		c.resign("the Lease says that its term is " + string(r.Phase))
	case p == leader && c.died():
		c.resign("its server has died")
		c.hold(ctx, "its server has died: it waits for the next leader")
		c.releaseDead(ctx, v)
	case p != leader && c.refused():
		c.fail(ctx, v, "its server has died")
	}
}

// refused says that no server listens.
func (c *Controller) refused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.looked, ErrDead)
}

// releaseDead gives up the Lease of a leader whose server has died. That nobody listens is no
// proof: a server that shuts down goes on for a while. The fence has one; otherwise another server
// that answers is one, and until then the Lease runs out.
func (c *Controller) releaseDead(ctx context.Context, v view) {
	if c.Fence != nil {
		c.mu.Lock()
		fenced := c.fenced
		c.mu.Unlock()
		short, cancel := context.WithTimeout(ctx, closeTimeout)
		defer cancel()
		if fenced == "" {
			return
		}
		if err := c.Fence.Kill(short, fenced, "nobody listens any more"); err != nil {
			c.Log.Warn("it is not certain that the server is dead", "error", err)
			return
		}
	} else if c.refused() {
		return
	}
	c.release(ctx, v)
}

// died says that the server that was opened does not run any more.
func (c *Controller) died() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Is(c.looked, ErrDead) || c.looked == nil && c.state.Boot != c.boot
}

// release gives the Lease up, and tells the others.
func (c *Controller) release(ctx context.Context, v view) {
	if _, err := c.line.swap(ctx, v, v.record.Release()); err != nil {
		c.Log.Warn("the Lease was not released", "error", err)
		return
	}
	c.wakeOthers(ctx, v.record.Members)
}

// wakeOthers has the members read the Lease at once.
func (c *Controller) wakeOthers(ctx context.Context, members []string) {
	for _, m := range members {
		if m != c.Name {
			go func() {
				ctx, cancel := context.WithTimeout(ctx, c.Timings.Request)
				defer cancel()
				_, _ = c.Members.Tell(ctx, m, c.question(m))
			}()
		}
	}
}

func (c *Controller) question(to string) Ask {
	q := Ask{From: c.Name, To: to}
	if r := c.line.view().record; r != nil {
		q.Term, q.Naming = r.Term, r.Naming
	}
	return q
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
