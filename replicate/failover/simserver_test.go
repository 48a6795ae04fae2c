package failover

import (
	"fmt"
	"slices"
	"strings"

	"understudy/replicate/flavor"
)

// most is how many members a simulated set has at most.
const most = 4

// entry is one transaction of the simulation. id is what it is, and term when it was made, 0
// for an errant one; server, gen and n are what a GTID says of it: gen stands for the data
// directory, of which MySQL's server_uuid is part; sid is MariaDB's server_id.
type entry struct {
	id, server, gen, n, sid int
	term                    uint64
}

// server is a simulated server with its volume. executed is durable; relay is what was received
// and not applied, and is lost with the process.
type server struct {
	up, writable, blocked, waiting bool
	boot, gen                      int
	executed, relay                []entry
	pending                        []int // commits that wait for an acknowledgement
	strange                        []int // those that a stranger alone has acknowledged
	locked                         [most]bool
	side                           bool
	source                         int // -1: the receiver is stopped
	conn, semi                     bool
	upstream                       string // the data directory that it was connected to last
	ackDue                         int    // an acknowledgement under way: up to this length of the source's log
	leads                          uint64
	taken                          uint64 // the term whose server_id it has, 0: its own
}

func (s *server) has() []entry { return append(slices.Clone(s.executed), s.relay...) }

// holds says that a log has all that is in another, as sets of GTIDs tell.
func holds(log, all []entry) bool {
	for _, e := range all {
		if !slices.Contains(log, e) {
			return false
		}
	}
	return true
}

// isPrefix says that two logs have not parted.
func isPrefix(a, b []entry) bool { return len(a) <= len(b) && slices.Equal(a, b[:len(a)]) }

// text is what a server of the flavour prints of a log.
func text(f flavor.Flavor, log []entry) string {
	if f == flavor.MariaDB {
		last := map[int]int{}
		var order []int
		for _, e := range log {
			order = slices.DeleteFunc(order, func(s int) bool { return s == e.sid })
			order = append(order, e.sid)
			last[e.sid] = e.n
		}
		parts := make([]string, 0, len(order))
		for _, s := range order {
			parts = append(parts, fmt.Sprintf("0-%d-%d", s, last[s]))
		}
		return strings.Join(parts, ",")
	}
	parts := make([]string, 0, len(log))
	for _, e := range log {
		parts = append(parts, fmt.Sprintf("%s:%d", uuid(e.server, e.gen), e.n))
	}
	return strings.Join(parts, ",")
}

func uuid(server, gen int) string {
	return fmt.Sprintf("%08d-0000-0000-0000-%012d", server+1, gen+1)
}

// serverID is a server's id while it leads a term; 0: none.
func (w *world) serverID(n *node, term uint64) int {
	if term == 0 || w.mutant == idOfMember {
		return 100 + n.id
	}
	return int(ServerID(term))
}

// serverName is how the ledger knows a server.
func (w *world) serverName(n *node, term uint64) string {
	if w.flavor == flavor.MariaDB {
		return fmt.Sprint(w.serverID(n, term))
	}
	return uuid(n.id, n.gen)
}

// begins is a term's beginning for the ledger.
func (w *world) begins(n *node) string {
	if w.flavor == flavor.MySQL {
		return text(w.flavor, n.executed)
	}
	if len(n.executed) == 0 {
		return ""
	}
	e := n.executed[len(n.executed)-1]
	return fmt.Sprintf("0-%d-%d", e.sid, e.n)
}

// kill ends a server's process. It starts read-only, and its receiver does not start by itself.
func (w *world) kill(n *node, why string) {
	if !n.up {
		return
	}
	w.note("kill server %d (%s)", n.id, why)
	n.up, n.writable, n.blocked, n.waiting, n.conn, n.semi, n.leads, n.taken, n.ackDue, n.timer = false, false, false, false, false, false, 0, 0, 0, 0
	n.side = false
	n.source = -1
	n.relay, n.pending, n.strange = nil, nil, nil
	if w.stranger.source == n.id {
		w.stranger.source = -1
	}
	for _, o := range w.nodes {
		if o.source == n.id {
			o.conn, o.semi, o.ackDue = false, false, 0
		}
	}
}

func (w *world) start(n *node) {
	if !n.up {
		n.up = true
		n.boot++
		n.side = w.mutant == sideByConfiguration
		w.note("start server %d", n.id)
	}
}

