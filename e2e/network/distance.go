package network

import (
	"bytes"
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// distanceWindow is how many bytes of one connection are on the way at a time, in either direction:
// what Linux lets a sender have unacknowledged (the largest of net.ipv4.tcp_wmem). It is what makes
// one connection slow over a long way.
const distanceWindow = 4 << 20

// Distance forwards connections from addr to target as if a round trip between them took roundTrip:
// each byte arrives half of it later, a connection is made after all of it, and at most
// distanceWindow bytes are on the way. There are no losses and no slow start. It ends with ctx;
// stop waits for that.
func Distance(ctx context.Context, addr, target string, roundTrip time.Duration) (stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { _ = l.Close() })
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { distant(ctx, c, target, roundTrip) })
		}
	})
	return func() {
		cancel()
		running.Wait()
	}, nil
}

// distant forwards one connection until both of its directions have ended.
func distant(ctx context.Context, near net.Conn, target string, roundTrip time.Duration) {
	defer func() { _ = near.Close() }()
	sleep(ctx, roundTrip)
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	defer context.AfterFunc(ctx, func() {
		_ = near.Close()
		_ = far.Close()
	})()
	var both sync.WaitGroup
	both.Go(func() { carry(ctx, far, near, roundTrip) })
	both.Go(func() { carry(ctx, near, far, roundTrip) })
	both.Wait()
}

// piece is what was read at once.
type piece struct {
	bytes []byte
	read  time.Time
}

// carry forwards one direction. Its end arrives as late as its bytes. A connection that broke is
// closed.
func carry(ctx context.Context, to, from net.Conn, roundTrip time.Duration) {
	const size = 64 << 10
	window := semaphore.NewWeighted(distanceWindow)
	pieces := make(chan piece, 4096)
	buf := make([]byte, size)
	var both sync.WaitGroup
	both.Go(func() {
		defer func() { _ = closeWrite(to) }()
		for p := range pieces {
			sleep(ctx, time.Until(p.read.Add(roundTrip/2)))
			if _, err := to.Write(p.bytes); err != nil {
				_ = from.Close()
			}
			time.AfterFunc(roundTrip/2, func() { window.Release(int64(len(p.bytes))) })
		}
	})
	for window.Acquire(ctx, size) == nil {
		n, err := from.Read(buf)
		window.Release(int64(size - n))
		if n > 0 {
			pieces <- piece{bytes.Clone(buf[:n]), time.Now()}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	both.Wait()
}

// closeWrite ends one direction of a connection.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// sleep returns after d, or when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
