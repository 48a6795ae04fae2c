package failover

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"understudy/replicate/flavor"
	"understudy/replicate/gtid"
)

// MaxTerms is how many terms a ledger of MariaDB keeps. MySQL's needs the last one only.
const MaxTerms = 64

// Ledger says which server wrote in which term. What a server wrote outside its own terms is
// errant.
//
// A term ends where the next opened one begins. MySQL names each transaction by the server's
// uuid, and a data directory that replaced another has another one; so the last term is enough:
// all that is in its Begins is the set's history, and beyond it only what the last leader wrote.
//
// MariaDB numbers the transactions of all servers together, and names the server by an id of
// our choice. A leader takes the id of its term (ServerID) when it opens, and gives it back when
// it does not lead any more. So a GTID says in which term it was made: a tail that nobody else
// has cannot be taken for what the same server, or its replacement, wrote later under the same
// number, and what a member logs while it does not lead is known by the member's own id.
type Ledger struct {
	Flavor flavor.Flavor `json:"flavor"`
	// Domain is MariaDB's one domain.
	Domain uint32 `json:"domain,omitempty"`
	// Dropped is the highest term that was left out. Of a member that has nothing of a later
	// one nothing is known.
	Dropped uint64 `json:"dropped,omitempty"`
	// Terms are opened terms, the last one last.
	Terms []Term `json:"terms"`
}

// Term is one opened term.
type Term struct {
	Term uint64 `json:"term"`
	// Server is who wrote in it: a server_uuid, on MariaDB ServerID of the term.
	Server string `json:"server"`
	// Begins is what the leader had when it opened: a set, on MariaDB one GTID, empty for
	// none.
	Begins string `json:"begins,omitempty"`
}

func (l Ledger) validate(last uint64) error {
	if l.Flavor != flavor.MySQL && l.Flavor != flavor.MariaDB {
		return fmt.Errorf("%w: flavour %q in the ledger", ErrRecord, l.Flavor)
	}
	if len(l.Terms) == 0 || len(l.Terms) > MaxTerms || l.Terms[len(l.Terms)-1].Term != last {
		return fmt.Errorf("%w: the ledger has %d terms, and does not end with the last opened term %d", ErrRecord, len(l.Terms), last)
	}
	before := l.Dropped
	for _, t := range l.Terms {
		if t.Term <= before {
			return fmt.Errorf("%w: term %d of the ledger follows term %d", ErrRecord, t.Term, before)
		}
		before = t.Term
		if l.Flavor == flavor.MySQL {
			if _, err := gtid.ParseSet(t.Begins); err != nil {
				return fmt.Errorf("%w: term %d begins at %w", ErrRecord, t.Term, err)
			}
			continue
		}
		if _, err := sequence(t.Begins); err != nil {
			return err
		}
	}
	return nil
}

// sequence is the number of one GTID of MariaDB; 0 for none.
func sequence(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	parts := strings.Split(text, "-")
	n, err := strconv.ParseUint(parts[len(parts)-1], 10, 64)
	if err != nil || len(parts) != 3 {
		return 0, fmt.Errorf("%w: %q is no GTID of MariaDB", ErrRecord, text)
	}
	return n, nil
}

// add appends a term and drops the oldest ones beyond the bound.
func (l Ledger) add(t Term) Ledger {
	keep := MaxTerms
	if l.Flavor == flavor.MySQL {
		keep = 1
	}
	l.Terms = append(slices.Clone(l.Terms), t)
	return l.drop(len(l.Terms) - keep)
}

func (l Ledger) drop(n int) Ledger {
	if n <= 0 {
		return l
	}
	l.Dropped = l.Terms[n-1].Term
	l.Terms = slices.Clone(l.Terms[n:])
	return l
}

// ServerID is the server_id of a MariaDB server while it leads a term. Those that it has
// otherwise are below.
func ServerID(term uint64) uint32 { return 1<<30 | uint32(term)&(1<<30-1) } //nolint:gosec // masked

// Extent is how much of the set's own history a member has. The zero value is nothing.
type Extent struct {
	set  gtid.Set
	upTo uint64
}

