package xbstream

import "slices"

// maxPieces bounds the parts of one file that have come ahead of a gap.
const maxPieces = 4096

// piece is the part [from, to) of a file.
type piece struct{ from, to int64 }

// extents tracks which parts of one file have come. Chunks that follow one another, as all tools
// write them, cost a comparison.
type extents struct {
	end   int64   // everything before it has come
	size  int64   // where the last chunk so far ends
	ahead []piece // what has come beyond end: sorted, apart from each other and from end
}

// add takes a chunk that covers n bytes at offset; the caller has checked that the sum is in range.
// It returns a reason if the chunk cannot be taken. A chunk of no bytes covers nothing, but its
// offset counts: the file is to reach there.
func (e *extents) add(offset, n int64) (reason string) {
	to := offset + n
	e.size = max(e.size, to)
	switch {
	case n == 0:
		return ""
	case offset < e.end:
		return "chunk overlaps an earlier one"
	case offset == e.end && len(e.ahead) == 0:
		e.end = to
		return ""
	}
	at, _ := slices.BinarySearchFunc(e.ahead, offset, func(p piece, offset int64) int {
		if p.from < offset {
			return -1
		}
		return 1
	})
	left := at > 0 && e.ahead[at-1].to == offset
	right := at < len(e.ahead) && e.ahead[at].from == to
	switch {
	case at > 0 && e.ahead[at-1].to > offset, at < len(e.ahead) && e.ahead[at].from < to:
		return "chunk overlaps an earlier one"
	case left && right:
		e.ahead[at-1].to = e.ahead[at].to
		e.ahead = slices.Delete(e.ahead, at, at+1)
	case left:
		e.ahead[at-1].to = to
	case right:
		e.ahead[at].from = offset
	case len(e.ahead) >= maxPieces && offset != e.end:
		return "too many chunks out of order"
	default:
		e.ahead = slices.Insert(e.ahead, at, piece{offset, to})
	}
	if e.ahead[0].from == e.end {
		e.end = e.ahead[0].to
		e.ahead = slices.Delete(e.ahead, 0, 1)
	}
	return ""
}

// whole says whether everything up to the file's size has come; if not, the first gap begins at
// end.
func (e *extents) whole() bool { return e.end == e.size }
