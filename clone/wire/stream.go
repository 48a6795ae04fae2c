package wire

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// Stream is an arriving clone. Read it to the end, then call Finish; Close it in any case.
type Stream struct {
	Header Header

	client *Client
	cancel context.CancelFunc
	leave  func() // tells the donor that the stream is no longer needed
	body   *resuming
	raw    io.Reader // the xbstream, decoded
	stop   func()    // of the decoder
	digest hash.Hash
	bytes  int64
	ended  bool
	whole  bool
}

// Result describes a stream that arrived whole.
type Result struct {
	// Bytes is the length of the raw xbstream.
	Bytes int64
	// Digest is "xxh64:" and the digest in hex.
	Digest string
}

// decode undoes the encoding. stop frees the decoder.
func decode(e Encoding, from io.Reader) (r io.Reader, stop func(), err error) {
	if e != Zstd {
		return from, func() {}, nil
	}
	z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdMaxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, func() {}, fmt.Errorf("start zstd: %w", err)
	}
	return z, z.Close, nil
}

// Read returns the raw xbstream. It resumes after a broken connection; a stream that cannot resume
// is ErrIncomplete.
func (s *Stream) Read(p []byte) (int, error) {
	n, err := s.raw.Read(p)
	if n > 0 {
		_, _ = s.digest.Write(p[:n]) // never fails, see hash.Hash
		s.bytes += int64(n)
	}
	switch {
	case errors.Is(err, io.EOF):
		s.ended = true
	case err != nil && !errors.Is(err, ErrIncomplete):
		err = fmt.Errorf("%w: after %d bytes of %s: %w", ErrIncomplete, s.bytes, s.client.Addr(), err)
	}
	return n, err
}

// Bytes is how many bytes of the xbstream have arrived.
func (s *Stream) Bytes() int64 { return s.bytes }

// Resumed is how often the stream continued on a new connection. It may be called from any
// goroutine.
func (s *Stream) Resumed() int64 { return s.body.resumed.Load() }

// Finish reads the rest and checks the trailers. The stream is whole only if Finish returns no
// error.
func (s *Stream) Finish() (Result, error) {
	if !s.ended {
		if _, err := io.Copy(io.Discard, struct{ io.Reader }{s}); err != nil {
			return Result{}, err
		}
	}
	// A decoder may end before its source does.
	if rest, err := io.Copy(io.Discard, s.body); err != nil || rest > 0 {
		return Result{}, errors.Join(fmt.Errorf("%w: %d bytes came after the end", ErrIncomplete, rest), err)
	}
	if err := s.Failure(); err != nil {
		return Result{}, err
	}
	if s.Header.Raw {
		return Result{Bytes: s.bytes, Digest: digestString(s.digest)}, nil
	}
	addr, t := s.client.Addr(), s.body.res.Trailer
	if t.Get(trailerStatus) == "" {
		return Result{}, fmt.Errorf("%w: %s sent no trailers", ErrIncomplete, addr)
	}
	if got := strconv.FormatInt(s.bytes, 10); got != t.Get(trailerBytes) {
		return Result{}, fmt.Errorf("%w: %s bytes arrived, %s says it sent %s", ErrIncomplete, got, addr, t.Get(trailerBytes))
	}
	r := Result{Bytes: s.bytes, Digest: digestString(s.digest)}
	if r.Digest != t.Get(trailerDigest) {
		return Result{}, fmt.Errorf("%w: digest %s, %s says %s", ErrDigest, r.Digest, addr, t.Get(trailerDigest))
	}
	s.whole = true
	return r, nil
}

// Failure is the donor's error, which it sends at the end of the stream; nil if it sent none.
func (s *Stream) Failure() error {
	switch t := s.body.res.Trailer; t.Get(trailerStatus) {
	case "", "0":
		return nil
	default:
		return fmt.Errorf("%w: the backup at %s failed: %s", ErrIncomplete, s.client.Addr(), t.Get(trailerError))
	}
}

// Close ends the stream and tells the donor. The donor then stops the backup and frees the bytes
// that it kept for a new connection.
func (s *Stream) Close() error {
	s.body.reports.stop()
	err := s.body.res.Body.Close()
	s.cancel()
	s.stop()
	if !s.body.gone {
		s.leave()
	}
	return err
}
