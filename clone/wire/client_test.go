package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"understudy/clone/trust"

	"github.com/cespare/xxhash/v2"
)

// lie starts a peer that speaks HTTP, but not quite the protocol.
func lie(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

const payload = "these are the bytes of a clone"

// honest is the answer of a donor, which spoil may change before it is sent.
func honest(spoil func(header, trailer http.Header)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		v, header, trailer := testHeader, http.Header{}, http.Header{}
		v.StreamID, v.Encoding = "0123456789abcdef", None
		setHeader(header, v, place{lane: noLane})
		trailer.Set(trailerStatus, "0")
		trailer.Set(trailerBytes, fmt.Sprint(len(payload)))
		trailer.Set(trailerDigest, fmt.Sprintf("xxh64:%016x", xxhash.Sum64([]byte(payload))))
		spoil(header, trailer)
		for k := range header {
			w.Header().Set(k, header.Get(k))
		}
		_, _ = io.WriteString(w, payload)
		for k := range trailer {
			w.Header().Set(http.TrailerPrefix+k, trailer.Get(k))
		}
	}
}

func TestNoClone(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	set := func(key, value string) http.HandlerFunc {
		return honest(func(header, _ http.Header) { header.Set(key, value) })
	}
	const page = "<html><body>Welcome to nginx!</body></html>"
	tests := []struct {
		name string
		peer http.HandlerFunc
		want string
	}{
		{"an error page with 200", answer(http.StatusOK, "text/html", page), "text/html"},
		{"another content type", set("Content-Type", "application/octet-stream"), "octet-stream"},
		{"no content type", set("Content-Type", ""), "not a clone"},
		{"404 in text", answer(http.StatusNotFound, "text/plain", "404 page not found\n"), "404 Not Found"},
		{"500 with a page", answer(http.StatusInternalServerError, "text/html", page), "500 Internal"},
		{"other JSON", answer(http.StatusServiceUnavailable, "application/json", `{"message":"no"}`), "503 Service"},
		{"half an answer", answer(http.StatusServiceUnavailable, "application/json", `{"code":"bus`), "503 Service"},
		{"an unknown code", answer(http.StatusServiceUnavailable, "application/json", `{"code":"moved","error":"over there"}`), "over there"},
		{"a bad request", answer(http.StatusBadRequest, "application/json", `{"code":"bad-request","error":"who are you"}`), "who are you"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "302 Found"},
		{"no stream id", set(headerStream, ""), "do not describe"},
		{"no engine", set(headerEngine, ""), "do not describe"},
		{"no server version", set(headerServerVersion, ""), "do not describe"},
		{"no role", set(headerRole, ""), "do not describe"},
		{"another role", set(headerRole, "arbiter"), "do not describe"},
		{"no encoding", set(headerEncoding, ""), "encoding"},
		{"another encoding", set(headerEncoding, "br"), `encoding "br"`},
		{"no size", set(headerEstimate, ""), "no number"},
		{"a negative size", set(headerEstimate, "-1"), "no number"},
		{"a size beyond numbers", set(headerEstimate, "99999999999999999999"), "no number"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := lie(t, tt.peer)
			s, err := client(t, addr, "db-1", nil).Clone(t.Context())
			if err == nil {
				_ = s.Close()
			}
			if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), addr) {
				t.Errorf("err = %v", err)
			}
		})
	}
	for name, peer := range map[string]http.HandlerFunc{
		"a page": answer(http.StatusOK, "text/html", page), "404": answer(http.StatusNotFound, "text/plain", "no"),
	} {
		if _, err := client(t, lie(t, peer), "db-1", nil).Member(t.Context()); !errors.Is(err, ErrProtocol) {
			t.Errorf("Member, %s: %v", name, err)
		}
	}
}

func TestTrailers(t *testing.T) {
	set := func(key, value string) http.HandlerFunc {
		return honest(func(_, trailer http.Header) { trailer.Set(key, value) })
	}
	tests := []struct {
		name string
		peer http.HandlerFunc
		want error
		text string
	}{
		{"wrong digest", set(trailerDigest, "xxh64:00"), ErrDigest, "xxh64:00"},
		{"no digest", set(trailerDigest, ""), ErrDigest, "says"},
		{"all right", set("Understudy-Whatever", "1"), nil, ""},
		{"none at all", honest(func(_, trailer http.Header) { clear(trailer) }), ErrIncomplete, "no trailers"},
		{"no status", set(trailerStatus, ""), ErrIncomplete, "no trailers"},
		{"the tool failed", honest(func(_, trailer http.Header) {
			trailer.Set(trailerStatus, "1")
			trailer.Set(trailerError, "the disk is on fire")
		}), ErrIncomplete, "the disk is on fire"},
		{"an odd status", set(trailerStatus, "00"), ErrIncomplete, "failed"},
		{"one byte too many", set(trailerBytes, fmt.Sprint(len(payload)+1)), ErrIncomplete, "31"},
		{"one byte too few", set(trailerBytes, fmt.Sprint(len(payload)-1)), ErrIncomplete, "29"},
		{"no count", set(trailerBytes, ""), ErrIncomplete, "30 bytes arrived"},
		{"a length and no chunks", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(payload)))
			honest(func(_, trailer http.Header) { clear(trailer) })(w, r)
		}, ErrIncomplete, "no trailers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, result, err := take(t, client(t, lie(t, tt.peer), "db-1", nil))
			if string(b) != payload || !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%q, %v", b, err)
			}
			if err != nil && result != (Result{}) {
				t.Errorf("there is a result: %+v", result)
			}
		})
	}
}

