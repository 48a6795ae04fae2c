package failover

import "fmt"

// A set that goes back to its first ordinal ends its record, and does not lose it: by what it says,
// nobody elects while the first ordinal takes writes, and a later move to the Lease goes on above the
// terms that the volumes have seen.

// Ended says that the set has gone back to its first ordinal. There may be no record.
func (r *Record) Ended() bool { return r != nil && r.Phase == Ended }

// End is the record with which the first ordinal of a set that does not go by the Lease any more says
// so, before it opens for writes; why says why it may not. record is nil where the Lease has none. The
// first row that matches counts:
//
//	what the Lease says                                   it may
//	----------------------------------------------------  -----------------------------
//	nothing, and the volume keeps no record¹              open
//	nothing, and by the volume's another member led last  open²
//	nothing                                               open, once its own has ended³
//	ended                                                 open
//	less than the volume has seen                         not open
//	another member led last, or an election has begun     not open: it may write, or may soon
//	it led last                                           open, once that has ended
//
// ¹ the set has never gone by the Lease, as far as this volume knows.
//
// ² a person has removed the record, who knows that nobody leads.
//
// ³ so that members that have seen its terms may go by the Lease again.
func End(member string, record *Record, v Volume, kept *Record) (next *Record, why string) {
	switch {
	case record == nil && (kept == nil || kept.Last.Member != member || kept.Ended()):
		return nil, ""
	case record == nil:
		again := *kept
		again.Term = max(again.Term, v.Seen)
		return again.end(), ""
	case record.Ended():
		return nil, ""
	case record.wentBack(v):
		return nil, "the Lease was deleted or restored: " + record.than(v)
	case record.Phase != Opened || record.Last.Member != member:
		return nil, fmt.Sprintf("this set went by its Lease: %s led term %d last, and term %d is %s; go back to --primary=lease, and make %s the primary first, by understudy switchover",
			record.Last.Member, record.Last.Term, record.Term, record.Phase, member)
	}
	return record.end(), ""
}

func (r Record) end() *Record {
	r.Phase, r.Holder, r.Acknowledgers = Ended, "", nil
	r.Naming++
	return &r
}

// Begin is the record with which the first ordinal opens a term that no election has come before: the
// first one, or the next one of a set that had gone back to it. r is nil, or has ended. The caller adds
// the ledger, of that term alone, which begins with what the first ordinal has, and its data directory.
func (r *Record) Begin(first string, mode Mode, members []string) Record {
	next := Record{Term: 1, Phase: Opened, Holder: first, Mode: mode, Acknowledgments: 1, Naming: 1, Members: members}
	if r != nil {
		next.Term, next.Naming, next.NoFailover = r.Term+1, r.Naming+1, r.NoFailover
	}
	next.Last = Leader{Term: next.Term, Member: first}
	return next
}
