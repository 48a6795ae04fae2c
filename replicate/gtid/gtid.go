// Package gtid compares what servers have executed, by their global transaction identifiers. It
// reads what the servers' variables say; it asks no server itself.
//
// A History is what one server has, whatever its flavour, and answers the two questions that
// replication asks: whether a server has all that another one has (Contains), and what it has that
// its source lacks (Errant). Histories are made by Parse:
//
//	what a server has executed  MySQL    Parse(gtid_executed)
//	                            MariaDB  Parse(gtid_slave_pos, gtid_binlog_state)
//	what it has received        MySQL    Parse(gtid_executed, Retrieved_Gtid_Set)
//	                            MariaDB  Parse(gtid_slave_pos, gtid_binlog_state, Gtid_IO_Pos)
//	what it can no longer send  MySQL    Parse(gtid_purged)
//	                            MariaDB  Parse(the GTID list at the head of its oldest binlog)
//
// The flavours differ in what the variables tell.
//
// MySQL names every transaction: a Set is exact, and so is every answer.
// https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html
//
// MariaDB names the last transactions only: of each replication domain (Position), or of each
// server in each domain (BinlogState). What came before is implied, because with
// gtid_strict_mode=ON, which init sets and the sidecar checks, a server never logs a sequence
// number of a domain after a higher one. So a server that has 0-100-7 has all of domain 0 that its
// source logged up to there, and a position has all that another one has if in each domain its
// number is higher, or its last transaction the same. Two different transactions of one number
// (0-100-7, 0-101-7) are two histories that have parted: neither has all of the other. Histories
// that have parted at lower numbers look the same by position; only the binlog states, which Errant
// compares, show it. Without the strict mode a position proves nothing.
// https://mariadb.com/kb/en/gtid/
package gtid

import (
	"errors"
	"fmt"

	"understudy/replicate/flavor"
)

// ErrMalformed is returned for text that is not in the server's format.
var ErrMalformed = errors.New("malformed GTID set")

// blanks are what C's isspace skips, which the servers use.
const blanks = " \t\n\v\f\r"

// History is what one server has, in the terms of its flavour. The zero value is a server that has
// nothing.
type History struct {
	set   Set         // on MySQL
	state BinlogState // on MariaDB; of a position it has one server in each domain
}

// Parse reads the values of a server's variables and unites them. Empty texts are right: a server
// that has nothing says so. The error is ErrMalformed, or flavor.ErrUnknown.
func Parse(f flavor.Flavor, texts ...string) (History, error) {
	var h History
	for _, text := range texts {
		switch f {
		case flavor.MySQL:
			set, err := ParseSet(text)
			if err != nil {
				return History{}, err
			}
			h.set = h.set.Union(set)
		case flavor.MariaDB:
			state, err := ParseBinlogState(text)
			if err != nil {
				return History{}, err
			}
			h.state = h.state.Union(state)
		default:
			return History{}, fmt.Errorf("%w: read GTIDs of flavor %q", flavor.ErrUnknown, f)
		}
	}
	return h, nil
}

// Empty reports whether the server has nothing.
func (h History) Empty() bool { return h.set.Empty() && h.state.Empty() }

// Contains reports whether h has all that other has: every transaction on MySQL, every domain's
// position on MariaDB.
func (h History) Contains(other History) bool {
	return h.set.Contains(other.set) && h.state.Position().Contains(other.state.Position())
}

// Errant is what h has and source lacks.
func (h History) Errant(source History) Errant {
	e := h.state.Errant(source.state)
	e.set = h.set.Subtract(source.set)
	return e
}

// String prints the set on one line or, on MariaDB, the position: what to show, and what to give to
// gtid_purged or gtid_slave_pos.
func (h History) String() string {
	if !h.set.Empty() {
		return h.set.String()
	}
	return h.state.Position().String()
}

// shorten keeps an error readable when the text is not what it should be.
func shorten(text string) string {
	const most = 100 // bytes
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
