package wire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// readSize is how much is taken from a tool, and sent, at a time.
	readSize = 256 << 10
	// aheadSize is how far a backup may run ahead of the network.
	aheadSize = 12 << 20
	// keepSlack is what the replay buffer holds beyond both kernels' socket buffers: what lies in
	// the two programs.
	keepSlack = 2 << 20
	// minKeep and maxKeep bound the replay buffer: whatever the kernels say, memory stays flat.
	minKeep = 8 << 20
	maxKeep = 48 << 20
	// zstdWindow is how far back a donor's encoder looks, and zstdMaxWindow what a joiner's decoder
	// has memory for.
	zstdWindow    = 1 << 20
	zstdMaxWindow = 8 << 20
	// promptSize is how much of the beginning of a stream leaves at once, whatever the encoding
	// would rather gather: the first bytes may be all for hours, and a joiner that has none is
	// told that it waits, and cannot come back.
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

// encode moves the stream, and shows each piece of it to see.
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
		zstd.WithEncoderCRC(false)) // it would be the trailer's digest once more: xxh64 of the same bytes
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
