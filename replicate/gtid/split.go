package gtid

import (
	"slices"
	"strconv"
)

// Text prints all that h is, on one line, so that Parse makes the same of it: the set on MySQL, the
// binlog state on MariaDB.
func (h History) Text() string {
	if !h.set.Empty() {
		return h.set.String()
	}
	return h.state.String()
}

// Union is what a server has that has all of h and of other.
func (h History) Union(other History) History {
	return History{h.set.Union(other.set), h.state.Union(other.state)}
}

// Split parts h by the servers that made its transactions: those that by says yes to, and the rest.
// A server is a server_uuid on MySQL, in lower case, and a server_id on MariaDB, of which a binlog
// state, but no position, names every one.
func (h History) Split(by func(server string) bool) (theirs, rest History) {
	for _, p := range h.set.parts {
		to := &rest
		if by(p.stream.uuid) {
			to = &theirs
		}
		to.set.parts = append(to.set.parts, p)
	}
	numbers := [2]map[writer]uint64{{}, {}}
	newest := [2]map[uint32]uint32{{}, {}}
	for _, g := range slices.SortedFunc(slices.Values(h.state.last), GTID.compareAge) {
		to := 1
		if by(strconv.FormatUint(uint64(g.Server), 10)) {
			to = 0
		}
		numbers[to][writer{g.Domain, g.Server}] = g.Sequence
		newest[to][g.Domain] = g.Server // the highest number comes last
	}
	theirs.state, rest.state = makeState(numbers[0], newest[0]), makeState(numbers[1], newest[1])
	return theirs, rest
}
