package failover

import "slices"

// What the simulation's members do without the API server.

// vow is a promise to follow, as the volume keeps it.
type vow struct {
	to    int
	term  uint64
	lasts int
}

// said is a promise under way to its leader: who gives it, and when it was asked for on the leader's
// clock.
type said struct{ who, asked, lasts int }

// round is a step of a leader that asks the others to follow it: a question reaches a member, or its
// answer the leader, or neither does.
func (w *world) round(n *node) {
	if !w.clocks {
		return
	}
	if len(n.said) > 0 && w.rng.IntN(3) != 0 {
		w.hear(n, w.rng.IntN(len(n.said)))
		return
	}
	if all := n.toFollow(w); len(all) > 0 {
		w.askToFollow(n, w.nodes[idOf(all[w.rng.IntN(len(all))])])
	}
}

// askToFollow has a member asked, which holds what it promises for the Lease's duration.
func (w *world) askToFollow(n, o *node) {
	if o == n || !w.linked(n, o) || !o.running {
		return
	}
	s := Stance{Part: string(o.role), Seeks: o.asked != nil, Read: o.viewRV != 0, Record: &o.view}
	if step, _ := MayFollow(member(n.id), n.term, o.vol, s); step != Promise {
		return
	}
	lasts := int(simTimings.Duration.Milliseconds())
	o.vow = vow{n.id, n.term, lasts}
	o.following = max(o.following, w.clock(o)+lasts)
	n.said = append(n.said, said{o.id, w.clock(n), lasts})
	w.note("%d promises to follow %d", o.id, n.id)
}

// hear has a promise reach the leader, which goes on for as long as all allow it.
func (w *world) hear(n *node, i int) {
	a := n.said[i]
	n.said = slices.Delete(n.said, i, i+1)
	if !w.linked(n, w.nodes[a.who]) {
		return
	}
	from := a.asked
	if w.mutant == promiseFromAnswer {
		from = w.clock(n)
	}
	if n.promises == nil {
		n.promises = map[int]int{}
	}
	n.promises[a.who] = max(n.promises[a.who], from+int(simTimings.Promised(ms(a.lasts)).Milliseconds()))
	until, first := 0, true
	for _, m := range n.toFollow(w) {
		allows, promised := n.promises[idOf(m)]
		if !promised && w.mutant == oneSilentIsEnough {
			continue
		}
		if first || allows < until {
			until, first = allows, false
		}
	}
	if until > n.timer && n.timer > w.clock(n) {
		n.timer = until
		w.stats["rounds"]++
	}
}

// toFollow are the members whose promises a leader needs, as lead.view.toFollow has it.
func (n *node) toFollow(w *world) []string {
	all := slices.Concat(n.view.Members, n.mayName)
	switch {
	case w.mutant == mayNameNobody:
		all = slices.Clone(n.view.Members)
	case w.mutant == removedUnasked && len(n.mayName) > 0:
		all = slices.Clone(n.mayName)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(m string) bool { return m == member(n.id) })
}

// absolve has the members hear that a leader writes no more, which they promised to follow.
func (w *world) absolve(n *node) {
	for _, o := range w.nodes {
		if w.linked(n, o) && o.running && o.vow.to == n.id && o.vow.term == n.term {
			o.following, o.vow = 0, vow{}
		}
	}
}

// allFollow has a leader ask all whose promises it needs, and hear them some milliseconds later.
func (w *world) allFollow(n *node, later int) {
	for _, m := range n.toFollow(w) {
		w.askToFollow(n, w.nodes[idOf(m)])
	}
	w.tick(later)
	for len(n.said) > 0 {
		w.hear(n, 0)
	}
}

// byHand has the Lease written by somebody who heeds no promise.
func (w *world) byHand(r Record) {
	w.rv++
	w.rec = r
	w.note("the Lease is written by hand: term %d, %s, held by %q", r.Term, r.Phase, r.Holder)
}
