package failover

import (
	"slices"
	"testing"

	"understudy/replicate/flavor"
)

// Some guards stand against sequences that chance finds too rarely. A script runs through such a
// sequence step by step: with all guards it shows no fault, without that one it does.
var scripts = []struct {
	without mutant
	flavor  flavor.Flavor
	mode    Mode
	clocks  bool
	run     func(w *world, leader, ack, other *node)
}{
	{removeUnmarked, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.plan(leader, Remove, other.id)
		w.carryOut(leader)
		w.carryOut(leader)
		w.acknowledged(leader, other) // by the other alone, if it can
		for len(leader.plan) > 0 {
			w.carryOut(leader)
			w.lands(leader)
		}
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{staleNaming, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.turnOff(other)
		w.remove(leader, other) // it says that its side is off, and has not read this Lease
		w.settleSide(other)
		w.acknowledged(leader, other)
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{relaxUnasked, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		other.running = false // it cannot be asked, and its side stays on
		w.remove(leader, other)
		w.acknowledged(leader, other)
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{sideByConfiguration, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.turnOff(other)
		w.remove(leader, other)
		w.crash(other)
		w.start(other)
		other.source = leader.id // as its server does by itself
		w.acknowledged(leader, other)
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{heirInherits, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		other.running = false // its side stays on, and its server connects by itself
		w.crash(leader)
		w.start(leader)
		w.electIn(leader, 1100, leader, ack) // again, by its own data; who executed all is named
		w.acknowledged(leader, other)
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{nameUnchecked, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.turnOff(ack)
		w.remove(leader, ack)
		w.acknowledged(leader, other) // by db-2; db-1 lacks it
		w.crash(leader)
		w.crash(other)
		// At the address of db-2 db-1 answers, and its receipt looks like that of db-2.
		w.electAt(ack, 1100, []asked{{member(ack.id), ack}, {member(other.id), ack}})
	}},
	{idOfMember, flavor.MariaDB, Required, false, func(w *world, leader, ack, other *node) {
		w.acknowledged(leader, ack, other)
		w.acknowledged(leader, ack)
		w.remove(leader, other) // it has the first of two commits
		w.crash(leader)
		w.electIn(ack, 1100, ack)
		w.crash(ack)
		w.start(ack)
		w.start(leader)
		w.clone(leader, other) // its volume was lost
		w.errant(leader)       // a FLUSH, under the number of the second
		w.electIn(leader, 1100, leader, ack)
	}},
	{countFromAnswer, flavor.MySQL, Off, true, func(w *world, leader, ack, _ *node) {
		w.ask(leader, leader.view)
		renewal := leader.asked
		w.arriveOne(slices.Index(w.inflight, renewal))
		w.read(ack)
		w.tick(900)
		w.answers = []*request{renewal}
		w.answer()
		w.api[leader.id] = false
		w.electIn(ack, 200, ack)
	}},
	{oneSilentIsEnough, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.api[leader.id] = false
		w.link[leader.id][other.id], w.link[other.id][leader.id] = false, false
		w.tick(800)
		w.allFollow(leader, 0)
		w.electIn(other, 300, other)
	}},
	{promisesDoNotBind, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.api[leader.id] = false
		w.tick(800)
		w.allFollow(leader, 0)
		w.electIn(other, 300, other)
	}},
	{promiseFromAnswer, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.api[leader.id] = false
		w.tick(800)
		w.allFollow(leader, 150)
		w.electIn(other, 900, other)
	}},
	{forgetsPromise, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.api[leader.id] = false
		w.tick(800)
		w.allFollow(leader, 0)
		w.byHand(w.rec.Release()) // as a pod of the leader's name does, made while the leader runs
		w.restartSidecar(other)
		w.electIn(other, 300, other)
	}},
	{reportsDespitePromise, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.api[leader.id] = false
		w.tick(800)
		w.allFollow(leader, 0)
		w.tick(300)
		w.byHand(w.rec.Seek(member(other.id))) // the Lease was not renewed in time
		w.electIn(other, 0, other)
	}},
	{absolvesEarly, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.api[leader.id] = false
		w.tick(800)
		w.allFollow(leader, 0)
		w.beginSwitch(leader, other.id) // and it is rolled back
		leader.switching, leader.blocked = false, false
		w.electIn(other, 300, other)
	}},
	{rollBackUnknown, flavor.MySQL, Required, true, func(w *world, leader, ack, other *node) {
		w.beginSwitch(leader, other.id)
		w.handOver(leader, other)
		w.giveUp(leader) // no answer comes, and the write lands
		w.arriveOne(0)
		w.electIn(other, 0, other, ack)
	}},
	{othersUnawaited, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		fourth := w.join()
		w.ask(leader, leader.view.With([]string{member(fourth.id)}))
		w.lands(leader)
		w.changes(leader, Add, fourth) // as the two others are away
		w.acknowledged(leader, ack)    // by the one that is removed then
		w.remove(leader, ack)
		w.crash(leader)
		w.electIn(other, 1100, other, fourth)
	}},
	{mayNameNobody, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.byHand(w.rec.Without([]string{member(other.id)}))
		w.read(leader)
		w.ask(leader, leader.view.With([]string{member(other.id)}))
		w.giveUp(leader) // no answer comes, and the write lands
		w.arriveOne(0)
		w.read(other)
		w.api[leader.id] = false
		w.tick(800)
		w.allFollow(leader, 0)
		w.electIn(other, 300, other)
	}},
	{removedUnasked, flavor.MySQL, Off, true, func(w *world, leader, _, other *node) {
		w.ask(leader, leader.view.Without([]string{member(other.id)}))
		w.giveUp(leader)
		w.inflight = nil // it does not land
		w.api[leader.id] = false
		w.tick(800)
		w.allFollow(leader, 0)
		w.electIn(other, 300, other)
	}},
	{strayAdmitted, flavor.MySQL, Preferred, false, func(w *world, leader, ack, other *node) {
		w.cutOff(leader, other) // its side stays on
		w.changes(leader, Degrade, other)
		w.turnOff(ack)
		w.unregisters(leader, other)
		w.changes(leader, First, ack)
		w.wakes(leader, other)
		w.acknowledged(leader, other)
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{strayInherited, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.cutOff(leader, other) // its side stays on
		w.switches(leader, ack)
		w.unregisters(ack, other)
		w.switches(ack, leader)
		w.wakes(leader, other)
		w.acknowledged(leader, other)
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{strangersKept, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.shuns(leader)
		w.commit(leader, 0)
		w.counts(leader)
		w.crash(leader)
		w.electIn(ack, 1100, ack, other)
	}},
	{strangersNamed, flavor.MySQL, Required, false, func(w *world, leader, ack, _ *node) {
		w.shuns(leader)
		if !w.shun(leader) {
			w.plan(leader, First, ack.id)
		}
		for len(leader.plan) > 1 {
			w.carryOut(leader)
		}
		w.commit(leader, 0)
		w.counts(leader)
		if len(leader.plan) > 0 {
			w.carryOut(leader)
			w.lands(leader)
		}
		w.crash(leader)
		w.electIn(ack, 1100, ack)
	}},
	{foreignUnheeded, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.commit(leader, 1) // somebody replays it
		w.gets(other)
		w.crash(leader) // before it has adopted that
		w.electIn(ack, 1100, ack, other)
	}},
	{surplusNamed, flavor.MySQL, Required, false, func(w *world, leader, ack, other *node) {
		w.turnOff(other)
		w.remove(leader, other)
		w.acknowledged(leader, other) // by nobody: its side is off
		w.crash(leader)
		w.electIn(ack, 1100, ack) // without it, and without the other, which sleeps
		w.start(leader)
		w.loseVolume(leader, ack)
		w.start(leader)
		w.switches(ack, leader)
		w.relax(leader, other.id)
		w.connect(other)
		w.changes(leader, Add, other)
		w.crash(leader)
		w.electIn(other, 1100, ack, other)
	}},
}

