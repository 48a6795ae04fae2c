// Package failover decides who may lead a set, and in which order a leader, its heir and its
// acknowledgers do what they do. It is arithmetic on records and reports: it sends no SQL
// statement, calls no API server and reads no clock. docs/failover.md has the protocol and
// the argument for it; the simulation in the tests of this package runs these functions and
// checks the invariants of that document.
//
// Package lead carries out what it decides.
package failover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Mode says how commits wait for acknowledgers. It stands in the Lease and only the leader
// changes it.
type Mode string

const (
	// Off means that no commit waits for a replica.
	Off Mode = "off"
	// Preferred means that commits wait while the Lease names acknowledgers.
	Preferred Mode = "preferred"
	// Required means that every commit waits, from when the set has a second member.
	Required Mode = "required"
)

// Phase says how far a term is.
type Phase string

const (
	// Electing means that the holder collects reports.
	Electing Phase = "electing"
	// Heir means that the holder was chosen, and is not open for writes yet.
	Heir Phase = "heir"
	// Opened means that the holder may open for writes, while it has permission.
	Opened Phase = "opened"
	// Ended means that the set has gone back to its first ordinal since: see End.
	Ended Phase = "ended"
)

// MaxBytes bounds a record: Kubernetes bounds all annotations of an object at 256 KiB.
const MaxBytes = 96 << 10

// MaxMembers bounds the registered members.
const MaxMembers = 100

// ErrRecord is returned for text that is no valid record. Nobody elects on it.
var ErrRecord = errors.New("invalid term record")

// Record is what the Lease says of terms, in the annotation understudy/term. Every change is
// a compare-and-swap on the resourceVersion that the record was read with.
type Record struct {
	// Term is the number of the current term. It only rises.
	Term uint64 `json:"term"`
	// Phase is how far that term is.
	Phase Phase `json:"phase"`
	// Holder is the member that holds the Lease; empty: it was released.
	Holder string `json:"holder,omitempty"`
	// Mode and Acknowledgments (k) say how commits wait.
	Mode            Mode `json:"mode"`
	Acknowledgments int  `json:"acknowledgments"`
	// Acknowledgers are the replicas that may acknowledge commits of the last opened leader.
	Acknowledgers []Acknowledger `json:"acknowledgers,omitempty"`
	// Naming counts the changes of Acknowledgers. A member never acts on a record with a lower
	// one than it was told of.
	Naming uint64 `json:"naming"`
	// Last is the last leader whose term was opened.
	Last Leader `json:"last"`
	// Ledger says which server wrote in which term.
	Ledger Ledger `json:"ledger"`
	// Members are the registered members. Only a leader registers one.
	Members []string `json:"members"`
	// Quick counts the last opened terms, in a row, that ended before their leader was stable and not as
	// planned.
	Quick int `json:"quick,omitempty"`
	// Forced is the last term that a person has forced: who opened it did without the reports that an
	// election needs, see Force.
	Forced uint64 `json:"forced,omitempty"`
	// NoFailover, when set, says who forbids failover in this set, and why: then only the last leader
	// may be elected.
	NoFailover string `json:"noFailover,omitempty"`
}

// Acknowledger is one entry of the Lease's set.
type Acknowledger struct {
	Member string `json:"member"`
	// Receipt identifies an unbroken stretch of the member's relay logs: the start of its
	// server and of its applier. With another one the entry is void.
	Receipt string `json:"receipt"`
}

// Leader is a leader whose term was opened.
type Leader struct {
	Term   uint64 `json:"term"`
	Member string `json:"member,omitempty"`
	// Data is the random id of its data directory. A clone or a reseed makes another.
	Data string `json:"data,omitempty"`
}

// Encode prints the record in one line.
func (r Record) Encode() (string, error) {
	if err := r.validate(); err != nil {
		return "", err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("encode the term record: %w", err)
	}
	if len(text) > MaxBytes {
		return "", fmt.Errorf("%w: it has %d bytes, and %d are allowed: the set of GTIDs has too many parts", ErrRecord, len(text), MaxBytes)
	}
	return string(text), nil
}

// Decode reads what Encode printed. The error is ErrRecord.
func Decode(text string) (Record, error) {
	if len(text) > MaxBytes {
		return Record{}, fmt.Errorf("%w: it has %d bytes, and %d are allowed", ErrRecord, len(text), MaxBytes)
	}
	var r Record
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields() // a field of a later version may forbid what this version would do
	if err := d.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if d.More() {
		return Record{}, fmt.Errorf("%w: text follows it", ErrRecord)
	}
	return r, r.validate()
}

