package wire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// readSize is how many bytes are read from a tool, and sent, at a time.
	readSize = 256 << 10
	// aheadSize is how far a backup may run ahead of the network.
	aheadSize = 12 << 20
	// keepSlack is what the replay buffer holds beyond both kernels' socket buffers: the buffers of
	// the two programs.
	keepSlack = 2 << 20
	// minKeep and maxKeep bound the replay buffer, so memory stays flat whatever the socket buffers
	// are.
	minKeep = 8 << 20
	maxKeep = 48 << 20
	// zstdWindow is the donor's window, zstdMaxWindow the largest that a joiner accepts.
	zstdWindow    = 1 << 20
	zstdMaxWindow = 8 << 20
	// promptSize is how much of the beginning of a stream is sent at once, even if the encoder
	// would wait for more. No other bytes may follow for hours, and until its first byte a joiner
	// waits for a donor and cannot resume.
	promptSize = 64 << 10
)

// pump brings the backup's bytes into ring until the backup ends, and finishes it.
func (o *outgoing) pump(ctx context.Context, ring *replay) {
	defer close(o.pumped)
	digest := newDigest()
	err := o.encode(ctx, ring, func(p []byte) {
		_, _ = digest.Write(p) // never fails, see hash.Hash
		o.mu.Lock()
		o.raw += int64(len(p))
		o.mu.Unlock()
	})
	err = errors.Join(err, o.backup.Finish())
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	o.mu.Lock()
	o.err, o.digest = err, digestString(digest)
	o.mu.Unlock()
	ring.end()
}

// encode moves the stream into the ring and calls see with each piece.
func (o *outgoing) encode(ctx context.Context, ring *replay, see func([]byte)) error {
	space := func(limit int) ([]byte, error) { return ring.space(ctx, limit) }
	if o.encoding == Zstd {
		return compress(replayWriter{space, ring}, o.backup.Stream, see)
	}
	for {
		p, err := space(readSize)
		if err != nil {
			return err
		}
		n, err := o.backup.Stream.Read(p)
		see(p[:n])
		ring.commit(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func compress(to io.Writer, from io.Reader, see func([]byte)) error {
	z, err := zstd.NewWriter(to, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2), zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderCRC(false)) // the trailer's digest is the same xxh64 of the same bytes
	if err != nil {
		return fmt.Errorf("start zstd: %w", err)
	}
	buf := make([]byte, readSize)
	total := int64(0)
	for {
		n, err := from.Read(buf)
		see(buf[:n])
		if _, err := z.Write(buf[:n]); err != nil {
			return errors.Join(err, z.Close())
		}
		if total += int64(n); n > 0 && total <= promptSize && err == nil {
			if err := z.Flush(); err != nil {
				return errors.Join(err, z.Close())
			}
		}
		if errors.Is(err, io.EOF) {
			return z.Close()
		}
		if err != nil {
			return errors.Join(err, z.Close())
		}
	}
}
