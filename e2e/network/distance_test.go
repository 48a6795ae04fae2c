package network

import (
	"io"
	"net"
	"testing"
	"time"
)

// A byte takes half a round trip each way, a connection a whole one, and no more than the window
// arrives in each round trip.
func TestDistance(t *testing.T) {
	const roundTrip = 100 * time.Millisecond
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	sent := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.CopyN(c, c, 1)
		}
		if err == nil {
			_, err = c.Write(make([]byte, 3*distanceWindow))
			_ = c.Close()
		}
		sent <- err
	}()
	const addr = "127.83.0.1:4101"
	stop, err := Distance(t.Context(), addr, l.Addr().String(), roundTrip)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	begun := time.Now()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	one := make([]byte, 1)
	if _, err := c.Write(one); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, one); err != nil || time.Since(begun) < 2*roundTrip {
		t.Errorf("an echo after %v, %v", time.Since(begun), err)
	}
	begun = time.Now()
	n, err := io.Copy(io.Discard, c)
	if took := time.Since(begun); err != nil || n != 3*distanceWindow || took < 2*roundTrip {
		t.Errorf("%d bytes in %v, %v", n, took, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
