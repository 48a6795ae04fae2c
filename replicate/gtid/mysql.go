package gtid

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxNumber is the highest number of a transaction, 2^63-2:
// https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html
const maxNumber = math.MaxInt64 - 1

// Set is a set of MySQL's GTIDs, of any server up to 9.x: those of 8.3 and later may have tags. It
// is kept as ranges of numbers, and every operation takes time and memory in proportion to the
// number of ranges. The zero value is the empty set. A Set never changes.
type Set struct {
	parts []part // in the order of their streams, none empty
}

// part is what a set has of one stream.
type part struct {
	stream stream
	ranges []interval // ascending, with a gap between any two
}

// stream is what numbers are counted in: each server has one, and one for each tag.
type stream struct {
	uuid string // 36 characters, lower case
	tag  string // lower case, or empty
}

func (s stream) compare(t stream) int {
	return cmp.Or(strings.Compare(s.uuid, t.uuid), strings.Compare(s.tag, t.tag))
}

// interval is the numbers from first to last, both included.
type interval struct{ first, last int64 }

// ParseSet reads a set as the server prints it: "uuid:1-3:5:tag:7-9,uuid:…". As the server does, it
// takes blanks and line breaks between any two parts, ranges in any order, ranges that overlap, a
// UUID several times, UUIDs without numbers, surplus commas and capital letters. It refuses what
// servers read but never print: UUIDs without hyphens or in braces, ranges that run backwards,
// which count as empty, and numbers that begin with 0, which are octal to older servers and decimal
// to 9.7.
func ParseSet(text string) (Set, error) {
	found := map[stream][]interval{}
	for member := range strings.SplitSeq(text, ",") {
		member = strings.Trim(member, blanks)
		if member == "" {
			continue
		}
		if err := parseMember(member, found); err != nil {
			return Set{}, fmt.Errorf("%w: %w in %q", ErrMalformed, err, shorten(member))
		}
	}
	var s Set
	for stream, ranges := range found {
		slices.SortFunc(ranges, byFirst)
		s.parts = append(s.parts, part{stream, join(ranges)})
	}
	slices.SortFunc(s.parts, func(p, q part) int { return p.stream.compare(q.stream) })
	return s, nil
}

// parseMember reads what stands between two commas: a UUID, and then ranges and tags in turn. A tag
// holds for the ranges up to the next one.
func parseMember(text string, found map[stream][]interval) error {
	uuid, rest, more := strings.Cut(text, ":")
	s := stream{uuid: strings.ToLower(strings.TrimRight(uuid, blanks))}
	if !isUUID(s.uuid) {
		return fmt.Errorf("%q is not a UUID", shorten(s.uuid))
	}
	for more {
		var token string
		token, rest, more = strings.Cut(rest, ":")
		token = strings.Trim(token, blanks)
		if tag := strings.ToLower(token); isTag(tag) {
			s.tag = tag
			continue
		}
		numbers, err := parseInterval(token)
		if err != nil {
			return err
		}
		found[s] = append(found[s], numbers)
	}
	return nil
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		hex := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if hyphen != (c == '-') || !hyphen && !hex {
			return false
		}
	}
	return true
}

func isTag(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// parseInterval reads "5" or "5-7".
func parseInterval(text string) (interval, error) {
	first, last, isRange := strings.Cut(text, "-")
	var n interval
	var err error
	if n.first, err = parseNumber(first); err != nil {
		return n, err
	}
	n.last = n.first
	if isRange {
		n.last, err = parseNumber(last)
	}
	if err == nil && n.last < n.first {
		err = fmt.Errorf("%q runs backwards", shorten(text))
	}
	return n, err
}

func parseNumber(text string) (int64, error) {
	text = strings.Trim(text, blanks)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > maxNumber || text[0] < '1' || text[0] > '9' {
		return 0, fmt.Errorf("%q is neither a tag nor a number from 1 to %d", shorten(text), int64(maxNumber))
	}
	return n, nil
}

// String prints the set in the server's canonical form: lower case, UUIDs and tags in order, each
// once, with as few ranges as there can be. It is one line: where the server breaks the line after
// a comma, nothing stands here.
func (s Set) String() string {
	var b []byte
	for i, p := range s.parts {
		if i == 0 || p.stream.uuid != s.parts[i-1].stream.uuid {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, p.stream.uuid...)
		}
		if p.stream.tag != "" {
			b = append(b, ':')
			b = append(b, p.stream.tag...)
		}
		for _, n := range p.ranges {
			b = strconv.AppendInt(append(b, ':'), n.first, 10)
			if n.last > n.first {
				b = strconv.AppendInt(append(b, '-'), n.last, 10)
			}
		}
	}
	return string(b)
}