// Contains reports whether e has all that f has.
func (e Extent) Contains(f Extent) bool { return e.set.Contains(f.set) && e.upTo >= f.upTo }

// Union is what two members have together.
func (e Extent) Union(f Extent) Extent {
	return Extent{e.set.Union(f.set), max(e.upTo, f.upTo)}
}

// Lacks prints what f has beyond e.
func (e Extent) Lacks(f Extent) string {
	if lacking := f.set.Subtract(e.set); !lacking.Empty() {
		return lacking.String()
	}
	if f.upTo > e.upTo {
		return fmt.Sprintf("sequence numbers %d to %d", e.upTo+1, f.upTo)
	}
	return ""
}

// Measured is what the ledger says of a history.
type Measured struct {
	// Extent is its part of the set's own history.
	Extent
	// Errant is the rest, empty for none: what servers wrote outside their terms.
	Errant string
	// Old says that the ledger does not go back far enough to tell.
	Old bool
}

// Measure compares what a server has with the ledger: a set, on MariaDB its binlog state united
// with its position as a replica, which gtid.History.Text prints. The error is
// gtid.ErrMalformed.
func (l Ledger) Measure(history string) (Measured, error) {
	if l.Flavor == flavor.MySQL {
		return l.measureMySQL(history)
	}
	return l.measureMariaDB(history)
}

// Knows says that some of a history is the set's.
func (l Ledger) Knows(history string) bool {
	m, err := l.Measure(history)
	return err == nil && !m.Old && !(Extent{}).Contains(m.Extent)
}

func (l Ledger) measureMySQL(history string) (Measured, error) {
	has, err := gtid.ParseSet(history)
	if err != nil {
		return Measured{}, err
	}
	last := l.Terms[len(l.Terms)-1]
	begins, err := gtid.ParseSet(last.Begins)
	if err != nil {
		return Measured{}, err
	}
	beyond, err := gtid.Parse(flavor.MySQL, has.Subtract(begins).String())
	if err != nil {
		return Measured{}, err
	}
	_, rest := beyond.Split(func(server string) bool { return strings.EqualFold(server, last.Server) })
	errant, err := gtid.ParseSet(rest.Text())
	return Measured{Extent: Extent{set: has.Subtract(errant)}, Errant: errant.String()}, err
}

func (l Ledger) measureMariaDB(history string) (Measured, error) {
	state, err := gtid.ParseBinlogState(history)
	if err != nil {
		return Measured{}, err
	}
	var m Measured
	var errant []string
	// A set in which nobody wrote for as many terms as are kept has no transaction of any of them.
	known := state.Empty() || l.Dropped == 0
	for _, r := range state.Errant(gtid.BinlogState{}).Ranges() {
		upTo, inLedger, beyond := l.covers(r)
		m.upTo = max(m.upTo, upTo)
		known = known || inLedger || r.Server >= ServerID(0) && l.Terms[0].Begins == fmt.Sprintf("%d-%d-%d", r.Domain, r.Server, r.To)
		if beyond {
			r.From = max(upTo, r.From)
			errant = append(errant, r.String())
		}
	}
	if !known {
		return Measured{Old: true}, nil
	}
	m.Errant = strings.Join(errant, ",")
	return m, nil
}

// covers says how far the transactions of one server_id belong to the set's history, whether
// the ledger knows the id, and whether they go beyond.
func (l Ledger) covers(r gtid.Range) (upTo uint64, known, beyond bool) {
	if r.Domain != l.Domain {
		return 0, false, true
	}
	id := strconv.FormatUint(uint64(r.Server), 10)
	i := len(l.Terms) - 1
	for i >= 0 && l.Terms[i].Server != id {
		i--
	}
	known = i >= 0
	if i+1 == len(l.Terms) {
		return r.To, known, false
	}
	// From before the ledger, or of a term that the next one ends.
	ends, _ := sequence(l.Terms[i+1].Begins) // validate has seen it
	if !known && r.To > ends {
		return 0, false, true
	}
	return min(r.To, ends), known, r.To > ends
}
