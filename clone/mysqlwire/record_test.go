//go:build record

package mysqlwire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// TestRecord writes testdata: go test -tags=record -run TestRecord ./clone/mysqlwire
func TestRecord(t *testing.T) {
	s, a := startServer(t)
	execute(t, s.DB(), "CREATE DATABASE shop", "CREATE TABLE shop.holes (id INT PRIMARY KEY) COMPRESSION='zlib'")
	through, first := listenThrough(t, a.Address)
	a.Address = through
	c, err := Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	dropped := false
	sink := newCounter(func(at string) error {
		if at == "block of file copy" && !dropped {
			dropped = true
			execute(t, s.DB(), "RENAME TABLE shop.holes TO shop.more", "CREATE TABLE shop.made (id INT PRIMARY KEY)", "DROP TABLE shop.made", "INSERT INTO shop.more VALUES (1)")
		}
		return nil
	})
	if err := errors.Join(c.Run(t.Context(), 1, sink), c.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	var kept bytes.Buffer
	messages := newConn(discardConn{Reader: first()}, time.Minute)
	for {
		message, err := messages.read(maxMessage)
		if err != nil {
			break
		}
		if message[0] == answerData {
			continue // what a file holds is nobody's business
		}
		n := len(message)
		kept.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), 0}) //nolint:gosec // the bytes of a length
		kept.Write(message)
	}
	if err := os.WriteFile("testdata/mysql-9.7.4", kept.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// listenThrough passes connections on to a server, and keeps what it says over the first one.
func listenThrough(t *testing.T, to string) (addr string, first func() io.Reader) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	var kept bytes.Buffer
	go func() {
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", to)
			if err != nil {
				return
			}
			var tee io.Writer = client
			if n == 0 {
				tee = io.MultiWriter(client, writerFunc(func(p []byte) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					return kept.Write(p)
				}))
			}
			go func() { _, _ = io.Copy(tee, server); _ = client.Close() }()
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
		}
	}()
	return l.Addr().String(), func() io.Reader {
		mu.Lock()
		defer mu.Unlock()
		return bytes.NewReader(bytes.Clone(kept.Bytes()))
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
