package replicate

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Where a set has no GTIDs, what its members have can be compared by how far they have read the
// primary's binary log. It tells who has more, and that the primary has less; but what it lacks the
// primary cannot take over then.

// Coordinate is a place in a binary log; the zero value is none.
type Coordinate struct {
	File     string
	Position uint64
}

// ParseCoordinate reads what String prints.
func ParseCoordinate(text string) (Coordinate, error) {
	file, digits, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(digits, 10, 64)
	c := Coordinate{file, n}
	if _, ok := c.number(); err != nil || !ok {
		return Coordinate{}, fmt.Errorf("%q is not a binary log coordinate, such as binlog.000001:157", text)
	}
	return c, nil
}

// String is FILE:POSITION; empty of the zero value.
func (c Coordinate) String() string {
	if c.File == "" {
		return ""
	}
	return c.File + ":" + strconv.FormatUint(c.Position, 10)
}

// number is the running number behind the name of a server's binary logs.
func (c Coordinate) number() (uint64, bool) {
	at := strings.LastIndexByte(c.File, '.')
	n, err := strconv.ParseUint(c.File[at+1:], 10, 64)
	return n, err == nil && at > 0
}

// compare orders two places of one binary log.
func (c Coordinate) compare(other Coordinate) int {
	a, _ := c.number() // ParseCoordinate has seen it
	b, _ := other.number()
	return cmp.Or(cmp.Compare(a, b), cmp.Compare(c.Position, other.Position))
}

// BinaryLog is a server's: the ends of its files, in their order.
type BinaryLog []Coordinate

func readBinaryLog(ctx context.Context, db *sql.DB) (BinaryLog, error) {
	rows, err := readRows(ctx, db, queryBinlogs)
	if err != nil {
		return nil, fmt.Errorf("read the list of binary logs: %w", err)
	}
	var all BinaryLog
	for _, r := range rows {
		c, err := ParseCoordinate(r[columnLogName] + ":" + r[columnLogSize])
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if all == nil {
		return nil, errors.New("read the list of binary logs: there is none")
	}
	slices.SortFunc(all, Coordinate.compare)
	return all, nil
}

// reaches reports whether all that lies before a place is in the log, or was once.
func (l BinaryLog) reaches(c Coordinate) bool {
	if len(l) == 0 {
		return false
	}
	n, _ := c.number()
	for _, end := range l {
		if m, _ := end.number(); n == m {
			return c.Position <= end.Position
		} else if n < m {
			return true
		}
	}
	return false
}

// ComparePositions is Compare for a set without GTIDs. has is nil where there is no server of our
// own: then the member is picked that has read furthest.
func ComparePositions(has BinaryLog, peers []Peer) (Level, error) {
	var l Level
	var best Coordinate
	var ahead []string
	for i := range peers {
		p := &peers[i]
		if !p.byPosition() {
			continue
		}
		read, err := ParseCoordinate(p.Read)
		if err != nil {
			return l, fmt.Errorf("read what %s has: %w", p.Name, err)
		}
		if has.reaches(read) {
			continue
		}
		ahead = append(ahead, fmt.Sprintf("%s has read it up to %s", p.Name, read))
		if l.Ahead == nil || read.compare(best) > 0 {
			best, l.Ahead, l.Lacks = read, p, read.String()
		}
	}
	if has != nil && l.Ahead != nil {
		l.Ahead, l.Lacks = nil, ""
		l.Conflict = fmt.Sprintf("%s, and it ends at %s here; without GTIDs that cannot be taken over", strings.Join(ahead, ", "), has[len(has)-1])
	}
	return l, nil
}

// byPosition says that a member has no GTIDs, and is a replica all the same.
func (p *Peer) byPosition() bool { return p.counts() && p.Received == "" && p.Read != "" }
