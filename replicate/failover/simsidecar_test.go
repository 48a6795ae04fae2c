package failover

import (
	"fmt"
	"slices"
	"time"

	"understudy/replicate/flavor"
)

// node is a member: its server, its volume, its sidecar and its clock.
type node struct {
	server
	id   int
	vol  Volume
	rate int
	// timer is the dead-man timer of understudy run: the end of the permission, 0 for none.
	timer int
	// following is until when the member has promised not to seek the Lease, nor to report; vow is
	// what its volume has of that.
	following int
	vow       vow

	// The sidecar. running is false while it is stopped by a signal.
	running               bool
	view                  Record
	viewRV                int
	viewSince, phaseSince int
	followed, led         uint64 // the terms whose leader it follows, and that it led last
	naming                uint64
	role                  role
	term                  uint64 // of which it is candidate, heir or leader
	reports               map[string]Report
	asked                 *request
	mayName               []string // the members of records that may have landed since view
	plan                  []LeaderStep
	who, mark             int
	receiptOf             string
	switching             bool
	relaxed               [most]bool
	promises              map[int]int // until when each allows to go on
	shunned               Shunned
	emptied               bool // it shuns strangers, and the Lease names nobody
	said                  []said
}

type role string

const (
	follower  role = ""
	candidate role = "candidate"
	heir      role = "heir"
	leader    role = "leader"
)

func (n *node) receipt() string { return fmt.Sprintf("boot-%d-%d", n.gen, n.boot) }

func (n *node) cut(o *node) {
	if n.source == o.id {
		n.conn, n.semi, n.ackDue = false, false, 0
	}
}

// restartSidecar loses what the process knew; what the volume remembers stays.
func (w *world) restartSidecar(n *node) {
	n.view, n.viewRV, n.naming = Record{}, 0, 0
	n.role, n.reports, n.asked, n.plan, n.switching, n.promises, n.said = follower, nil, nil, nil, false, nil, nil
	n.mayName, n.shunned, n.emptied = nil, Shunned{}, false
	n.relaxed = [most]bool{}
	n.running = true
	n.following = 0
	if n.vow.lasts > 0 && w.mutant != forgetsPromise {
		n.following = w.clock(n) + n.vow.lasts
	}
}

// timings of the simulation: the smallest that Validate allows of the permission.
var simTimings = Timings{Permission: time.Second, Duration: Stretch(time.Second), Electing: 3 * time.Second, Promotion: 4 * time.Second}

// read has the sidecar read the Lease.
func (w *world) read(n *node) { w.seeAs(n, w.rec, w.rv) }

// seeAs has the sidecar know a version of the Lease.
func (w *world) seeAs(n *node, r Record, rv int) {
	if n.viewRV == rv {
		return
	}
	if n.view.Term != r.Term || n.view.Phase != r.Phase {
		n.phaseSince = w.clock(n)
	}
	n.view, n.viewRV, n.viewSince, n.mayName = r, rv, w.clock(n), nil
	n.naming = max(n.naming, n.view.Naming)
}

// ask sends a compare-and-swap on the record that the sidecar has read.
func (w *world) ask(n *node, r Record) {
	n.asked = &request{from: n.id, rv: n.viewRV, rec: r, sent: w.clock(n), log: slices.Clone(n.executed), gen: n.gen}
	w.inflight = append(w.inflight, n.asked)
	n.mayName = append(n.mayName, r.Members...)
}

// giveUp has the sidecar wait no more for an answer. The request may arrive yet.
func (w *world) giveUp(n *node) {
	n.asked, n.plan = nil, nil
	if n.role == leader && n.blocked && w.mutant == rollBackUnknown {
		n.switching, n.blocked = false, false
	}
}

// act is one step of a sidecar.
func (w *world) act(n *node) {
	if n.viewRV == 0 {
		return
	}
	n.vol.Seen = max(n.vol.Seen, n.view.Term)
	if n.role == leader && !w.api[n.id] && w.clocks && n.up && w.rng.IntN(2) == 0 {
		w.round(n)
		return
	}
	if n.asked != nil {
		if w.rng.IntN(10) == 0 {
			w.giveUp(n)
		}
		return
	}
	n.settle(w)
	switch n.role {
	case leader:
		w.lead(n)
	case candidate:
		w.collect(n)
	case heir:
		w.promote(n)
	default:
		w.follow(n)
	}
}

