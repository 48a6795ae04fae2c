package xbstream

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// Check reads a stream and holds it to all that Extract asks for, but writes nothing: it is for a
// stream that is saved as it is. What is inside compressed files is not looked at, unless
// Options.Capture wants one; their chunks are. The errors are those of Extract. A run ends soon
// after ctx does only if r does not block: see Extract.
func Check(ctx context.Context, r io.Reader, opts Options) (Summary, error) {
	in := newIntake(r, opts)
	in.taker = &checker{in: in}
	err := in.run(ctx)
	return in.result(err), withCause(ctx, err)
}

// checker is the taker of Check.
type checker struct{ in *intake }

func (*checker) mkdir(string) error { return nil }

func (*checker) begin(*member) error { return nil }

func (k *checker) payload(_ context.Context, m *member, c Chunk) error {
	if m.kept == nil {
		return k.in.r.discard()
	}
	buf := make([]byte, min(c.Length, maxCapture))
	return pieces(c, int64(len(buf)), func(offset, n int64) error {
		if _, err := io.ReadFull(k.in.r, buf[:n]); err != nil {
			return err
		}
		if err := m.kept.writeAt(buf[:n], offset); err != nil {
			return corrupt(c, err.Error())
		}
		return nil
	})
}

func (k *checker) end(_ context.Context, m *member) error {
	if m.kept == nil {
		return nil
	}
	if m.codec == plain {
		if err := m.kept.grow(m.extents.size); err != nil {
			return m.corrupt(-1, err.Error())
		}
		return nil
	}
	unpacked := new(capture)
	reason, err := m.codec.inflate(unpacked, bytes.NewReader(m.kept.content))
	if errors.Is(err, errCapture) {
		reason, err = err.Error(), nil
	}
	if reason != "" {
		return m.corrupt(-1, reason)
	}
	m.kept = unpacked
	return err
}
