package failover

import (
	"slices"

	"understudy/replicate/flavor"
)

// What the simulation's leaders do about what is not the set's: replicas that are no members and
// acknowledge, transactions that somebody replays, and members that come and go.

// stranger is a replica that is no member, with its side of semi-sync on. Nobody can bar it.
type stranger struct {
	source int // -1: it is not connected
}

// strange is a step of the stranger: it comes, goes, or acknowledges what its source has written.
func (w *world) strange() {
	s := &w.stranger
	if !w.odd {
		return
	}
	if s.source < 0 || w.rng.IntN(6) == 0 {
		if s.source = -1; w.stats["strangers"] < 3 && w.rng.IntN(20) == 0 {
			w.stats["strangers"]++
			w.comes(w.nodes[w.rng.IntN(len(w.nodes))])
		}
		return
	}
	w.counts(w.nodes[s.source])
}

// comes has the stranger connect to a server.
func (w *world) comes(n *node) {
	if n.up {
		w.stranger.source = n.id
		w.note("a stranger connects to %d", n.id)
	}
}

// counts has a server take the stranger's acknowledgement of all that waits. What it alone acknowledges
// before the leader shuns it, and the Lease names nobody, may be lost.
func (w *world) counts(n *node) {
	if !n.waiting || len(n.pending) == 0 {
		return
	}
	w.note("a stranger acknowledges %v to %d", n.pending, n.id)
	n.strange, n.pending = append(n.strange, n.pending...), nil
	if n.emptied {
		w.keep(n)
	}
}

// keep has all that the stranger acknowledged be kept from now on.
func (w *world) keep(n *node) {
	for _, id := range n.strange {
		w.acknowledge(n, id)
	}
	n.strange = nil
}

// shun is what a leader does about strangers before all else; true: it names nobody. The times of
// Shunned are 20 times as short here.
func (w *world) shun(n *node) bool {
	before := n.shunned
	var step ShunStep
	n.shunned, step = n.shunned.See(n.view.Mode, w.stranger.source == n.id, false, ms(20*w.clock(n)+1))
	if step == Trust {
		n.emptied = false
		return false
	}
	if before.Since == 0 {
		w.note("%d sees a stranger", n.id)
	}
	if w.mutant != strangersNamed {
		n.plan = nil
	}
	if step == Shun && len(n.view.Acknowledgers) > 0 && w.mutant != strangersKept {
		w.ask(n, n.view.Empty())
	}
	return w.mutant != strangersNamed
}

// settleStrange has what a stranger acknowledged be kept, once a write of a leader that shuns it has
// landed, and the Lease names nobody.
func (w *world) settleStrange(n *node, q *request) {
	if n.shunned.Since > 0 && q.sent >= int(n.shunned.Since.Milliseconds())/20 && (len(q.rec.Acknowledgers) == 0 || w.mutant == strangersKept) {
		n.emptied = true
		w.stats["shunned"]++
		w.keep(n)
	}
}

// replay has somebody replay the next transaction of a server that is no member.
func (w *world) replay(n *node) {
	if w.odd && w.flavor == flavor.MySQL && n.up && n.writable && !n.blocked {
		w.stats["replayed"]++
		w.commit(n, w.stats["replayed"])
	}
}

// adopt has a leader take what was replayed into the ledger; false: there is nothing of that.
func (w *world) adopt(n *node) bool {
	foreign := n.view.Foreign(text(w.flavor, n.executed))
	next, err := n.view.Adopt(foreign)
	if foreign == "" || err != nil {
		return false
	}
	w.stats["adopted"]++
	w.ask(n, next)
	return true
}

// mayName says that a leader may name a member that has executed what it has to.
func (w *world) mayName(n, o *node) bool {
	return w.mutant == surplusNamed || n.view.Surplus(text(w.flavor, o.has()), text(w.flavor, n.executed)) == ""
}

// enrol has a leader register a member that answers, or remove one that the set is not to have any more;
// false: it does neither. One that does not answer may run all the same.
func (w *world) enrol(n *node) bool {
	o := w.nodes[w.rng.IntN(len(w.nodes))]
	_, named := n.view.acknowledger(member(o.id))
	registered := slices.Contains(n.view.Members, member(o.id))
	switch {
	case o == n || !w.odd:
		return false
	case !registered && w.linked(n, o) && o.running && o.up:
		w.ask(n, n.view.With([]string{member(o.id)}))
		return true
	case registered && !named && len(n.plan) == 0 && w.stats["unregistered"] < 2 && w.rng.IntN(3) == 0:
		w.stats["unregistered"]++
		w.ask(n, n.view.Without([]string{member(o.id)}))
		return true
	}
	return false
}
