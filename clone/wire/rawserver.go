package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

var (
	errRawBusy = errors.New("another raw clone is being given")
	errRawLeft = errors.New("the client left")
)

// ServeRaw gives a raw stream to a client of the Kubernetes tutorial, one at a time,
// beside the slots of the others, and closes the connection.
//
// Such a client only sees how the connection ends: it is closed when the tool has ended well, and
// reset after any error.
func (s *Server) ServeRaw(conn net.Conn) {
	log := s.Log.With("remote", conn.RemoteAddr().String())
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if err := s.takeRaw(cancel); err != nil {
		log.Info("raw clone refused", "reason", err)
		reset(conn)
		return
	}
	log.Warn("raw clone started: its client has proved nothing, and cannot see whether it is whole")
	begun := time.Now()
	bytes, err := s.giveRaw(ctx, conn)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	took := time.Since(begun)
	if err != nil {
		reset(conn)
		log.Warn("raw clone cut off", "bytes", bytes, "error", err)
	} else {
		_ = conn.Close()
		log.Info("raw clone given", "bytes", bytes, "seconds", took.Seconds())
	}
	if bytes > 0 {
		s.Observe(Outcome{Member: conn.RemoteAddr().String(), Bytes: bytes, Took: took, Err: err})
	}
	s.mu.Lock()
	s.raw = nil
	s.mu.Unlock()
	s.streamWG.Done()
}

// takeRaw takes the raw slot. cancel ends the clone.
func (s *Server) takeRaw(cancel context.CancelCauseFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return errDraining
	case s.raw != nil:
		return errRawBusy
	}
	s.raw = cancel
	s.streamWG.Add(1)
	return nil
}

// giveRaw sends one backup. Without an error all of it was sent, and the client has closed or still
// reads from the kernel's buffer.
func (s *Server) giveRaw(ctx context.Context, conn net.Conn) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A client that leaves is noticed even while the tool is silent. A client that only closes its
	// own direction has not left.
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, err := io.Copy(io.Discard, conn)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel(fmt.Errorf("%w: %w", errRawLeft, err))
		}
	}()
	defer func() { // the reader ends before this function does
		_ = conn.SetReadDeadline(time.Now())
		<-left
	}()
	// Ending the clone must not wait for a client that takes no more bytes.
	defer context.AfterFunc(ctx, func() { reset(conn) })()
	backup, err := s.donor.Backup(ctx, Ask{StreamID: newStreamID()})
	if err != nil {
		return 0, err
	}
	bytes, err := s.copyRaw(ctx, conn, backup.Stream)
	err = errors.Join(err, backup.Finish())
	switch {
	case err == nil && bytes == 0:
		err = errors.New("the tool wrote nothing")
	case err == nil:
		err = s.endRaw(conn, left)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = errors.Join(cause, err)
	}
	return bytes, err
}

// copyRaw sends the tool's bytes as they come.
func (s *Server) copyRaw(ctx context.Context, conn net.Conn, from io.Reader) (sent int64, err error) {
	buf := make([]byte, readSize)
	for {
		n, readErr := from.Read(buf)
		if n > 0 {
			err := s.Throttle.wait(ctx, n)
			if err == nil {
				err = conn.SetWriteDeadline(time.Now().Add(s.Stall))
			}
			if err == nil {
				_, err = conn.Write(buf[:n])
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = fmt.Errorf("the client took no byte for %v: %w", s.Stall, err)
			}
			if err != nil {
				return sent, err
			}
			sent += int64(n)
		}
		if errors.Is(readErr, io.EOF) {
			return sent, nil
		}
		if readErr != nil {
			return sent, readErr
		}
	}
}

// endRaw closes our direction and waits for the client to close. The kernel sends what is left.
func (s *Server) endRaw(conn net.Conn, left <-chan struct{}) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return nil
	}
	if err := half.CloseWrite(); err != nil {
		return fmt.Errorf("end the raw stream: %w", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(s.Stall)); err != nil {
		return fmt.Errorf("end the raw stream: %w", err)
	}
	<-left
	return nil
}
