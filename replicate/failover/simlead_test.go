package failover

import (
	"cmp"
	"maps"
	"slices"
)

// report is a member's answer to a candidate or an heir; false: none.
func (w *world) report(n *node, asker string, r Record) (Report, bool) {
	if !n.up || !n.running || r.Term < n.vol.Promised {
		return Report{}, false
	}
	if w.clock(n) < n.following && w.clocks && w.mutant != promisesDoNotBind && w.mutant != reportsDespitePromise {
		return Report{}, false
	}
	if n.writable && (!n.blocked || len(n.pending) > 0) {
		w.kill(n, "it is asked for a report")
		n.role, n.plan = follower, nil
		return Report{}, false
	}
	if n.writable {
		w.resign(n, "it is asked for a report, and is closed")
	}
	if n.vol.Seen <= r.Term || w.mutant == leaseWentBack {
		n.vol.Seen = max(n.vol.Seen, r.Term)
		if w.mutant != reportsDoNotBind {
			n.vol.Promised = r.Term
			n.source, n.conn, n.semi, n.ackDue = -1, false, false, 0
		}
	}
	if member(n.id) != asker {
		n.role, n.plan, n.taken = follower, nil, 0
	}
	seen := n.vol.Seen
	if w.mutant == leaseWentBack {
		seen = 0
	}
	w.note("%d reports for term %d", n.id, r.Term)
	return Report{
		Member: member(n.id), Term: r.Term, Seen: seen, Receipt: n.receipt(), Data: n.vol.Data, Upstream: n.upstream, Serves: true, Healthy: true, Ordinal: n.id,
		Has: text(w.flavor, n.has()), Executed: text(w.flavor, n.executed),
	}, true
}

// gather has the holder of an election ask one member.
func (w *world) gather(n *node) {
	o := w.nodes[w.rng.IntN(len(w.nodes))]
	name := member(o.id)
	if w.rng.IntN(20) == 0 {
		o = w.nodes[w.rng.IntN(len(w.nodes))] // the address is another's by now
	}
	w.askReport(n, name, o)
}

// askReport has it ask for a member's report, at an address that may be another's.
func (w *world) askReport(n *node, name string, o *node) {
	if !w.linked(n, o) || n.view.Term < n.term {
		return
	}
	report, ok := w.report(o, member(n.id), n.view)
	if ok && (report.Member == name || w.mutant == nameUnchecked) {
		report.Member = name
		n.reports[name] = report
	}
}

func (n *node) collected() []Report {
	return slices.SortedFunc(maps.Values(n.reports), func(a, b Report) int {
		return cmp.Or(cmp.Compare(a.Ordinal, b.Ordinal), cmp.Compare(a.Member, b.Member))
	})
}

// weaken is the record as a mutant takes it for an election.
func (w *world) weaken(r Record, reports []Report) (Record, []Report) {
	switch w.mutant {
	case emptyAsksNobody:
		if len(r.Acknowledgers) == 0 {
			r.Mode = Off
		}
	case oneAcknowledgerIsEnough:
		r.Acknowledgments = max(1, len(r.Acknowledgers))
	case voidCounts:
		for i := range reports {
			if a, named := r.acknowledger(reports[i].Member); named {
				reports[i].Receipt = a.Receipt
			}
		}
	case oldLeaderByName:
		for i := range reports {
			if reports[i].Member == r.Last.Member {
				reports[i].Data = r.Last.Data
			}
		}
	}
	return r, reports
}

// heeding is the record as an election takes it: Record.Heeding, or what a mutant has for that.
func (w *world) heeding(r Record, reports []Report) Record {
	switch w.mutant {
	case foreignUnheeded:
		return r
	case anybodyVouches:
		for _, b := range reports {
			if l, err := r.Ledger.adopt(r.Foreign(b.Has)); err == nil {
				r.Ledger = l
			}
		}
		return r
	}
	return r.Heeding(reports)
}

func (w *world) decision(r Record, reports []Report) Election {
	if w.mutant == foreignUnheeded || w.mutant == anybodyVouches {
		return w.heeding(r, reports).decide(reports, 0)
	}
	return Decide(r, reports, 0)
}

func (w *world) ready(r Record, reports []Report, heir string) bool {
	if w.mutant == foreignUnheeded || w.mutant == anybodyVouches {
		return w.heeding(r, reports).ready(reports, heir) == ""
	}
	return Ready(r, reports, heir) == ""
}