// settle drops a role that the Lease does not give any more.
func (n *node) settle(w *world) {
	mine := n.view.Holder == member(n.id) && n.view.Term == n.term
	switch {
	case n.role == leader && (!mine || n.view.Phase != Opened || !n.up || n.leads != n.term):
		w.resign(n, "it leads no more")
	case n.role == candidate && (!mine || n.view.Phase != Electing), n.role == heir && (!mine || n.view.Phase != Heir):
		n.role, n.reports = follower, nil
	case n.role == follower && n.up && n.writable:
		w.kill(n, "it is open, and nobody knows why")
	}
}

// resign has a leader lead no more. Its server is closed, or killed where it is open, or commits wait.
func (w *world) resign(n *node, why string) {
	if !n.blocked || len(n.pending) > 0 {
		w.kill(n, why)
	}
	w.note("%d: %s", n.id, why)
	n.writable, n.blocked, n.waiting, n.leads, n.timer = false, false, false, 0, 0
	w.absolve(n)
	n.role, n.plan, n.switching = follower, nil, false
}

// confirmed acts on the answer to a request that landed.
func (w *world) confirmed(n *node, q *request) {
	lasts := int(simTimings.Permission / time.Millisecond)
	switch {
	case n.role == leader && q.rec.Term > n.term: // a planned change
		w.resign(n, "it has given the Lease away")
		return
	case q.rec.Holder != member(n.id) || q.rec.Phase != Opened || q.rec.Term < n.vol.Promised:
		return
	case n.role == leader && n.leads == q.rec.Term && n.term == q.rec.Term:
		n.blocked = n.blocked && n.switching // what was sent before it, as a planned change, lands no more
		w.settleStrange(n, q)
	case n.role == leader || !n.up || q.rec.Last.Data != n.vol.Data && w.mutant != oldLeaderByName:
		return
	default:
		w.open(n, q)
	}
	from := q.sent
	if w.mutant == countFromAnswer {
		from = w.clock(n)
	}
	n.timer = max(n.timer, int(Deadline(0, ms(from), ms(lasts))/time.Millisecond))
	if n.timer <= w.clock(n) && w.clocks && w.mutant != noTimer && n.writable {
		w.kill(n, "the answer came after the permission")
	}
}

// open makes the server take writes, in the order of lead.Controller.promote.
func (w *world) open(n *node, q *request) {
	if len(n.relay) > 0 || n.conn {
		return // it received since: it is no heir
	}
	r := q.rec
	n.source = -1
	n.waiting = r.Mode == Required || r.Mode == Preferred && len(r.Acknowledgers) > 0
	for i := range w.nodes {
		_, named := r.acknowledger(member(i))
		switch {
		case i == n.id:
		case named:
			n.locked[i] = false
		case w.mutant == strayInherited && !slices.Contains(r.Members, member(i)):
		case w.mutant != heirInherits:
			w.bar(n, i)
		}
	}
	n.relaxed, n.promises, n.said, n.shunned, n.emptied = [most]bool{}, nil, nil, Shunned{}, false
	if w.stranger.source == n.id {
		w.stranger.source = -1 // only administrators were let in
	}
	n.led = r.Term
	n.role, n.term, n.leads, n.taken, n.writable, n.plan, n.switching, n.blocked = leader, r.Term, r.Term, r.Term, true, nil, false, false
	w.note("%d opens for term %d", n.id, r.Term)
}

// judge holds invariant 5 when a term is opened in the Lease: the heir has the history that the
// last leader began with, and beyond it only what that one wrote. What a leader's own server
// logs while it is not open, as by FLUSH, belongs to its term.
func (w *world) judge(q *request) {
	if q.rec.Mode == Off || w.stats["lease restored"] > 0 && w.canonTerm >= q.rec.Last.Term {
		return
	}
	n := w.nodes[q.from]
	if !isPrefix(w.canon, q.log) {
		w.fail("invariant 5: %d opens term %d, and lacks some of what term %d began with, or has other transactions", n.id, q.rec.Term, w.canonTerm)
		return
	}
	for _, e := range q.log[len(w.canon):] {
		if e.term != w.canonTerm && (e.server != w.canonBy.server || e.gen != w.canonBy.gen) {
			w.fail("invariant 5: %d opens term %d with %d of term %d, after term %d", n.id, q.rec.Term, e.id, e.term, w.canonTerm)
			return
		}
	}
	w.canon, w.canonTerm, w.canonBy = q.log, q.rec.Term, entry{server: n.id, gen: q.gen}
}

// follow is a step of a member that leads nothing.
func (w *world) follow(n *node) {
	if w.rng.IntN(2) == 0 && w.takeUp(n) {
		return
	}
	if w.rng.IntN(3) == 0 {
		w.seek(n)
		return
	}
	if n.up {
		n.taken = 0
		w.settleSide(n)
		w.comeBack(n)
	}
}

