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

// ErrSpool is returned when what a backup wrote while it held locks does not fit on the
// donor's volume.
var ErrSpool = errors.New("the joiner is too slow for what the backup writes under locks")

const (
	// partSize is how much one file of a spool holds. A file goes as soon as it was read.
	partSize = 4 << 20
	// leavePart is the part of a volume, one in so many bytes, that stays free at most for
	// --min-free.
	leavePart = 10
	// spoolWatch is how often the volume is looked at while bytes wait on it.
	spoolWatch = time.Second
)

// budget is what all spools of a donor may have on its volume at the same time. It asks
// what is free now, for the server writes to the volume, too.
type budget struct {
	free  func() (volume.Space, error)
	leave int64 // bytes that have to stay free, see Donor.MinFree

	mu      sync.Mutex
	waiting int64
}

// take makes room for n bytes, or fails: less than leave would be free, or less than waits.
func (b *budget) take(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.check(n); err != nil {
		return err
	}
	b.waiting += n
	return nil
}

// give takes back what was taken, once it is off the volume.
func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting -= n
}

// holds fails when what is left on the volume does not bear what waits there any more.
func (b *budget) holds() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.check(0)
}

// check needs b.mu.
func (b *budget) check(n int64) error {
	space, err := b.free()
	if err != nil {
		return err // a look that failed has found no room
	}
	// Of a small volume --min-free may be more than it ever has: then a part of it stays free.
	leave := min(b.leave, space.Size/leavePart)
	if left, least := space.Bytes-n, max(leave, b.waiting+n); left < least {
		return fmt.Errorf("%s wait on the donor's volume, of which %s are free and %s have to stay free (as much as waits there, and no less than --min-free or a tenth of the volume): enlarge the volume, or free space on it",
			sizeUp(b.waiting), sizeDown(space.Bytes), sizeUp(least))
	}
	return nil
}

// spool stands between a backup tool and the network. At first a Read takes the tool's
// bytes as they come, so that a slow network slows the tool down. From divert on, the
// tool writes to the donor's volume as fast as it can, whatever the network does, and Read
// follows. What was read is off the volume again. After undivert a Read takes the tool's
// bytes as they come once more, as soon as it has caught up.
type spool struct {
	source io.Reader
	dir    string
	budget *budget
	// failed is told why the volume cannot take more. The tool has to be stopped then.
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
	end      error   // of source, once it has ended
}

// part is a file without a name: it goes with its descriptor, also with a process that is killed.
type part struct {
	file        *os.File
	wrote, read int64
}

// newSpool writes to the directory dir.
func newSpool(source io.Reader, dir string, b *budget, failed func(error)) *spool {
	s := &spool{source: source, dir: dir, budget: b, failed: failed, closed: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	return s
}

// divert lets the tool write to the volume from now on. It may be called again.
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
	s.taking.Lock()   // a Read that waits for the tool gets what it waits for, and is the last one
	s.taking.Unlock() //nolint:staticcheck // nothing is to be done meanwhile
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

// watch gives the backup up when others, as the server, have filled the volume meanwhile.
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

// last is the part that can take more.
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

// Read gives the source's bytes in their order.
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

// next waits for bytes, and says how many of a part can be read now: none once the source is
// Read's, or with an error.
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

// drop lets go of the oldest part.
func (s *spool) drop() error {
	s.mu.Lock()
	p := s.parts[0]
	s.parts = s.parts[1:]
	s.mu.Unlock()
	err := p.file.Close()
	s.budget.give(p.wrote)
	return err
}

// direct reads from the source; it is not ok while the source belongs to drain, or parts are to be
// read first.
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

// close waits for the end of the source, which must be near, and lets go of what waits on
// the volume. Nobody may Read any more.
func (s *spool) close() error {
	close(s.closed)
	s.drained.Wait()
	var err error
	for len(s.parts) > 0 {
		err = errors.Join(err, s.drop())
	}
	return err
}
