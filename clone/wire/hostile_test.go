package wire

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// Whoever never comes to the end of a request is cut off, gets no data and starts no
// backup, in the clear and within TLS.
func TestSlowLoris(t *testing.T) {
	for _, tr := range transports {
		for name, begin := range map[string]string{
			"a handshake": "\x16\x03\x01\x02\x00\x01", "a request": "GET " + pathClone + " HTTP/1.1\r\n",
			"headers": "GET " + pathClone + " HTTP/1.1\r\n" + headerMember + ": db-1\r\nX: ",
		} {
			t.Run(tr.name+"/"+name, func(t *testing.T) {
				ts := newTapes(t, whole(rawStream))
				r := startOn(t, listen(t), newServer(ts.donor(), ServerConfig{}), tr.server(identity(t, 'a')), func(s *http.Server) {
					s.ReadHeaderTimeout = 100 * time.Millisecond
				})
				c := connect(t, r.addr)
				if _, err := io.WriteString(c, begin); err != nil {
					t.Fatal(err)
				}
				dripping := inBackground(func() error {
					for {
						if _, err := c.Write([]byte{'x'}); err != nil {
							return err
						}
						time.Sleep(time.Millisecond) // this is what is tested
					}
				})
				got, err := io.ReadAll(c)
				if errors.Is(err, os.ErrDeadlineExceeded) || bytes.Contains(got, rawStream[:8]) {
					t.Errorf("%q, %v", got, err)
				}
				_ = c.Close()
				_ = within(t, "the end", soon, dripping)
				if n := len(ts.more); n > 0 {
					t.Errorf("%d backups were made", n)
				}
			})
		}
	}
}

// Headers beyond all measure are refused while they come.
func TestOversizedHeaders(t *testing.T) {
	ts := newTapes(t, whole(rawStream))
	r := start(t, ts.donor(), ServerConfig{}, nil)
	c := connect(t, r.addr)
	begin := "GET " + pathClone + " HTTP/1.1\r\n" + headerMember + ": db-1\r\nX: "
	sending := inBackground(func() error {
		_, err := c.Write(append([]byte(begin), bytes.Repeat([]byte{'x'}, 64<<20)...))
		return err
	})
	answer := make([]byte, 12)
	if _, err := io.ReadFull(c, answer); err == nil && !strings.HasPrefix(string(answer), "HTTP/1.1 431") {
		t.Errorf("%q", answer)
	}
	if err := within(t, "the end", soon, sending); err == nil {
		t.Error("all of it was taken")
	}
	if n := len(ts.more); n > 0 {
		t.Errorf("%d backups were made", n)
	}
}

// A stream's id opens nothing any more once the stream has been ended.
func TestReplayedID(t *testing.T) {
	r := start(t, newTapes(t, whole(rawStream)).donor(), ServerConfig{}, nil)
	c := client(t, r.addr, "db-1", nil)
	s := open(t, c)
	if _, err := s.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	res, err := c.open(t.Context(), pathClone+"/"+s.Header.StreamID, http.Header{headerOffset: {"0"}})
	if !errors.Is(err, ErrIncomplete) {
		t.Errorf("err = %v", err)
	}
	if err == nil {
		_ = res.Body.Close()
	}
}
