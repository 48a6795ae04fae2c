package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// framed is a stripe as it travels.
func framed(at int64, bytes []byte) []byte {
	return append(stripe{at: at, bytes: [2][]byte{bytes}}.frame(), bytes...)
}

// A lane that ends anywhere before the end of its stripe delivers nothing of it.
func TestStripeCut(t *testing.T) {
	for _, length := range []int{1, 100, stripeSize} {
		whole := framed(2*stripeSize, noise(length))
		l := newLane(&Client{}, Header{Connections: 2}, 0, &watch{})
		l.next = 2 * stripeSize
		buf := make([]byte, stripeSize)
		for cut := range min(len(whole), 130) {
			for _, at := range []int{cut, len(whole) - 1 - cut} {
				n, err := l.stripe(bytes.NewReader(whole[:at]), buf)
				want := io.ErrUnexpectedEOF
				if at == 0 {
					want = io.EOF
				}
				if n != 0 || !errors.Is(err, want) {
					t.Fatalf("%d of %d bytes: %d, %v", at, len(whole), n, err)
				}
			}
		}
		if n, err := l.stripe(bytes.NewReader(whole), buf); n != length || err != nil {
			t.Errorf("%d bytes: %d, %v", length, n, err)
		}
	}
}

// Whichever bit of a small stripe or its frame is inverted, the stripe is not taken.
func TestStripeFlipped(t *testing.T) {
	whole := framed(stripeSize, noise(40))
	l := newLane(&Client{}, Header{Connections: 2}, 1, &watch{})
	buf := make([]byte, stripeSize)
	for bit := range len(whole) * 8 {
		b := slices.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		if n, err := l.stripe(bytes.NewReader(b), buf); err == nil {
			t.Errorf("bit %d: %d bytes were taken", bit, n)
		}
	}
}

// A lane takes exactly the stripe that is due.
func TestStripeDue(t *testing.T) {
	const due = 5 * stripeSize
	for _, at := range []int64{0, due - stripeSize, due - 1, due + 1, due + stripeSize, -1, -due, 1 << 62} {
		l := newLane(&Client{}, Header{Connections: 5}, 0, &watch{})
		l.next = due
		n, err := l.stripe(bytes.NewReader(framed(at, noise(10))), make([]byte, stripeSize))
		if !errors.Is(err, errStripe) || !final(err) {
			t.Errorf("at %d: %d bytes, %v", at, n, err)
		}
	}
	for _, length := range []int{0, stripeSize + 1, 3 * stripeSize} {
		l := newLane(&Client{}, Header{Connections: 5}, 0, &watch{})
		if n, err := l.stripe(bytes.NewReader(framed(0, make([]byte, length))), make([]byte, stripeSize)); !errors.Is(err, errStripe) {
			t.Errorf("of %d bytes: %d, %v", length, n, err)
		}
	}
}

// FuzzStripe has a lane read what anybody may send. It takes only what a frame with that digest
// describes.
func FuzzStripe(f *testing.F) {
	f.Add(framed(0, []byte("a stripe")))
	f.Add(framed(0, nil))
	f.Add(append(framed(0, []byte("one")), framed(stripeSize, []byte("two"))...))
	f.Add(framed(stripeSize, []byte("later"))[:15])
	buf := make([]byte, stripeSize)
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLane(&Client{}, Header{Connections: 2}, 0, &watch{})
		n, err := l.stripe(bytes.NewReader(b), buf)
		if err != nil {
			return
		}
		if want := framed(0, buf[:n]); !bytes.HasPrefix(b, want) {
			t.Errorf("%d bytes were taken from %q", n, b)
		}
	})
}