// Empty reports whether the set has no transaction.
func (s Set) Empty() bool { return len(s.parts) == 0 }

// Count is the number of transactions. A set that has more than 2^64-1 counts as that.
func (s Set) Count() uint64 {
	var count uint64
	for _, p := range s.parts {
		for _, n := range p.ranges {
			size := uint64(n.last-n.first) + 1 //nolint:gosec // last is at least first, and first at least 1
			if count > math.MaxUint64-size {
				return math.MaxUint64
			}
			count += size
		}
	}
	return count
}

// Equal reports whether the sets have the same transactions.
func (s Set) Equal(t Set) bool {
	return slices.EqualFunc(s.parts, t.parts, func(p, q part) bool {
		return p.stream == q.stream && slices.Equal(p.ranges, q.ranges)
	})
}

// Contains reports whether t is a subset of s, which the server calls GTID_SUBSET(t, s).
func (s Set) Contains(t Set) bool { return t.Subtract(s).Empty() }

// Union is what is in s, in t, or in both.
func (s Set) Union(t Set) Set { return combine(s, t, unite) }

// Subtract is what is in s and not in t, which the server calls GTID_SUBTRACT(s, t).
func (s Set) Subtract(t Set) Set { return combine(s, t, subtract) }

// combine makes a set of what f makes of the ranges of each stream, in one walk through both sets.
// Where a set has nothing of a stream, f is given nil.
func combine(s, t Set, f func(x, y []interval) []interval) Set {
	var result Set
	add := func(stream stream, x, y []interval) {
		if ranges := f(x, y); len(ranges) > 0 {
			result.parts = append(result.parts, part{stream, ranges})
		}
	}
	p, q := s.parts, t.parts
	for len(p) > 0 && len(q) > 0 {
		switch order := p[0].stream.compare(q[0].stream); {
		case order < 0:
			add(p[0].stream, p[0].ranges, nil)
			p = p[1:]
		case order > 0:
			add(q[0].stream, nil, q[0].ranges)
			q = q[1:]
		default:
			add(p[0].stream, p[0].ranges, q[0].ranges)
			p, q = p[1:], q[1:]
		}
	}
	for _, rest := range p {
		add(rest.stream, rest.ranges, nil)
	}
	for _, rest := range q {
		add(rest.stream, nil, rest.ranges)
	}
	return result
}

func byFirst(m, n interval) int { return cmp.Compare(m.first, n.first) }

// join makes one range of those that overlap or touch. It takes them in ascending order, and works
// in their place.
func join(ranges []interval) []interval {
	joined := ranges[:0]
	for _, n := range ranges {
		if k := len(joined) - 1; k >= 0 && n.first <= joined[k].last+1 { // no overflow: last is at most maxNumber
			joined[k].last = max(joined[k].last, n.last)
			continue
		}
		joined = append(joined, n)
	}
	return joined
}

func unite(x, y []interval) []interval {
	if len(x) == 0 {
		return y // a Set never changes, so that two may share it
	}
	if len(y) == 0 {
		return x
	}
	all := make([]interval, 0, len(x)+len(y))
	for len(x) > 0 && len(y) > 0 {
		if x[0].first > y[0].first {
			x, y = y, x
		}
		all, x = append(all, x[0]), x[1:]
	}
	return join(append(append(all, x...), y...))
}

func subtract(x, y []interval) []interval {
	if len(y) == 0 {
		return x
	}
	var left []interval
	for _, n := range x {
		for len(y) > 0 && y[0].last < n.first {
			y = y[1:]
		}
		// What is left of n begins at n.first.
		for len(y) > 0 && y[0].first <= n.last {
			if n.first < y[0].first {
				left = append(left, interval{n.first, y[0].first - 1})
			}
			n.first = y[0].last + 1
			if n.first > n.last {
				break // y[0] may reach into the next of x, too
			}
			y = y[1:]
		}
		if n.first <= n.last {
			left = append(left, n)
		}
	}
	return left
}
