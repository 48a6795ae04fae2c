package gtid

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// GTID is one transaction of MariaDB: https://mariadb.com/kb/en/gtid/
type GTID struct {
	// Domain is the replication domain, which has an order of transactions of its own.
	Domain uint32
	// Server is the server_id of the server that made the transaction.
	Server uint32
	// Sequence is its number in the domain. The numbers of a domain are shared by its servers. 0
	// stands for no transaction at all.
	Sequence uint64
}

// String prints it as the server does: "0-100-7".
func (g GTID) String() string { return string(g.append(nil)) }

func (g GTID) append(b []byte) []byte {
	b = strconv.AppendUint(b, uint64(g.Domain), 10)
	b = strconv.AppendUint(append(b, '-'), uint64(g.Server), 10)
	return strconv.AppendUint(append(b, '-'), g.Sequence, 10)
}

func parseGTID(text string) (GTID, error) {
	domain, rest, _ := strings.Cut(text, "-")
	server, sequence, _ := strings.Cut(rest, "-")
	d, errD := strconv.ParseUint(domain, 10, 32)
	s, errS := strconv.ParseUint(server, 10, 32)
	n, errN := strconv.ParseUint(sequence, 10, 64)
	if errD != nil || errS != nil || errN != nil {
		return GTID{}, fmt.Errorf("%w: %q is not DOMAIN-SERVER-SEQUENCE", ErrMalformed, shorten(text))
	}
	return GTID{uint32(d), uint32(s), n}, nil
}

// parseList reads GTIDs with commas between them. More blanks are allowed than the server allows,
// which wants none before a comma.
func parseList(text string) ([]GTID, error) {
	text = strings.Trim(text, blanks)
	if text == "" {
		return nil, nil
	}
	var list []GTID
	for member := range strings.SplitSeq(text, ",") {
		g, err := parseGTID(strings.Trim(member, blanks))
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, nil
}

func printList(list []GTID) string {
	var b []byte
	for i, g := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = g.append(b)
	}
	return string(b)
}

// Position is a point in MariaDB's history: the last transaction of each domain, as in
// gtid_slave_pos, gtid_binlog_pos, gtid_current_pos and Gtid_IO_Pos. The zero value is the
// beginning. A Position never changes.
type Position struct {
	last []GTID // ascending by domain, each domain once
}

// ParsePosition reads a position as the server prints it: "0-100-7,1-100-9". It refuses a domain
// that stands twice, as the server does.
func ParsePosition(text string) (Position, error) {
	list, err := parseList(text)
	if err != nil {
		return Position{}, err
	}
	slices.SortFunc(list, byDomain)
	for i := 1; i < len(list); i++ {
		if list[i].Domain == list[i-1].Domain {
			return Position{}, fmt.Errorf("%w: %s and %s are of one domain", ErrMalformed, list[i-1], list[i])
		}
	}
	return Position{list}, nil
}

func byDomain(g, h GTID) int { return cmp.Compare(g.Domain, h.Domain) }

// String prints the position as the server does, by domain.
func (p Position) String() string { return printList(p.last) }

// Empty reports whether the position is the beginning.
func (p Position) Empty() bool { return len(p.last) == 0 }

// Equal reports whether both are the same point.
func (p Position) Equal(q Position) bool { return slices.Equal(p.last, q.last) }

// Contains reports whether a server at p has all that a server at q has. See the package's comment
// for what has to hold.
func (p Position) Contains(q Position) bool {
	for _, theirs := range q.last {
		i, found := slices.BinarySearchFunc(p.last, theirs, byDomain)
		has := found && (p.last[i].Sequence > theirs.Sequence || p.last[i] == theirs)
		if !has && theirs.Sequence > 0 {
			return false
		}
	}
	return true
}

// Union is what a server has that has all of p and of q: the higher number in each domain. It means
// something only for positions in one history.
func (p Position) Union(q Position) Position {
	all := slices.Concat(p.last, q.last)
	slices.SortFunc(all, func(g, h GTID) int { return cmp.Or(byDomain(g, h), h.compareAge(g)) })
	return Position{slices.CompactFunc(all, func(g, h GTID) bool { return g.Domain == h.Domain })}
}