// Without its guard each script shows a fault, and with it none.
func TestSimulationScripts(t *testing.T) {
	for _, tt := range scripts {
		t.Run(string(tt.without), func(t *testing.T) {
			for _, m := range []mutant{"", tt.without} {
				w := newScript(tt.flavor, m, tt.mode, tt.clocks)
				tt.run(w, w.nodes[0], w.nodes[1], w.nodes[2])
				w.check()
				if m == "" && w.fault != "" {
					t.Errorf("with all guards: %s\n%s", w.fault, w.traced())
				}
				if m != "" && w.fault == "" {
					t.Errorf("no fault without the guard\n%s", w.traced())
				}
			}
		})
	}
}

// newScript is a set of three that db-0 leads.
func newScript(f flavor.Flavor, m mutant, mode Mode, clocks bool) *world {
	w := newWorld(2, f, m, mode, clocks)
	for _, n := range w.nodes {
		n.rate = 1000
	}
	w.takeUp(w.nodes[0])
	w.lands(w.nodes[0])
	for _, n := range w.nodes {
		w.read(n)
	}
	return w
}

// A known fault: the tail of a former leader is replayed, with its GTIDs, before that member has been
// reseeded. Adopted, it is errant there no more: the member follows, and has the same transactions in
// another order. No guard is against it.
func TestSimulationOfReplayedTail(t *testing.T) {
	w := newScript(flavor.MySQL, "", Required, false)
	leader, ack, other := w.nodes[0], w.nodes[1], w.nodes[2]
	w.commit(leader, 0) // nobody receives it
	w.crash(leader)
	w.electIn(ack, 1100, ack, other)
	w.follows(other)
	w.acknowledged(ack, other)
	ack.executed = append(ack.executed, leader.executed...) // somebody replays it
	w.adopt(ack)
	w.lands(ack)
	w.start(leader)
	w.follows(leader)
	w.relax(ack, leader.id)
	w.gets(leader, other)
	if w.switches(ack, leader); w.fault == "" {
		t.Errorf("no fault: it is known no more\n%s", w.traced())
	}
	if last := len(leader.executed) - 1; leader.executed[0] != ack.executed[last] || leader.executed[last] != ack.executed[0] {
		t.Errorf("%+v and %+v", leader.executed, ack.executed)
	}
}