// collect is a step of a candidate.
func (w *world) collect(n *node) {
	if w.rng.IntN(4) != 0 {
		w.gather(n)
		return
	}
	w.decide(n)
}

func (w *world) decide(n *node) {
	r, reports := w.weaken(n.view, n.collected())
	switch e := w.decision(r, reports); e.Step {
	case Elect, Fetch:
		w.stats["elected"]++
		w.ask(n, w.heeding(n.view, reports).Choose(e.Heir))
	case Refuse:
		w.ask(n, n.view.Release())
	case Await:
		w.stats["awaited"]++
	}
}

// promote is a step of an heir.
func (w *world) promote(n *node) {
	if !n.up {
		return
	}
	if w.rng.IntN(3) != 0 {
		w.gather(n)
		return
	}
	w.prepare(n)
}

// prepare has an heir open in the Lease, if it may.
func (w *world) prepare(n *node) {
	n.taken = n.term // before its history is measured
	own, ok := w.report(n, member(n.id), n.view)
	if !ok {
		n.role = follower
		return
	}
	if w.mutant == openUndrained {
		own.Executed = own.Has
		n.relay = nil
	}
	n.reports[own.Member] = own
	r, reports := w.weaken(n.view, n.collected())
	if w.mutant != chosenMeansReady {
		if !w.ready(r, reports, own.Member) {
			w.fetch(n, r, reports)
			return
		}
	}
	if len(n.relay) > 0 {
		return
	}
	heeding := w.heeding(n.view, reports)
	m, err := heeding.Ledger.Measure(own.Executed)
	if err != nil {
		w.fail("%v", err)
		return
	}
	next := heeding.Open(Opening{
		Leader: Leader{Member: own.Member, Data: n.vol.Data}, Server: w.serverName(n, n.term), Begins: w.begins(n), Has: m.Extent, Reports: reports,
	})
	if w.mutant == openKeepsTheSet {
		next.Acknowledgers = slices.DeleteFunc(slices.Clone(n.view.Acknowledgers), func(a Acknowledger) bool { return a.Member == own.Member })
	}
	w.ask(n, next)
}

// fetch gives an heir what another member has.
func (w *world) fetch(n *node, r Record, reports []Report) {
	e := w.decision(r, reports)
	if e.Step != Fetch || e.Heir != member(n.id) {
		return
	}
	from := w.nodes[idOf(e.From)]
	if !from.up || !w.linked(n, from) || len(n.relay) > 0 || !isPrefix(n.executed, from.executed) {
		return
	}
	w.stats["fetched"]++
	n.executed, n.upstream = slices.Clone(from.executed), from.vol.Data
	w.note("%d fetches from %d", n.id, from.id)
}

// lead is a step of a leader.
func (w *world) lead(n *node) {
	shuns := w.shun(n)
	switch r := w.rng.IntN(10); {
	case n.asked != nil: // it has emptied the set
	case r < 2:
		w.ask(n, n.view) // a renewal
	case r == 3 && w.rng.IntN(3) == 0: // it cannot write the Lease, or thinks so
		w.round(n)
	case r == 4 && w.rng.IntN(2) == 0:
		w.relax(n, w.rng.IntN(len(w.nodes)))
	case n.switching:
		w.switchOver(n)
	case n.blocked: // until a renewal has landed
	case r == 5 && w.adopt(n), r == 6 && w.rng.IntN(4) == 0 && w.enrol(n):
	case len(n.plan) > 0 && w.rng.IntN(30) == 0: // it has not ended in time, or has to give way
		n.plan = nil
	case len(n.plan) > 0:
		w.carryOut(n)
	case !shuns:
		w.begin(n)
	}
}

// begin makes a plan.
func (w *world) begin(n *node) {
	if w.rng.IntN(60) == 0 {
		w.beginSwitch(n, w.rng.IntN(len(w.nodes)))
		return
	}
	change := []Change{Add, Add, First, First, Renew, Renew, Remove, Degrade}[w.rng.IntN(8)]
	who := w.rng.IntN(len(w.nodes))
	if len(n.view.Acknowledgers) > 1 && w.rng.IntN(2) == 0 {
		change = Remove
	}
	w.plan(n, change, who)
}