// commit has a client write through a server that takes writes; replayed is the number under another
// server's name, 0: it is its own.
func (w *world) commit(n *node, replayed int) {
	if !n.up || !n.writable || n.blocked {
		return
	}
	w.lastID++
	e := entry{id: w.lastID, server: n.id, gen: n.gen, n: 1, sid: w.serverID(n, n.taken), term: n.leads}
	if replayed > 0 {
		e.server, e.gen, e.n = most, 0, replayed
		w.note("it was replayed:")
	}
	for _, o := range n.executed {
		if replayed == 0 && (w.flavor == flavor.MariaDB || o.server == n.id && o.gen == n.gen) {
			e.n = max(e.n, o.n+1)
		}
	}
	n.executed = append(n.executed, e)
	if n.waiting {
		n.pending = append(n.pending, e.id)
		w.note("commit %d waits at %d", e.id, n.id)
		return
	}
	w.acknowledge(n, e.id)
}

func (w *world) acknowledge(n *node, id int) {
	w.note("commit %d is acknowledged by %d", id, n.id)
	w.acked[id] = true
}

// answerAll is what a source does when its side is turned off, or MySQL's at a graceful end.
func (w *world) answerAll(n *node) {
	for _, id := range n.pending {
		w.acknowledge(n, id)
	}
	n.pending = nil
}

// connect has a receiver reach its source.
func (w *world) connect(n *node) {
	if !n.up || n.source < 0 || n.conn {
		return
	}
	s := w.nodes[n.source]
	if s.up && w.linked(n, s) && !s.locked[n.id] {
		n.conn, n.semi, n.upstream = true, n.side, s.vol.Data
		w.note("%d connects to %d, semi-sync %v", n.id, s.id, n.semi)
	}
}

// receive has a replica take the next transaction, as its flavour finds it.
func (w *world) receive(n *node) {
	if !n.up || !n.conn {
		return
	}
	s := w.nodes[n.source]
	if !w.linked(n, s) {
		return
	}
	has := n.has()
	at := w.next(has, s.executed)
	if at < 0 {
		return
	}
	if s.leads < n.vol.Promised && s.leads > 0 {
		w.fail("invariant 4: %d receives from the leader of term %d, and has reported for term %d", n.id, s.leads, n.vol.Promised)
	}
	n.relay = append(n.relay, s.executed[at])
	w.note("%d receives %d from %d", n.id, s.executed[at].id, s.id)
	if n.semi {
		n.ackDue = at + 1
	}
}

// next is the index of what a source sends next, -1 for nothing.
func (w *world) next(has, source []entry) int {
	if w.flavor == flavor.MariaDB {
		if len(has) == 0 {
			return min(0, len(source)-1)
		}
		last := has[len(has)-1]
		i := slices.IndexFunc(source, func(e entry) bool { return e.sid == last.sid && e.n == last.n })
		if i < 0 || i+1 >= len(source) {
			return -1
		}
		return i + 1
	}
	return slices.IndexFunc(source, func(e entry) bool {
		return !slices.ContainsFunc(has, func(o entry) bool { return o.server == e.server && o.gen == e.gen && o.n == e.n })
	})
}

// deliver brings an acknowledgement to the source.
func (w *world) deliver(n *node) {
	if !n.conn || !n.semi || n.ackDue == 0 || !n.up {
		return
	}
	s := w.nodes[n.source]
	if !w.linked(n, s) || !s.waiting {
		return
	}
	for _, e := range s.executed[:min(n.ackDue, len(s.executed))] {
		if i := slices.Index(s.pending, e.id); i >= 0 {
			s.pending = slices.Delete(s.pending, i, i+1)
			w.acknowledge(s, e.id)
		}
	}
	n.ackDue = 0
}

func (w *world) apply(n *node) {
	if n.up && len(n.relay) > 0 {
		n.executed, n.relay = append(slices.Clone(n.executed), n.relay[0]), n.relay[1:]
	}
}

// bar locks a member's account at a server and cuts its connection.
func (w *world) bar(n *node, who int) {
	if w.mutant == barDoesNothing {
		return
	}
	n.locked[who] = true
	n.relaxed[who] = false
	o := w.nodes[who]
	if o.source == n.id && w.mutant != barDoesNotCut {
		o.conn, o.semi, o.ackDue = false, false, 0
	}
}

// loseVolume has a member's volume replaced by a clone of another member, as init does.
func (w *world) loseVolume(n, donor *node) {
	w.kill(n, "its volume is lost")
	n.vow = vow{}
	w.clone(n, donor)
}

// clone replaces a member's data. The account locks come along.
func (w *world) clone(n, donor *node) {
	w.note("%d is a clone of %d now", n.id, donor.id)
	n.gen++
	n.boot++
	n.executed = slices.Clone(donor.executed)
	n.locked = donor.locked
	n.side, n.upstream, n.followed, n.led = false, "", 0, 0
	n.vol = Volume{Seen: donor.vol.Seen, Promised: donor.vol.Promised, Data: uuid(n.id, n.gen)}
	w.restartSidecar(n)
}
