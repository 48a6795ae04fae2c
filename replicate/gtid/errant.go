package gtid

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Errant is what a server has and its source lacks. On MySQL it is the exact set. On MariaDB it is
// first a bound for each server and domain, and exact after Narrow. The zero value is nothing.
type Errant struct {
	set    Set
	ranges []Range // ascending
	known  knowledge
}

// knowledge is how much is known of the transactions in ranges.
type knowledge int

const (
	bounds  knowledge = iota // the last of each range is there; of the others some may be
	atLeast                  // all in the ranges are there, and there may be others
	exact                    // all in the ranges are there, and no others
)

// Range is transactions of one server in one domain of MariaDB: those with sequence numbers above
// From up to To. As the servers of a domain share its numbers, not each number in it needs to be a
// transaction of this server; To is one.
type Range struct {
	Domain, Server uint32
	From, To       uint64
}

func (r Range) compare(s Range) int {
	return cmp.Or(cmp.Compare(r.Domain, s.Domain), cmp.Compare(r.Server, s.Server), cmp.Compare(r.To, s.To))
}

func (r Range) holds(g GTID) bool {
	return r.Domain == g.Domain && r.Server == g.Server && r.From < g.Sequence && g.Sequence <= r.To
}

// String prints the range with both ends included: "0-101-8..12", or "0-101-8".
func (r Range) String() string {
	text := GTID{r.Domain, r.Server, r.From + 1}.String()
	if r.To > r.From+1 {
		text += ".." + strconv.FormatUint(r.To, 10)
	}
	return text
}

// Empty reports whether there is nothing that the source lacks.
func (e Errant) Empty() bool { return e.set.Empty() && len(e.ranges) == 0 }

// Ranges are MariaDB's, by domain and server: where to look in the binlogs.
func (e Errant) Ranges() []Range { return slices.Clone(e.ranges) }

// Without leaves out the ranges of which drop says yes. It has none to ask about on MySQL.
func (e Errant) Without(drop func(Range) bool) Errant {
	e.ranges = slices.DeleteFunc(e.Ranges(), drop)
	return e
}

// Holds reports whether g is within one of the ranges.
func (e Errant) Holds(g GTID) bool {
	return slices.ContainsFunc(e.ranges, func(r Range) bool { return r.holds(g) })
}

// Has reports whether a transaction is errant, or may be: "UUID:7" of MySQL, "0-100-7" of MariaDB.
func (e Errant) Has(id string) (bool, error) {
	if !e.set.Empty() {
		one, err := ParseSet(id)
		return err == nil && e.set.Contains(one), err
	}
	g, err := parseGTID(id)
	return err == nil && e.Holds(g), err
}

// Touches reports whether a set of MySQL has any of it. One that cannot be read may.
func (e Errant) Touches(set string) bool {
	s, err := ParseSet(set)
	return err != nil || !e.set.Subtract(s).Equal(e.set)
}

// Count is how many transactions MySQL's set has.
func (e Errant) Count() uint64 { return e.set.Count() }

// Narrow makes MariaDB's bounds a list of transactions. logged are those that the server's binlogs
// hold, in any order; what is not in the ranges is ignored. complete says that the binlogs go back
// to before the ranges: that none is purged which may have held more. The last of each range is
// there even if its binlog is not.
func (e Errant) Narrow(logged []GTID, complete bool) Errant {
	var found []GTID
	for _, r := range e.ranges {
		found = append(found, GTID{r.Domain, r.Server, r.To})
	}
	for _, g := range logged {
		if e.Holds(g) {
			found = append(found, g)
		}
	}
	slices.SortFunc(found, func(g, h GTID) int {
		return cmp.Or(byDomain(g, h), cmp.Compare(g.Server, h.Server), cmp.Compare(g.Sequence, h.Sequence))
	})
	narrow := Errant{set: e.set, known: atLeast}
	if complete {
		narrow.known = exact
	}
	for _, g := range slices.Compact(found) {
		next := Range{g.Domain, g.Server, g.Sequence - 1, g.Sequence}
		if k := len(narrow.ranges) - 1; k >= 0 && narrow.ranges[k].adjoins(next) {
			narrow.ranges[k].To = next.To
			continue
		}
		narrow.ranges = append(narrow.ranges, next)
	}
	return narrow
}

func (r Range) adjoins(next Range) bool {
	return r.Domain == next.Domain && r.Server == next.Server && r.To == next.From
}

// String prints what is errant, for people, on one line: "0-101-8..12,1-101-3", with "within"
// before it where some numbers may be no transactions of ours, and "at least" where the binlogs
// that held more are gone. On MySQL it is the set, as the server reads it.
func (e Errant) String() string {
	if !e.set.Empty() {
		return e.set.String()
	}
	list, wide := make([]string, len(e.ranges)), false
	for i, r := range e.ranges {
		list[i] = r.String()
		wide = wide || r.To > r.From+1
	}
	text := strings.Join(list, ",")
	switch {
	case e.known == atLeast && len(list) > 0:
		return "at least " + text
	case e.known == bounds && wide:
		return "within " + text
	}
	return text
}

// AnyOf reports whether some of it was written by one server, see OnlyOf.
func (e Errant) AnyOf(uuid string, id uint32) bool {
	return slices.ContainsFunc(e.set.parts, func(p part) bool { return uuid != "" && strings.EqualFold(p.stream.uuid, uuid) }) ||
		slices.ContainsFunc(e.ranges, func(r Range) bool { return r.Server == id })
}

// OnlyOf reports whether all of it was written by one server: by its server_uuid on MySQL, by its
// server_id on MariaDB. Nothing was.
func (e Errant) OnlyOf(uuid string, id uint32) bool {
	for _, p := range e.set.parts {
		if !strings.EqualFold(p.stream.uuid, uuid) {
			return false
		}
	}
	return !slices.ContainsFunc(e.ranges, func(r Range) bool { return r.Server != id })
}