// plan has a leader begin a change.
func (w *world) plan(n *node, change Change, who int) {
	n.who = who
	plan, err := Plan(change, n.view, member(n.who))
	if err != nil {
		return
	}
	switch w.mutant {
	case removeUnmarked:
		if change == Remove {
			plan = []LeaderStep{Mark, AwaitOthers, Bar, UnnameMember, Relax}
		}
	case recoverUnwaited:
		if change == First {
			plan = []LeaderStep{BarOthers, AskReceipt, Mark, AwaitMember, StartWaiting, NameMember}
		}
	case degradeUntold:
		if change == Degrade {
			plan = []LeaderStep{StopWaiting, EmptySet}
		}
	}
	n.plan = plan
	w.note("%d: %s %s", n.id, change, member(n.who))
}

// carryOut takes the next step of the plan.
func (w *world) carryOut(n *node) {
	o := w.nodes[n.who]
	reached := w.linked(n, o) && o.running && o.up
	done := true
	switch n.plan[0] {
	case StartWaiting:
		n.waiting = true
	case StopWaiting:
		w.answerAll(n)
		n.waiting = false
	case Bar:
		w.bar(n, n.who)
	case BarOthers:
		for i := range w.nodes {
			_, named := n.view.acknowledger(member(i))
			stray := !slices.Contains(n.view.Members, member(i))
			if i != n.id && !named && !n.relaxed[i] && (!stray || w.mutant != strayAdmitted) {
				w.bar(n, i)
			}
		}
	case AskReceipt:
		if done = reached; done {
			n.receiptOf = o.receipt()
		}
	case Mark:
		n.mark = len(n.executed)
	case AwaitMember:
		done = reached && o.receipt() == n.receiptOf && holds(o.executed, n.executed[:n.mark]) && w.mayName(n, o)
	case AwaitOthers:
		done = w.others(n) >= n.view.Acknowledgments || w.mutant == othersUnawaited
	case NameMember:
		w.ask(n, n.view.Name(Acknowledger{member(n.who), n.receiptOf}))
	case UnnameMember:
		w.ask(n, n.view.Unname(member(n.who)))
	case EmptySet:
		w.ask(n, n.view.Empty())
	case Relax:
		w.relax(n, n.who)
	}
	if done {
		w.stats["step "+string(n.plan[0])]++
		n.plan = n.plan[1:]
	}
	if n.asked != nil && w.mutant == unknownIsDone {
		n.asked = nil // it does not wait for the answer
	}
}

// others counts the other acknowledgers that have all up to the mark, with the receipt that they
// are named with.
func (w *world) others(n *node) int {
	count := 0
	for _, a := range n.view.Acknowledgers {
		o := w.nodes[idOf(a.Member)]
		if o.id != n.who && w.linked(n, o) && o.running && o.up && (o.receipt() == a.Receipt || w.mutant == voidCounts) && holds(o.has(), n.executed[:n.mark]) {
			count++
		}
	}
	return count
}

// relax asks a member that the Lease does not name whether its side is off, and lets it follow.
func (w *world) relax(n *node, i int) {
	o := w.nodes[i]
	if _, named := n.view.acknowledger(member(i)); named || i == n.id || !n.locked[i] || !slices.Contains(n.view.Members, member(i)) {
		return
	}
	if w.mutant != relaxUnasked {
		if !w.linked(n, o) || !o.running || !o.up {
			return
		}
		if w.mutant != staleNaming {
			o.naming = max(o.naming, n.view.Naming)
		}
		if o.side || o.semi {
			return
		}
	}
	n.locked[i], n.relaxed[i] = false, true
}

// beginSwitch has a leader block writes.
func (w *world) beginSwitch(n *node, to int) {
	n.switching, n.blocked, n.who = true, true, to
	if w.mutant == absolvesEarly {
		w.absolve(n)
	}
}

// switchOver is a step of a planned change: writes are blocked, the heir is level, then the
// compare-and-swap that makes it the heir of the next term.
func (w *world) switchOver(n *node) {
	o := w.nodes[n.who]
	if n.who == n.id || w.rng.IntN(12) == 0 {
		n.switching = false // given up, before the compare-and-swap: it is closed until a renewal has landed
		return
	}
	w.handOver(n, o)
}

// handOver has a leader give the Lease away. Its server stays closed until the Lease says who leads.
func (w *world) handOver(n, to *node) {
	if w.linked(n, to) && to.up && to.running && len(n.pending) == 0 && holds(to.executed, n.executed) {
		w.stats["switched"]++
		n.switching = false
		w.ask(n, n.view.Adopted(text(w.flavor, n.executed)).Seek(member(to.id)).Choose(member(to.id)))
	}
}
