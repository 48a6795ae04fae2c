package clone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"understudy/clone/volume"
)

// ErrSpool is returned when the donor's volume has no room for what a backup writes while it holds
// locks.
var ErrSpool = errors.New("the joiner is too slow for what the backup writes under locks")

const (
	// partSize is the size of one file of a spool. A file is removed as soon as it has been read.
	partSize = 4 << 20
	// leavePart bounds --min-free on a small volume: at most one byte in leavePart stays free.
	leavePart = 10
	// spoolWatch is the interval of looks at the volume while bytes wait on it.
	spoolWatch = time.Second
)

// budget bounds what all spools of a donor have on its volume together. It asks for the current
// free space, because the server writes to the volume, too.
type budget struct {
	free  func() (volume.Space, error)
	leave int64 // bytes that stay free, see Donor.MinFree

	mu      sync.Mutex
	waiting int64
}

// take reserves n bytes. It fails when less than leave, or less than what waits, would stay free.
func (b *budget) take(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.check(n); err != nil {
		return err
	}
	b.waiting += n
	return nil
}

// give returns a reservation once the bytes are off the volume.
func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting -= n
}

// holds fails when the free space is no longer enough for what waits there.
func (b *budget) holds() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.check(0)
}

// check needs b.mu.
func (b *budget) check(n int64) error {
	space, err := b.free()
	if err != nil {
		return err // an unknown size counts as full
	}
	// On a small volume --min-free may exceed what is ever free, so only a part of the volume stays
	// free.
	leave := min(b.leave, space.Size/leavePart)
	if left, least := space.Bytes-n, max(leave, b.waiting+n); left < least {
		return fmt.Errorf("%s wait on the donor's volume, of which %s are free and %s have to stay free (as much as waits there, and no less than --min-free or a tenth of the volume): enlarge the volume, or free space on it",
			sizeUp(b.waiting), sizeDown(space.Bytes), sizeUp(least))
	}
	return nil
}

// spool stands between a backup tool and the network. At first Read passes the tool's bytes on, so
// a slow network slows the tool down. After divert, the tool writes to the donor's volume at full
// speed and Read follows. What has been read is removed from the volume.
type spool struct {
	source io.Reader
	dir    string
	budget *budget
	// failed is called with the reason when the volume cannot take more. The tool has to be stopped
	// then.
	failed func(error)

	taking  sync.Mutex // held by whoever reads source
	once    sync.Once
	drained sync.WaitGroup
	closed  chan struct{}

	mu       sync.Mutex
	more     *sync.Cond
	diverted bool
	back     bool    // undivert was called since
	parts    []*part // the oldest first; only drain adds, only Read removes
	end      error   // how source ended; nil before
}

// part is a file without a name: it disappears with its descriptor, also when the process is
// killed.
type part struct {
	file        *os.File
	wrote, read int64
}

// newSpool makes a spool in the directory dir.
func newSpool(source io.Reader, dir string, b *budget, failed func(error)) *spool {
	s := &spool{source: source, dir: dir, budget: b, failed: failed, closed: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	return s
}

// divert lets the tool write to the volume from now on. It may be called more than once.
func (s *spool) divert() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back = false
	if s.diverted {
		return
	}
	s.diverted = true
	s.drained.Go(s.drain)
	s.once.Do(func() { s.drained.Go(s.watch) })
}

// undivert lets the tool wait for the network again. It may be called at any time.
func (s *spool) undivert() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back = true
}

// returns says whether the source belongs to Read again.
func (s *spool) returns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back {
		s.diverted = false
		s.more.Broadcast()
	}
	return s.back
}

// drain moves the source to the volume until its end, or until undivert.
func (s *spool) drain() {
	s.taking.Lock()   // the last direct Read finishes first
	s.taking.Unlock() //nolint:staticcheck // the lock only waits for that Read
	var err error
	for buf := make([]byte, 256<<10); err == nil; {
		if s.returns() {
			return
		}
		var n int
		n, err = s.source.Read(buf)
		if appendErr := s.append(buf[:n]); appendErr != nil {
			err = appendErr
		}
	}
	if !errors.Is(err, io.EOF) {
		s.failed(err)
	}
	s.mu.Lock()
	s.end = err
	s.mu.Unlock()
	s.more.Broadcast()
}