// takeUp has a member act as whom the Lease names it; false: it names it as nothing.
func (w *world) takeUp(n *node) bool {
	v := n.view
	if v.Holder == member(n.id) && v.Term >= n.vol.Promised && (v.Term >= n.vol.Seen || w.mutant == leaseWentBack) {
		switch v.Phase {
		case Electing:
			n.role, n.term, n.reports = candidate, v.Term, map[string]Report{}
			return true
		case Heir:
			n.role, n.term, n.reports = heir, v.Term, map[string]Report{}
			return true
		case Opened:
			if !n.up {
				return true
			}
			vol := n.vol
			if w.mutant == leaseWentBack {
				vol.Seen = 0
			}
			if w.mutant == oldLeaderByName {
				vol.Data = v.Last.Data
			}
			n.taken = v.Term // before its history is measured
			log := n.executed
			if vol.Data == v.Last.Data && w.flavor == flavor.MariaDB {
				log = w.withoutTail(n, v.Ledger) // it forgets a FLUSH of its own
			}
			if MayOpen(member(n.id), v, vol, text(w.flavor, log)) == "" {
				n.executed = log
				w.ask(n, v) // a renewal: its answer opens
			}
			return true
		}
	}
	return false
}

func (w *world) seek(n *node) {
	o := Observed{Unrenewed: ms(w.clock(n) - n.viewSince), InPhase: ms(w.clock(n) - n.phaseSince), Following: ms(n.following - w.clock(n))}
	if !w.clocks && w.rng.IntN(4) == 0 {
		o.Unrenewed, o.Following = simTimings.Duration, 0
	}
	if w.mutant == promisesDoNotBind {
		o.Following = 0
	}
	record, vol := &n.view, n.vol
	if w.mutant == leaseWentBack {
		vol.Seen = 0
	}
	if step, _ := MaySeek(member(n.id), record, vol, o, simTimings); step == Seek && n.up {
		w.ask(n, n.view.Seek(member(n.id)))
	}
}

// settleSide turns the replica's side of semi-sync on or off, by what the Lease says.
func (w *world) settleSide(n *node) {
	a, named := n.view.acknowledger(member(n.id))
	current := n.view.Naming >= n.naming || w.mutant == staleNaming
	on := named && (a.Receipt == n.receipt() || w.mutant == voidCounts) && current && n.view.Phase == Opened
	if on == n.side {
		return
	}
	n.conn, n.semi, n.ackDue = false, false, 0
	n.side = on
	w.note("%d turns its side %v", n.id, on)
}

// comeBack follows the leader, or not yet, or is cloned from it.
func (w *world) comeBack(n *node) {
	r := &n.view
	tail := w.flavor == flavor.MariaDB && n.ownTail()
	if r.Last.Member == member(n.id) && r.Last.Data == n.vol.Data {
		if w.mutant == dropTailEarly && tail && r.Phase != Opened && r.Term > n.vol.Promised {
			w.kill(n, "it drops its tail")
			n.executed = n.executed[:len(n.executed)-1]
		}
		return
	}
	vol := n.vol
	if w.mutant == reportsDoNotBind {
		vol.Promised = 0
	}
	step, _ := Return(r, vol, text(w.flavor, n.has()), tail, tail)
	source := idOf(r.Last.Member)
	switch step {
	case Follow:
		switch {
		case source == n.id || n.source == source && n.followed == r.Last.Term:
		case len(n.relay) > 0: // first applied
			n.source, n.conn, n.semi, n.ackDue = -1, false, false, 0
		default:
			n.source, n.conn, n.semi, n.ackDue = source, false, false, 0
			n.followed = r.Last.Term
			w.note("%d follows %d", n.id, source)
		}
	case DropTail:
		w.kill(n, "it drops its tail")
		n.executed = w.withoutTail(n, r.Ledger)
	case Replace:
		if w.rng.IntN(8) != 0 { // its leader may be about to adopt it
			return
		}
		if l := w.nodes[source]; l.up && l.leads == r.Last.Term && w.linked(n, l) {
			w.kill(n, "reseed")
			w.clone(n, l)
		}
	}
}

// ownTail says that what a member has last is of the term that it led last.
func (n *node) ownTail() bool {
	return len(n.relay) == 0 && len(n.executed) > 0 && n.executed[len(n.executed)-1].server == n.id && n.executed[len(n.executed)-1].term == n.led
}

// withoutTail is a log without what the ledger calls errant at its end.
func (w *world) withoutTail(n *node, l Ledger) []entry {
	log := n.executed
	for len(log) > 0 {
		m, err := l.Measure(text(w.flavor, log))
		if err != nil || m.Errant == "" {
			break
		}
		log = log[:len(log)-1]
	}
	return slices.Clone(log)
}
