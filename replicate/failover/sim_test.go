package failover

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"understudy/replicate/flavor"
)

// The simulation runs the protocol of docs/failover.md with this package's functions, in a
// world of three or four members, a Lease, and everything that may go wrong between them. It knows no
// SQL: what a server does is what docs/failover.md says of it, no more. What it shows is that
// the protocol holds its invariants, and that each guard is needed; not that servers behave
// like that.

// world is one simulated set.
type world struct {
	rng    *rand.Rand
	flavor flavor.Flavor
	mutant mutant
	// clocks says that clock rates differ by 1 % at most, so that invariant 3 is promised. Without
	// it members seek the Lease whenever they like, and no timer ends.
	clocks bool
	now    int // milliseconds

	// calm is how rarely something goes wrong.
	calm int
	// odd says that strangers acknowledge, that transactions are replayed, and that members come and go.
	odd bool

	// The Lease, and requests to change it that have not arrived yet.
	rec      Record
	rv       int
	restored []Record
	inflight []*request
	answers  []*request

	nodes    []*node
	stranger stranger
	link     [most][most]bool
	api      [most]bool
	acked    map[int]bool
	lastID   int
	opened   map[uint64]int
	stats    map[string]int

	canon     []entry // what the last opened term began with
	canonTerm uint64
	canonBy   entry // server and gen of who opened it

	trace []string
	fault string
}

// request is a compare-and-swap under way. It may arrive, and its answer may not.
type request struct {
	from, rv int
	rec      Record
	sent     int // on the sender's clock
	landed   bool
	at       int     // the version that it made
	log      []entry // what the sender had then, in a data directory of this number
	gen      int
}

func member(id int) string { return fmt.Sprintf("db-%d", id) }

func idOf(name string) int { return int(name[len(name)-1] - '0') }

func newWorld(seed uint64, f flavor.Flavor, m mutant, mode Mode, clocks bool) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 7)), //nolint:gosec // a run has to be the same for the same seed
		flavor: f, mutant: m, clocks: clocks, acked: map[int]bool{}, opened: map[uint64]int{}, stats: map[string]int{}}
	w.canonTerm = 1
	w.calm, w.odd = []int{1, 3, 8, 20}[w.rng.IntN(4)], w.rng.IntN(2) == 0
	w.stranger.source = -1
	for range 3 {
		w.join()
	}
	if seed%3 == 0 {
		w.join()
	}
	var names []string
	for _, n := range w.nodes {
		names = append(names, member(n.id))
	}
	first := w.nodes[0]
	w.rec = Record{
		Term: 1, Phase: Opened, Holder: member(0), Mode: mode, Acknowledgments: 1, Members: names,
		Last:   Leader{1, member(0), first.vol.Data},
		Ledger: Ledger{Flavor: f, Terms: []Term{{Term: 1, Server: w.serverName(first, 1)}}},
	}
	w.rv = 1
	if seed%2 == 0 && mode != Off { // half of the runs begin with two acknowledgers
		for _, n := range w.nodes[1:3] {
			w.rec.Acknowledgers = append(w.rec.Acknowledgers, Acknowledger{member(n.id), n.receipt()})
			n.source, n.side, n.followed = 0, true, 1
		}
	}
	w.opened[1] = 0
	for _, n := range w.nodes {
		n.vol.Seen = 1
		w.read(n)
	}
	return w
}

// join adds a member that is not registered.
func (w *world) join() *node {
	n := &node{id: len(w.nodes), running: true, rate: 990 + 10*w.rng.IntN(3)}
	n.source, n.up = -1, true
	n.vol.Data = uuid(n.id, 0)
	w.nodes = append(w.nodes, n)
	w.api[n.id] = true
	for _, o := range w.nodes {
		w.link[n.id][o.id], w.link[o.id][n.id] = true, true
	}
	return n
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%6d ", w.now)+fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf(format, args...)
		w.note("FAULT %s", w.fault)
	}
}

func (w *world) linked(a, b *node) bool { return w.link[a.id][b.id] }

// run takes steps until a fault shows, and reports it with what led to it.
func (w *world) run(steps int) string {
	for i := 0; i < steps && w.fault == ""; i++ {
		w.step()
		w.check()
	}
	if w.fault == "" {
		return ""
	}
	return w.fault + "\n" + w.traced()
}

// traced is what happened last.
func (w *world) traced() string { return strings.Join(w.trace[max(0, len(w.trace)-70):], "\n") }

func (w *world) step() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	switch r := w.rng.IntN(1000); {
	case r < 46:
		w.commit(n, 0)
	case r < 50:
		w.replay(n)
	case r < 170:
		w.receive(n)
	case r < 240:
		w.deliver(n)
	case r < 330:
		w.apply(n)
	case r < 380:
		w.connect(n)
	case r < 640:
		if n.running {
			w.act(n)
		}
	case r < 760:
		w.arrive()
	case r < 810:
		if n.running && w.api[n.id] {
			w.read(n)
		}
	case r < 860:
		w.tick(1 + w.rng.IntN(120))
	case r < 900:
		w.start(n)
	case r < 910:
		w.strange()
	case w.rng.IntN(w.calm) == 0:
		w.nemesis(n, w.rng.IntN(100))
	}
}