// watch stops the backup when others, such as the server, have filled the volume.
func (s *spool) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer every(ctx, spoolWatch, func() {
		s.mu.Lock()
		waits := len(s.parts) > 0
		s.mu.Unlock()
		if !waits {
			return
		}
		if err := s.budget.holds(); err != nil {
			s.failed(fmt.Errorf("%w: %w", ErrSpool, err))
		}
	})()
	<-s.closed
}

func (s *spool) append(b []byte) error {
	for len(b) > 0 {
		p, err := s.last()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrSpool, err)
		}
		piece := b[:min(int64(len(b)), partSize-p.wrote)]
		if err := s.budget.take(int64(len(piece))); err != nil {
			return fmt.Errorf("%w: %w", ErrSpool, err)
		}
		if _, err := p.file.WriteAt(piece, p.wrote); err != nil {
			s.budget.give(int64(len(piece)))
			return fmt.Errorf("%w: %w", ErrSpool, err)
		}
		s.mu.Lock()
		p.wrote += int64(len(piece))
		s.mu.Unlock()
		s.more.Broadcast()
		b = b[len(piece):]
	}
	return nil
}

// last is the newest part, if it has room.
func (s *spool) last() (*part, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.parts); n > 0 && s.parts[n-1].wrote < partSize {
		return s.parts[n-1], nil
	}
	file, err := os.OpenFile(filepath.Join(s.dir, "spool"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	p := &part{file: file}
	s.parts = append(s.parts, p)
	return p, nil
}

// Read returns the source's bytes in order.
func (s *spool) Read(b []byte) (int, error) {
	var p *part
	var n int64
	for n == 0 {
		if n, err, ok := s.direct(b); ok {
			return n, err
		}
		var err error
		if p, n, err = s.next(int64(len(b))); err != nil {
			return 0, err
		}
	}
	got, err := p.file.ReadAt(b[:n], p.read)
	p.read += int64(got)
	if err == nil && p.read == partSize {
		err = s.drop()
	}
	if err != nil {
		return got, fmt.Errorf("read the spool: %w", err)
	}
	return got, nil
}

// next waits for bytes, and returns how many of a part can be read; 0 at the end.
func (s *spool) next(limit int64) (p *part, n int64, end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if len(s.parts) > 0 {
			p = s.parts[0]
			if n = min(limit, p.wrote-p.read); n > 0 {
				return p, n, nil
			}
		}
		if s.end != nil {
			return nil, 0, s.end
		}
		if !s.diverted {
			return nil, 0, s.dropLast()
		}
		s.more.Wait()
	}
}

// dropLast lets go of the part that was read, and will not be filled. It needs s.mu.
func (s *spool) dropLast() error {
	if len(s.parts) == 0 {
		return nil
	}
	p := s.parts[0]
	s.parts = nil
	s.budget.give(p.wrote)
	return p.file.Close()
}

// drop removes the oldest part.
func (s *spool) drop() error {
	s.mu.Lock()
	p := s.parts[0]
	s.parts = s.parts[1:]
	s.mu.Unlock()
	err := p.file.Close()
	s.budget.give(p.wrote)
	return err
}

// direct reads from the source. ok is false after divert.
func (s *spool) direct(p []byte) (n int, err error, ok bool) { //nolint:revive // the error is the source's
	s.taking.Lock()
	defer s.taking.Unlock()
	s.mu.Lock()
	diverted := s.diverted || len(s.parts) > 0
	s.mu.Unlock()
	if diverted {
		return 0, nil, false
	}
	n, err = s.source.Read(p)
	return n, err, true
}

// close waits for the end of the source, which must be near, and removes what waits on the volume.
// Read must not be called afterwards.
func (s *spool) close() error {
	close(s.closed)
	s.drained.Wait()
	var err error
	for len(s.parts) > 0 {
		err = errors.Join(err, s.drop())
	}
	return err
}