// follows has a member do as the Lease says that follows its leader.
func (w *world) follows(n *node) {
	w.read(n)
	w.settleSide(n)
	w.comeBack(n)
}

// lands has a member's request to the API server be answered.
func (w *world) lands(n *node) {
	q := n.asked
	if q == nil {
		return
	}
	w.arriveOne(slices.Index(w.inflight, q))
	w.answers = []*request{q}
	w.answer()
}

// acknowledged has a client write, and the members receive and apply it, and acknowledge if they
// can.
func (w *world) acknowledged(leader *node, by ...*node) {
	w.commit(leader, 0)
	w.gets(by...)
}

// gets has members receive the next commit, apply it, and acknowledge it if they can.
func (w *world) gets(by ...*node) {
	for _, n := range by {
		w.connect(n)
		w.receive(n)
		w.deliver(n)
		w.apply(n)
	}
}

// turnOff has a replica's side of semi-sync off, as before its sidecar turned it on.
func (w *world) turnOff(n *node) {
	n.side, n.conn, n.semi, n.ackDue = false, false, false, 0
}

// remove has the leader carry out the removal of an acknowledger.
func (w *world) remove(leader, n *node) { w.changes(leader, Remove, n) }

// changes has the leader carry out a change, if it comes to an end.
func (w *world) changes(leader *node, change Change, n *node) {
	w.plan(leader, change, n.id)
	for i := 0; i < 20 && len(leader.plan) > 0; i++ {
		w.carryOut(leader)
		w.lands(leader)
	}
}

// cutOff has two members not reach one another, and the second one's sidecar stand still; wakes ends the
// first.
func (w *world) cutOff(a, b *node) {
	b.running = false
	w.link[a.id][b.id], w.link[b.id][a.id] = false, false
	b.cut(a)
}

func (w *world) wakes(a, b *node) { w.link[a.id][b.id], w.link[b.id][a.id] = true, true }

// unregisters has the leader find that a member was scaled away.
func (w *world) unregisters(leader, n *node) {
	w.ask(leader, leader.view.Without([]string{member(n.id)}))
	w.lands(leader)
}

// switches has the leader make a planned change, and the next one open with its report.
func (w *world) switches(leader, to *node) {
	w.beginSwitch(leader, to.id)
	w.handOver(leader, to)
	w.lands(leader)
	w.electIn(to, 0, leader, to)
}

// shuns has a stranger come, and the leader do what it does about that.
func (w *world) shuns(leader *node) {
	w.comes(leader)
	w.shun(leader)
	w.tick(60)
	w.shun(leader)
	if leader.asked == nil {
		w.ask(leader, leader.view)
	}
	w.lands(leader)
}

// crash ends a member's server, and its sidecar sees that.
func (w *world) crash(n *node) {
	w.kill(n, "script")
	n.settle(w)
}

// asked is who answers when a member is asked for its report.
type asked struct {
	member string
	at     *node
}

// electIn has a member seek the Lease after some milliseconds, with the reports of some members,
// and open.
func (w *world) electIn(n *node, wait int, reports ...*node) {
	var from []asked
	for _, o := range reports {
		from = append(from, asked{member(o.id), o})
	}
	w.electAt(n, wait, from)
}

// electAt is electIn, with the address at which each member is asked.
func (w *world) electAt(n *node, wait int, reports []asked) {
	w.read(n)
	w.tick(wait)
	w.seek(n)
	for range 3 { // electing, heir, opened
		w.lands(n)
		n.vol.Seen = max(n.vol.Seen, n.view.Term)
		n.settle(w)
		if n.role == leader || n.role == follower && !w.takeUp(n) {
			break
		}
		for _, r := range reports {
			w.askReport(n, r.member, r.at)
		}
		switch n.role {
		case candidate:
			w.decide(n)
		case heir:
			for len(n.relay) > 0 {
				w.apply(n)
			}
			w.prepare(n)
		}
	}
	w.check()
}
