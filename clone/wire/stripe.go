package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

const (
	// stripeSize is the length of each stripe but the last one, which may be shorter.
	stripeSize = 1 << 20
	// frameSize is the length of what stands before a stripe: its position in the encoded stream
	// (8 bytes), its length (4), and the XXH64 of its bytes (8), all big endian.
	frameSize = 20
	// MaxConnections is how many connections can carry a clone.
	MaxConnections = 8
	// noLane is the lane of a connection that carries the whole stream.
	noLane = -1

	// contentTypeLane is the type of one lane of a stream.
	contentTypeLane = "application/vnd.understudy.stripes"
)

// errStripe is returned for a stripe that is not the one that is due. It ends the clone: the donor
// sends something else than it says.
var errStripe = errors.New("not the stripe that is due")

// stripe is a part of the encoded stream, where it lies in a ring.
type stripe struct {
	at    int64
	bytes [2][]byte // the second one is not empty where the ring's end divides the stripe
}

func (s stripe) size() int { return len(s.bytes[0]) + len(s.bytes[1]) }

// frame is what stands before the stripe.
func (s stripe) frame() []byte {
	digest := xxhash.New()
	_, _ = digest.Write(s.bytes[0]) // never fails, see hash.Hash
	_, _ = digest.Write(s.bytes[1])
	b := binary.BigEndian.AppendUint64(make([]byte, 0, frameSize), uint64(s.at)) //nolint:gosec // not negative
	b = binary.BigEndian.AppendUint32(b, uint32(s.size()))                       //nolint:gosec // at most stripeSize
	return binary.BigEndian.AppendUint64(b, digest.Sum64())
}

// readFrame checks a frame before the stripe at a position, and returns the length and the digest of
// the stripe.
func readFrame(b []byte, at int64) (n int, digest uint64, err error) {
	there, length := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
	if there != uint64(at) || length == 0 || length > stripeSize { //nolint:gosec // not negative
		return 0, 0, fmt.Errorf("%w: %d bytes at %d instead of those at %d", errStripe, length, there, at)
	}
	return int(length), binary.BigEndian.Uint64(b[12:]), nil
}

// askedConnections reads how many connections a joiner asks for; at least 1, at most MaxConnections.
func askedConnections(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 1
	}
	return max(1, min(n, MaxConnections))
}

// grantedConnections reads how many connections the donor grants that was asked for so many; 1 of
// earlier versions.
func grantedConnections(text string, asked int) (int, error) {
	if text == "" {
		return 1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 2 || n > asked {
		return 0, fmt.Errorf("the donor grants %q connections, %d were asked for", text, asked)
	}
	return n, nil
}
