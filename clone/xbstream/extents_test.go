package xbstream

import (
	"math/rand/v2"
	"testing"
)

// TestExtents adds the pieces of a file in many orders, and each piece once more at a random time.
func TestExtents(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable on purpose
	for range 2000 {
		var pieces []piece
		size := int64(0)
		for range 1 + rnd.IntN(12) {
			n := rnd.Int64N(5)
			pieces = append(pieces, piece{size, size + n})
			size += n
		}
		rnd.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		var e extents
		seen := make([]bool, size)
		for i, p := range pieces {
			if reason := e.add(p.from, p.to-p.from); reason != "" {
				t.Fatalf("%v at %d: %s", pieces, i, reason)
			}
			for b := p.from; b < p.to; b++ {
				seen[b] = true
			}
			from := rnd.Int64N(size + 1)
			n := rnd.Int64N(size + 1 - from)
			overlap := false
			for b := from; b < from+n; b++ {
				overlap = overlap || seen[b]
			}
			if overlap && e.add(from, n) == "" {
				t.Fatalf("%v at %d: [%d, %d) was taken twice", pieces, i, from, from+n)
			}
			gap := int64(0)
			for gap < size && seen[gap] {
				gap++
			}
			if e.end != gap {
				t.Fatalf("%v at %d: end is %d, want %d", pieces, i, e.end, gap)
			}
		}
		if !e.whole() || e.size != size || len(e.ahead) != 0 {
			t.Fatalf("%v: %+v, want a whole file of %d bytes", pieces, e, size)
		}
	}
}

func TestExtentsBound(t *testing.T) {
	var e extents
	for i := range int64(maxPieces) {
		if reason := e.add(1+2*i, 1); reason != "" {
			t.Fatal(reason)
		}
	}
	if e.add(3*maxPieces, 1) == "" {
		t.Error("one piece more was taken")
	}
	if reason := e.add(0, 1); reason != "" || e.end != 2 {
		t.Errorf("what closes the gap: %q, end at %d", reason, e.end)
	}
}