// A ring of lanes gives each stripe as it was written, to whichever lane and however often, as long
// as the joiner has not reported it; and it takes in no more than its size beyond that.
func TestRingOfLanes(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same in every run
			n := 2 + r.IntN(MaxConnections-1)
			size := int64(n+1)*stripeSize + r.Int64N(stripeSize)
			all := noise(2*int(size) + r.IntN(stripeSize))
			ring := newReplay(size/2, size-size/2)
			ring.split(n)
			written, have := 0, int64(0)
			due := make([]int64, n) // of each lane
			for i := range due {
				due[i] = int64(i) * stripeSize
			}
			check := func(lane int) (stripe, bool) {
				t.Helper()
				if due[lane]+stripeSize > int64(written) && written < len(all) || due[lane] >= int64(len(all)) {
					return stripe{}, false
				}
				s, err := ring.nextStripe(t.Context(), lane)
				end := min(due[lane]+stripeSize, int64(len(all)))
				if err != nil || s.at != due[lane] || !bytes.Equal(slices.Concat(s.bytes[0], s.bytes[1]), all[due[lane]:end]) {
					t.Fatalf("lane %d at %d: %d bytes at %d, %v", lane, due[lane], s.size(), s.at, err)
				}
				return s, true
			}
			for have < int64(len(all)) {
				lane := r.IntN(n)
				switch r.IntN(4) {
				case 0: // the tool writes as much as there is room for
					kept := min(have, slices.Min(ring.positions()))
					for written < len(all) && int64(written)-kept < size {
						p, err := ring.space(t.Context(), min(1+r.IntN(stripeSize), len(all)-written))
						if err != nil || int64(written+len(p))-kept > size {
							t.Fatalf("%d bytes of room, %v", len(p), err)
						}
						written += copy(p, all[written:])
						ring.commit(len(p))
					}
					if written == len(all) {
						ring.end()
					}
				case 1: // a lane sends a stripe, whole or in part, and the connection may break
					s, there := check(lane)
					if !there {
						break
					}
					sent := 1 + r.IntN(s.size())
					ring.takeLane(lane, s, sent)
					if r.IntN(3) > 0 {
						ring.takeLane(lane, s, s.size()-sent)
						due[lane] += int64(n) * stripeSize
					} else if err := ring.seekLane(lane, due[lane]); err != nil {
						t.Fatal(err)
					}
				case 2: // a lane begins again at a stripe that has not been reported
					at := due[lane]
					for at-int64(n)*stripeSize >= have && r.IntN(2) == 0 {
						at -= int64(n) * stripeSize
					}
					if err := ring.seekLane(lane, at); err != nil {
						t.Fatal(err)
					}
					due[lane] = at
					check(lane)
				case 3: // the joiner reports some of what it can have
					if whole := min(slices.Min(due), int64(len(all))); whole > have {
						have += 1 + r.Int64N(whole-have)
						ring.confirm(have)
					}
				}
			}
			for lane := range n {
				if s, err := ring.nextStripe(t.Context(), lane); s.size() > 0 || err != nil {
					t.Errorf("lane %d does not end: %d bytes, %v", lane, s.size(), err)
				}
			}
		})
	}
}

// A lane begins only at one of its own stripes that the ring has, or that comes next.
func TestSeekLane(t *testing.T) {
	const n = 3
	fill := func() *replay {
		ring := newReplay(8*stripeSize, 2*stripeSize)
		ring.split(n)
		for written := 0; written < 10*stripeSize; {
			p, err := ring.space(t.Context(), stripeSize)
			if err != nil {
				t.Fatal(err)
			}
			ring.commit(len(p))
			written += len(p)
		}
		for lane := range n {
			for range 2 {
				s, err := ring.nextStripe(t.Context(), lane)
				if err != nil {
					t.Fatal(err)
				}
				ring.takeLane(lane, s, s.size())
			}
		}
		ring.confirm(4 * stripeSize)
		return ring
	}
	for _, tt := range []struct {
		name string
		lane int
		at   int64
		ok   bool
	}{
		{"the first one that is kept", 1, 4 * stripeSize, true},
		{"one that was sent", 2, 5 * stripeSize, true},
		{"one that is there", 0, 9 * stripeSize, true},
		{"the next one", 1, 13 * stripeSize, true},
		{"one far away", 1, 16 * stripeSize, false},
		{"one that was reported", 0, 3 * stripeSize, false},
		{"another lane's", 0, 4 * stripeSize, false},
		{"the middle of one", 1, 4*stripeSize + 1, false},
		{"before the beginning", 0, -3 * stripeSize, false},
		{"a lane that is none", 3, 6 * stripeSize, false},
		{"a lane before the first", -1, 5 * stripeSize, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := fill().seekLane(tt.lane, tt.at); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
	// One connection takes the rest from any byte that is kept, and the lanes are over.
	for at, ok := range map[int64]bool{4*stripeSize - 1: false, 4 * stripeSize: true, 4*stripeSize + 7: true, 10 * stripeSize: true, 10*stripeSize + 1: false} {
		ring := fill()
		if err := ring.seek(at); (err == nil) != ok {
			t.Errorf("one connection at %d: %v", at, err)
		}
		if _, err := ring.nextStripe(t.Context(), 1); ok != errors.Is(err, errGone) {
			t.Errorf("a lane after one connection at %d: %v", at, err)
		}
		if err := ring.seekLane(1, 4*stripeSize); ok != errors.Is(err, errGone) {
			t.Errorf("a lane after one connection at %d: %v", at, err)
		}
	}
}