// nemesis does one thing that goes wrong, or ends one.
func (w *world) nemesis(n *node, r int) {
	o := w.nodes[w.rng.IntN(len(w.nodes))]
	if w.mutant == leaseWentBack && w.rng.IntN(10) == 0 {
		w.restore() // its schedule: it happens once in a run at most
		return
	}
	switch {
	case r < 7:
		w.kill(n, "nemesis")
	case r < 9:
		for _, x := range w.nodes {
			w.kill(x, "power")
			w.restartSidecar(x)
		}
	case r < 14:
		w.note("sidecar %d restarts", n.id)
		w.restartSidecar(n)
	case r < 22:
		n.running = false
	case r < 40:
		n.running = true
	case r < 46:
		if n != o {
			w.link[n.id][o.id], w.link[o.id][n.id] = false, false
			n.cut(o)
			o.cut(n)
		}
	case r < 62:
		w.link[n.id][o.id], w.link[o.id][n.id] = true, true
	case r < 66:
		w.api[n.id] = false
	case r < 80:
		w.api[n.id] = true
	case r < 81:
		if w.stats["volumes lost"] < 2 && o != n {
			w.stats["volumes lost"]++
			w.loseVolume(n, o)
		}
	case r < 82:
		w.errant(n)
	case r < 83:
		w.restore()
	}
}

// restore brings an earlier Lease back, as from a copy of etcd, of a term that every volume knows
// to be over. One that is newer than all that the volumes have seen cannot be recognised.
func (w *world) restore() {
	known := w.rec.Term
	for _, x := range w.nodes {
		known = min(known, x.vol.Seen)
	}
	old := slices.DeleteFunc(slices.Clone(w.restored), func(r Record) bool { return r.Term >= known })
	if len(old) == 0 || w.stats["lease restored"] > 0 {
		return
	}
	w.stats["lease restored"]++
	w.rv++
	w.rec = old[w.rng.IntN(len(old))]
	w.note("the Lease is restored with term %d", w.rec.Term)
}

// errant has a replica log a FLUSH of its own.
func (w *world) errant(n *node) {
	if !n.up || n.writable || len(n.relay) > 0 || n.conn || w.stats["errant"] > 1 {
		return
	}
	w.stats["errant"]++
	n.writable = true
	acked := w.acked
	w.acked = map[int]bool{}
	w.commit(n, 0)
	w.acked = acked
	n.pending, n.writable = nil, false
	w.note("%d logs a FLUSH", n.id)
}

// tick lets time pass; run's timers end.
func (w *world) tick(lasts int) {
	w.now += lasts
	if !w.clocks {
		return
	}
	for _, n := range w.nodes {
		if n.writable && n.timer > 0 && w.clock(n) >= n.timer && w.mutant != noTimer {
			w.kill(n, "its permission has ended")
		}
	}
}

// clock is a member's own clock.
func (w *world) clock(n *node) int { return w.now * n.rate / 1000 }

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// arrive has a request reach the API server.
func (w *world) arrive() {
	if len(w.answers) > 0 && w.rng.IntN(2) == 0 {
		w.answer()
		return
	}
	if len(w.inflight) == 0 {
		return
	}
	w.arriveOne(w.rng.IntN(len(w.inflight)))
}

func (w *world) arriveOne(i int) {
	q := w.inflight[i]
	n := w.nodes[q.from]
	if !w.api[q.from] {
		return
	}
	w.inflight = slices.Delete(w.inflight, i, i+1)
	if q.rv == w.rv {
		q.landed = true
		w.land(q)
		q.at = w.rv
	}
	if n.asked == q && w.rng.IntN(8) != 0 {
		w.answers = append(w.answers, q)
	}
}

// answer has the oldest answer reach its sender, if that still waits for it.
func (w *world) answer() {
	q := w.answers[0]
	n := w.nodes[q.from]
	w.answers = w.answers[1:]
	if n.asked != q || !n.running || !w.api[q.from] {
		return
	}
	n.asked = nil
	if !q.landed {
		n.plan = nil
		return
	}
	if n.viewRV < q.at {
		w.seeAs(n, q.rec, q.at)
	}
	w.confirmed(n, q)
}

func (w *world) land(q *request) {
	if q.rec.Term < w.rec.Term {
		w.fail("invariant 1: term %d after term %d", q.rec.Term, w.rec.Term)
	}
	if text, err := q.rec.Encode(); err != nil {
		w.fail("the record %s is invalid: %v", text, err)
	}
	if q.rec.Last.Term > w.rec.Last.Term {
		if by, twice := w.opened[q.rec.Last.Term]; twice && w.stats["lease restored"] == 0 {
			w.fail("invariant 1: term %d is opened by %d, and by %d before", q.rec.Last.Term, q.from, by)
		}
		w.opened[q.rec.Last.Term] = q.from
		w.judge(q)
		w.stats["opened"]++
	}
	if w.stats["opened"] < 3 {
		w.restored = append(w.restored, w.rec)
	}
	w.rv++
	w.rec = q.rec
	w.note("the Lease is %d: term %d %s holder %q last %s acknowledgers %v, by %d", w.rv, q.rec.Term, q.rec.Phase, q.rec.Holder, q.rec.Last.Member, q.rec.Acknowledgers, q.from)
}

// check holds the invariants that concern an instant.
func (w *world) check() {
	writers := 0
	for _, n := range w.nodes {
		if !n.up || !n.writable {
			continue
		}
		if !n.blocked {
			writers++
		}
		if w.rec.Mode == Off {
			continue
		}
		for id := range w.acked {
			if !slices.ContainsFunc(n.executed, func(e entry) bool { return e.id == id }) {
				if n.leads >= w.newest() {
					w.fail("invariant 2: %d leads term %d without %d, which was acknowledged", n.id, n.leads, id)
				}
			}
		}
	}
	if writers > 1 && w.clocks {
		w.fail("invariant 3: %d members take writes", writers)
	}
}

// newest is the highest term that was opened, also where the Lease went back. A former leader that was
// left behind may lack what its successors acknowledged.
func (w *world) newest() (newest uint64) {
	for term := range w.opened {
		newest = max(newest, term)
	}
	return newest
}