// talk starts a peer that treats each connection, one after the other, with f.
func talk(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l := listen(t)
	ended := inBackground(func() bool {
		for {
			c, err := l.Accept()
			if err != nil {
				return true
			}
			f(c)
			_ = c.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		within(t, "the peer's end", soon, ended)
	})
	return l.Addr().String()
}

func TestPeersOfAnotherKind(t *testing.T) {
	id := identity(t, 'a')
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = io.WriteString(c, text)
			_, _ = c.Read(make([]byte, 1<<10)) // so that closing is no reset
		}
	}
	const stream = "XBSTCK01\x00P\x07\x00\x00\x00ibdata1 and so on" // what an old ncat sends at once
	plain := start(t, newTapes(t, whole([]byte("x"))).donor(), ServerConfig{}, nil).addr
	safe := start(t, newTapes(t, whole([]byte("x"))).donor(), ServerConfig{}, id.Server()).addr
	tests := []struct {
		name, addr string
		tls        bool
		want       error
		text       string
	}{
		{"garbage instead of TLS", talk(t, say("Y\x00\x00\x00\x0a5.5.5-10.11.19-MariaDB")), true, ErrProtocol, "--insecure"},
		{"garbage instead of HTTP", talk(t, say("Y\x00\x00\x00\x0a5.5.5-10.11.19-MariaDB")), false, ErrProtocol, "malformed"},
		{"a raw stream instead of TLS", talk(t, say(stream)), true, ErrProtocol, ErrRaw.Error()},
		{"a raw stream instead of HTTP", talk(t, say(stream)), false, ErrProtocol, ErrRaw.Error()},
		{"HTTP instead of TLS", plain, true, ErrProtocol, "--insecure"},
		{"TLS instead of HTTP", safe, false, ErrProtocol, "--insecure"},
		{"cut in the middle of the header", talk(t, say("HTTP/1.1 200 OK\r\nContent-Ty")), false, ErrProtocol, "malformed"},
		{"closed at once", talk(t, say("")), false, io.EOF, ""},
		{"a stream cut before the end", talk(t, say(chunked(t))), false, ErrIncomplete, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, tt.addr, "db-1", nil)
			if tt.tls {
				c = client(t, tt.addr, "db-1", id.Client())
			}
			s, err := c.Clone(t.Context())
			if err == nil {
				_, err = s.Finish()
				_ = s.Close()
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), tt.addr) {
				t.Errorf("err = %v", err)
			}
			if strings.Contains(err.Error(), "%!") || strings.Count(err.Error(), tt.addr) != 1 {
				t.Errorf("not for people: %v", err)
			}
		})
	}
}

// chunked is a donor's answer without its last chunk.
func chunked(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	honest(func(http.Header, http.Header) {})(w, nil)
	var b strings.Builder
	b.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n")
	if err := w.Header().Write(&b); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "\r\n%x\r\n%s\r\n", len(payload), payload)
	return b.String()
}

func TestSilentPeer(t *testing.T) {
	id := identity(t, 'a')
	silent := talk(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	half := start(t, newTapes(t, stuck(noise(300<<10))).donor(), ServerConfig{}, nil).addr
	for _, tt := range []struct {
		name, addr string
		tls        bool
		stall      time.Duration
		want       string
	}{
		{"before TLS", silent, true, 50 * time.Millisecond, "no byte came for 50ms"},
		{"before the answer", silent, false, 50 * time.Millisecond, "no byte came for 50ms"},
		{"in the middle", half, false, time.Second, "nothing has gone on for"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := ClientConfig{Addr: tt.addr, Member: "db-1", Stall: tt.stall}
			if tt.tls {
				cfg.TLS = id.Client()
			}
			c := NewClient(cfg)
			defer c.Close()
			s, err := c.Clone(t.Context())
			if err == nil {
				_, err = s.Finish()
				_ = s.Close()
				if !errors.Is(err, ErrIncomplete) {
					t.Errorf("err = %v", err)
				}
			}
			if err == nil || !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	l := listen(t)
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := client(t, addr, "db-1", identity(t, 'a').Client()).Clone(t.Context())
	if err == nil || !strings.Contains(err.Error(), "connection refused") || errors.Is(err, trust.ErrUntrusted) {
		t.Errorf("err = %v", err)
	}
}

// An address with a zone is dialled, and not taken for a malformed URL.
func TestZone(t *testing.T) {
	_, err := client(t, "[fe80::1%nowhere0]:3307", "db-1", identity(t, 'a').Client()).Clone(t.Context())
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
		t.Errorf("err = %v", err)
	}
}

func TestWrongSecret(t *testing.T) {
	r := start(t, newTapes(t, whole([]byte("x"))).donor(), ServerConfig{}, identity(t, 'a').Server())
	careless := identity(t, 'b').Client()
	careless.VerifyConnection = nil
	tests := []struct {
		name, want string
		config     *tls.Config
	}{
		{"we do not know its key", "ask ADDR: the peer is not trusted: it does not hold this set's secret", identity(t, 'b').Client()},
		{"it does not know ours", "ask ADDR: the peer is not trusted: it refused ours: remote error: tls: bad certificate", careless},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, r.addr, "db-1", tt.config)
			for range 20 { // its refusal races with our request
				_, err := c.Clone(t.Context())
				if !errors.Is(err, trust.ErrUntrusted) || strings.ReplaceAll(err.Error(), r.addr, "ADDR") != tt.want {
					t.Fatalf("err = %v", err)
				}
				if _, err = c.Member(t.Context()); !errors.Is(err, trust.ErrUntrusted) {
					t.Fatalf("Member: %v", err)
				}
			}
		})
	}
}