// compareAge compares transactions of one domain. The servers of two that have the same number only
// make the order a definite one.
func (g GTID) compareAge(h GTID) int {
	return cmp.Or(cmp.Compare(g.Sequence, h.Sequence), cmp.Compare(g.Server, h.Server))
}

// BinlogState is what gtid_binlog_state tells: the last transaction of each server in each domain
// that is, or was, in a server's binary log. It is emptied by RESET MASTER and, since
// mariadb-backup copies no binlogs, with a clone. The zero value is that of an empty log. A
// BinlogState never changes.
type BinlogState struct {
	last []GTID // ascending by domain; within a domain ascending by server, except the newest, which comes last
}

// ParseBinlogState reads a state as the server prints it: "0-101-5,0-100-7,1-100-9". What comes
// last of a domain is the domain's newest. As on the server, the later one counts of two
// transactions of one server in one domain.
func ParseBinlogState(text string) (BinlogState, error) {
	list, err := parseList(text)
	if err != nil {
		return BinlogState{}, err
	}
	last, newest := map[writer]uint64{}, map[uint32]uint32{}
	for _, g := range list {
		last[writer{g.Domain, g.Server}] = g.Sequence
		newest[g.Domain] = g.Server
	}
	return makeState(last, newest), nil
}

// writer is a server that has logged something in a domain.
type writer struct{ domain, server uint32 }

// makeState takes the sequence numbers, and each domain's server of the newest one.
func makeState(last map[writer]uint64, newest map[uint32]uint32) BinlogState {
	var b BinlogState
	for w, sequence := range last {
		b.last = append(b.last, GTID{w.domain, w.server, sequence})
	}
	rank := func(g GTID) int {
		if newest[g.Domain] == g.Server {
			return 1
		}
		return 0
	}
	slices.SortFunc(b.last, func(g, h GTID) int {
		return cmp.Or(byDomain(g, h), cmp.Compare(rank(g), rank(h)), cmp.Compare(g.Server, h.Server))
	})
	return b
}

// numbers is the inverse of makeState's first argument.
func (b BinlogState) numbers() map[writer]uint64 {
	last := make(map[writer]uint64, len(b.last))
	for _, g := range b.last {
		last[writer{g.Domain, g.Server}] = g.Sequence
	}
	return last
}

// String prints the state as the server takes it for gtid_binlog_state, with the newest of each
// domain last.
func (b BinlogState) String() string { return printList(b.last) }

// Empty reports whether nothing was ever logged.
func (b BinlogState) Empty() bool { return len(b.last) == 0 }

// Equal reports whether both have the same transactions and the same newest ones.
func (b BinlogState) Equal(c BinlogState) bool { return slices.Equal(b.last, c.last) }

// Position is the newest transaction of each domain: gtid_binlog_pos.
func (b BinlogState) Position() Position {
	var p Position
	for i, g := range b.last {
		if i+1 == len(b.last) || b.last[i+1].Domain != g.Domain {
			p.last = append(p.last, g)
		}
	}
	return p
}

// Union is the state of a log that has all of b's and of c's transactions. The newest of a domain
// is that of Position.Union.
func (b BinlogState) Union(c BinlogState) BinlogState {
	last, newest := b.numbers(), map[uint32]uint32{}
	for _, g := range c.last {
		w := writer{g.Domain, g.Server}
		last[w] = max(last[w], g.Sequence)
	}
	for _, g := range b.Position().Union(c.Position()).last {
		newest[g.Domain] = g.Server
	}
	return makeState(last, newest)
}

// Errant is what b has logged beyond what source has: the transactions of a server in a domain
// whose numbers are higher than the source's last one of the same server and domain.
//
// A source that was itself cloned, or had RESET MASTER, has forgotten in its binlog state what it
// executed before. Unite the state with its gtid_slave_pos, as Parse does for a History. That still
// has no more than one server in each domain: of servers that wrote in the domain before, but not
// last, the source does not know whether it has their transactions, and they are named as errant,
// with Range.From 0.
func (b BinlogState) Errant(source BinlogState) Errant {
	var e Errant
	theirs := source.numbers()
	for _, g := range b.last {
		if from := theirs[writer{g.Domain, g.Server}]; from < g.Sequence {
			e.ranges = append(e.ranges, Range{Domain: g.Domain, Server: g.Server, From: from, To: g.Sequence})
		}
	}
	slices.SortFunc(e.ranges, Range.compare)
	return e
}
