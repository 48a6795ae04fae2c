package clone

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// ErrSpool is returned when what a backup wrote while it held locks does not fit on the
// donor's volume.
var ErrSpool = errors.New("the joiner is too slow for what the backup writes under locks")

// spool stands between a backup tool and the network. At first a Read takes the tool's
// bytes as they come, so that a slow network slows the tool down. From divert on, the
// tool writes to a file as fast as it can, whatever the network does, and Read follows.
type spool struct {
	source io.Reader
	path   string
	limit  int64
	// failed is told why the file cannot take more. The tool has to be stopped then.
	failed func(error)

	taking  sync.Mutex // held by whoever reads source
	once    sync.Once
	drained sync.WaitGroup

	mu       sync.Mutex
	more     *sync.Cond
	diverted bool
	file     *os.File
	wrote    int64
	read     int64
	end      error // of source, once it has ended
}

func newSpool(source io.Reader, path string, limit int64, failed func(error)) *spool {
	s := &spool{source: source, path: path, limit: limit, failed: failed}
	s.more = sync.NewCond(&s.mu)
	return s
}

// divert lets the tool write to the file from now on. It may be called again.
func (s *spool) divert() {
	s.once.Do(func() {
		s.mu.Lock()
		s.diverted = true
		s.mu.Unlock()
		s.drained.Go(s.drain)
	})
}

// drain moves the source into the file until its end.
func (s *spool) drain() {
	s.taking.Lock()   // a Read that waits for the tool gets what it waits for, and is the last one
	s.taking.Unlock() //nolint:staticcheck // nothing is to be done meanwhile
	file, err := os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	s.mu.Lock()
	s.file = file
	s.mu.Unlock()
	buf := make([]byte, 256<<10)
	for err == nil {
		var n int
		n, err = s.source.Read(buf)
		if n > 0 {
			if writeErr := s.append(buf[:n]); writeErr != nil {
				err = writeErr
			}
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

func (s *spool) append(p []byte) error {
	if s.wrote+int64(len(p)) > s.limit {
		return fmt.Errorf("%w: %d MiB are waiting on the donor's volume, which has room for no more", ErrSpool, s.wrote>>20)
	}
	if _, err := s.file.WriteAt(p, s.wrote); err != nil {
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
	s.mu.Lock()
	s.wrote += int64(len(p))
	s.mu.Unlock()
	s.more.Broadcast()
	return nil
}

// Read gives the source's bytes in their order.
func (s *spool) Read(p []byte) (int, error) {
	if n, err, ok := s.direct(p); ok {
		return n, err
	}
	s.mu.Lock()
	for s.read == s.wrote && s.end == nil {
		s.more.Wait()
	}
	n, end := min(int64(len(p)), s.wrote-s.read), s.end
	s.mu.Unlock()
	if n == 0 {
		return 0, end
	}
	got, err := s.file.ReadAt(p[:n], s.read)
	s.read += int64(got)
	if err != nil {
		return got, fmt.Errorf("read the spool: %w", err)
	}
	return got, nil
}

// direct reads from the source; it is not ok once the source belongs to drain.
func (s *spool) direct(p []byte) (n int, err error, ok bool) { //nolint:revive // the error is the source's
	s.taking.Lock()
	defer s.taking.Unlock()
	s.mu.Lock()
	diverted := s.diverted
	s.mu.Unlock()
	if diverted {
		return 0, nil, false
	}
	n, err = s.source.Read(p)
	return n, err, true
}

// close waits for the end of the source, which must be near, and lets go of the file,
// which is the caller's to remove.
func (s *spool) close() error {
	s.drained.Wait()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