func (r Record) validate() error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrRecord}, args...)...)
	}
	switch {
	case r.Term == 0:
		return wrong("terms begin at 1")
	case !slices.Contains(phases, r.Phase):
		return wrong("unknown phase %q", r.Phase)
	case r.Mode != Off && r.Mode != Preferred && r.Mode != Required:
		return wrong("unknown mode %q", r.Mode)
	case r.Acknowledgments < 1:
		return wrong("a commit needs 1 acknowledgment or more, not %d", r.Acknowledgments)
	case r.Last.Term == 0 || r.Last.Member == "" || r.Last.Data == "":
		return wrong("it does not say who led last")
	case r.Phase == Opened && r.Last.Term != r.Term, (r.Phase == Electing || r.Phase == Heir) && r.Last.Term >= r.Term, r.Last.Term > r.Term:
		return wrong("phase %s of term %d, and the last opened term is %d", r.Phase, r.Term, r.Last.Term)
	case r.Phase == Opened && r.Holder != "" && r.Holder != r.Last.Member:
		return wrong("%s holds term %d, and %s opened it", r.Holder, r.Term, r.Last.Member)
	case r.Phase == Ended && r.Holder != "":
		return wrong("%s holds term %d, which has ended", r.Holder, r.Term)
	case r.Forced > r.Term:
		return wrong("term %d was forced, and the term is %d", r.Forced, r.Term)
	case len(r.Members) > MaxMembers:
		return wrong("%d members", len(r.Members))
	case r.Mode == Off && len(r.Acknowledgers) > 0:
		return wrong("mode off with acknowledgers")
	}
	seen := map[string]bool{}
	for _, a := range r.Acknowledgers {
		if a.Receipt == "" || seen[a.Member] || !slices.Contains(r.Members, a.Member) || a.Member == r.Last.Member {
			return wrong("acknowledger %+v", a)
		}
		seen[a.Member] = true
	}
	return r.Ledger.validate(r.Last.Term)
}

// acknowledger finds a member's entry.
func (r Record) acknowledger(member string) (Acknowledger, bool) {
	for _, a := range r.Acknowledgers {
		if a.Member == member {
			return a, true
		}
	}
	return Acknowledger{}, false
}

// Seek is the record of a candidate that takes the Lease to collect reports.
func (r Record) Seek(candidate string) Record {
	r.Term++
	r.Phase, r.Holder = Electing, candidate
	return r
}

// Unplanned is the record with which an election begins, where nobody has planned the end of the term; short
// says that its leader was not stable yet. A term that was never opened does not count.
func (r Record) Unplanned(short bool) Record {
	switch {
	case r.Phase != Opened:
	case short:
		r.Quick++
	default:
		r.Quick = 0
	}
	return r
}

// Choose is the record in which the holder of an election makes another member, or itself, the
// heir.
func (r Record) Choose(heir string) Record {
	r.Phase, r.Holder = Heir, heir
	return r
}

// Release is the record of a holder that gives the Lease up. Who led last stays.
func (r Record) Release() Record {
	r.Holder = ""
	return r
}

// Opening is what an heir knows when it is about to open.
type Opening struct {
	Leader
	// Server is its server_uuid, on MariaDB ServerID of the term.
	Server string
	// Begins is its position: the set, on MariaDB its newest GTID.
	Begins string
	// Has is what the heir has, measured by the ledger so far.
	Has Extent
	// Reports are fresh answers of the other members, for this term.
	Reports []Report
}

// Open is the record with which an heir opens its term. It changes acknowledgers, ledger and
// last leader at once, so that there is no moment with the new leader and the old set.
//
// It names the replicas that may lead, have executed all that the heir has, and whose applier runs,
// at most two, and none where fewer are left than a commit needs: what they may lack has been acknowledged
// already.
func (r Record) Open(o Opening) Record {
	var acknowledgers []Acknowledger
	for _, b := range o.Reports {
		m, err := r.Ledger.Measure(b.Executed)
		if err != nil || m.Old || m.Errant != "" || r.Foreign(b.Has) != "" || !m.Contains(o.Has) || b.Receipt == "" || b.Barred != "" || b.Term != r.Term || b.Member == o.Member || !slices.Contains(r.Members, b.Member) {
			continue
		}
		acknowledgers = append(acknowledgers, Acknowledger{b.Member, b.Receipt})
	}
	switch most := max(2, r.Acknowledgments); {
	case r.Mode == Off || len(acknowledgers) < r.Acknowledgments:
		acknowledgers = nil
	case len(acknowledgers) > most:
		acknowledgers = acknowledgers[:most]
	}
	r.Phase, r.Holder = Opened, o.Member
	r.Last = Leader{Term: r.Term, Member: o.Member, Data: o.Data}
	r.Ledger = r.Ledger.add(Term{Term: r.Term, Server: o.Server, Begins: o.Begins})
	r.Acknowledgers = acknowledgers
	r.Naming++
	return r
}

// With is the record with more members.
func (r Record) With(members []string) Record {
	r.Members = append(slices.Clone(r.Members), members...)
	return r
}

// Without is the record without members that are no acknowledgers.
func (r Record) Without(members []string) Record {
	r.Members = slices.DeleteFunc(slices.Clone(r.Members), func(m string) bool { return slices.Contains(members, m) })
	r.Naming++
	return r
}

// Name is the record that has an acknowledger, or has it with another receipt.
func (r Record) Name(a Acknowledger) Record {
	r = r.Unname(a.Member)
	r.Acknowledgers = append(r.Acknowledgers, a)
	return r
}

// Unname is the record without an acknowledger.
func (r Record) Unname(member string) Record {
	r.Naming++
	r.Acknowledgers = slices.DeleteFunc(slices.Clone(r.Acknowledgers), func(a Acknowledger) bool { return a.Member == member })
	return r
}

// WaitsForNobody says that commits are not to wait for a replica, as nobody is named: in mode preferred,
// and in required while the set has one member.
func (r Record) WaitsForNobody() bool {
	return len(r.Acknowledgers) == 0 && (r.Mode == Preferred || r.Mode == Required && len(r.Members) <= 1)
}

// Empty is the record without acknowledgers. While the mode is not Off, only the last leader's
// own data can lead then.
func (r Record) Empty() Record {
	r.Naming++
	r.Acknowledgers = nil
	return r
}
