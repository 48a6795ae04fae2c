package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"understudy/clone/trust"
)

// breaker stands between joiner and donor, and breaks connections.
type breaker struct {
	target string
	// after is how many bytes each connection lets pass, in turn; the last for ever. Less than 0:
	// all.
	after []int64
	reset bool // a RST instead of a FIN

	made atomic.Int32
	wg   sync.WaitGroup
}

func (b *breaker) listen(t *testing.T) (addr string) {
	t.Helper()
	l := listen(t)
	b.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.pass(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.wg.Wait()
	})
	return l.Addr().String()
}

func (b *breaker) pass(joiner *net.TCPConn) {
	n := int(b.made.Add(1))
	after := b.after[min(n, len(b.after))-1]
	defer func() { _ = joiner.Close() }()
	donor, err := net.Dial("tcp", b.target) //nolint:noctx // ends with the connection
	if err != nil {
		return
	}
	defer func() { _ = donor.Close() }()
	b.wg.Go(func() {
		_, _ = io.Copy(donor, joiner)
		_ = donor.Close()
	})
	if after < 0 {
		_, _ = io.Copy(joiner, donor)
		return
	}
	_, _ = io.CopyN(joiner, donor, after)
	if b.reset {
		_ = joiner.SetLinger(0)
	}
}

// A clone whose connection breaks again and again is whole in the end, and made once. The proof
// covers all of it.
func TestResume(t *testing.T) {
	sent := noise(12 << 20)
	for _, tr := range transports {
		for _, encoding := range []Encoding{None, Zstd} {
			for _, reset := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/reset %v", tr.name, encoding, reset), func(t *testing.T) {
					id := identity(t, 'a')
					ts := newTapes(t, whole(sent))
					r := start(t, ts.donor(), ServerConfig{Grace: soon}, tr.server(id))
					b := &breaker{target: r.addr, reset: reset, after: []int64{5_000, 1 << 20, 3_000_000, 4 << 20, -1}}
					if tr.name == "insecure" {
						b.after[0] = 2000 // past the headers
					}
					c := NewClient(ClientConfig{Addr: b.listen(t), TLS: tr.client(id), Member: "db-1", Stall: soon, Grace: soon, Encoding: encoding})
					defer c.Close()
					reportTo(c, r.addr) // the breaker counts connections
					got, result, err := take(t, c)
					if err != nil || !bytes.Equal(got, sent) || result.Bytes != int64(len(sent)) {
						t.Fatalf("%d bytes, %+v, %v", len(got), result, err)
					}
					if len(ts.made) != 1 {
						t.Errorf("%d backups were made", len(ts.made))
					}
					if b.made.Load() < 4 {
						t.Errorf("only %d connections were made", b.made.Load())
					}
				})
			}
		}
	}
}

// However slowly a joiner reads, and however much both kernels hold when its connection breaks,
// what it lacks is still there.
func TestReplaySuffices(t *testing.T) {
	if testing.Short() {
		t.Skip("it moves a few hundred MiB")
	}
	for _, at := range []int64{1 << 20, 70 << 20, 130 << 20} {
		t.Run(fmt.Sprintf("after %d MiB", at>>20), func(t *testing.T) {
			var made atomic.Int64
			const size = 200 << 20
			ts := newTapes(t, func(context.Context, int) (io.Reader, func() error) {
				return io.LimitReader(readerFunc(func(p []byte) (int, error) {
					made.Add(int64(len(p)))
					return len(p), nil
				}), size), wholly
			})
			r := start(t, ts.donor(), ServerConfig{Grace: soon}, nil)
			cut := make(chan net.Conn, 1)
			c := client(t, r.addr, "db-1", nil)
			transport := c.http.Transport.(*http.Transport)
			dial := transport.DialContext
			transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				select {
				case cut <- conn.(*patientConn).Conn:
				default:
				}
				return conn, nil
			}
			s := open(t, c)
			if _, err := io.CopyN(io.Discard, s, at); err != nil {
				t.Fatal(err)
			}
			steady(&made) // the joiner reads nothing: all buffers on the way fill up
			conn := within(t, "connection", soon, cut)
			if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			result, err := s.Finish()
			if err != nil || result.Bytes != size || s.Resumed() != 1 {
				t.Errorf("%+v, resumed %d times, %v", result, s.Resumed(), err)
			}
			t.Logf("%d KiB were on the way", (made.Load()-at)>>10)
		})
	}
}

// Where the kernel's buffers may outgrow the replay buffer they are kept smaller.
func TestKernelBuffersAreBounded(t *testing.T) {
	before := sysctls
	t.Cleanup(func() { sysctls = before })
	size := func(c net.Conn, option int) (n int) {
		t.Helper()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err == nil {
			err = errors.Join(raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option) }), err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for text, bounded := range map[string]bool{"4096 131072 6291456": false, "4096 131072 67108864": true} {
		sysctls = t.TempDir()
		for _, name := range []string{"tcp_rmem", "tcp_wmem"} {
			if err := os.WriteFile(filepath.Join(sysctls, name), []byte(text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l := listen(t)
		var raw [2]net.Conn
		for i := range raw {
			d := net.Dialer{}
			if i == 1 {
				d.Control = boundReceive
			}
			var err error
			if raw[i], err = d.DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
				t.Fatal(err)
			}
		}
		plain, ours := raw[0], raw[1]
		if err := boundSend(tls.Client(ours, &tls.Config{MinVersion: tls.VersionTLS13})); err != nil {
			t.Fatal(err)
		}
		for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
			if changed := size(plain, option) != size(ours, option); changed != bounded || size(ours, option) > maxHeld {
				t.Errorf("%s: option %d: %d instead of %d", text, option, size(ours, option), size(plain, option))
			}
		}
		if keep := keepFor(strconv.FormatInt(receiveBuffer(), 10), sendBuffer()); keep < receiveBuffer()+sendBuffer() || keep > maxKeep {
			t.Errorf("%s: %d bytes are kept", text, keep)
		}
		_ = plain.Close()
		_ = ours.Close()
	}
}

// steady returns once n has not changed for a while.
func steady(n *atomic.Int64) {
	for last := int64(-1); n.Load() != last; {
		last = n.Load()
		time.Sleep(200 * time.Millisecond) // there is no event for "nothing happens"
	}
}

// What cannot be resumed says why, at once.
func TestCannotResume(t *testing.T) {
	sent := noise(8 << 20)
	tests := []struct {
		name  string
		grace time.Duration
		// spoil happens between the break and the next connection.
		spoil func(t *testing.T, r *running, s *Stream)
		want  string
	}{
		{"the donor was restarted", soon, func(_ *testing.T, r *running, _ *Stream) {
			for _, o := range r.active() {
				r.end(o, errDeleted)
			}
		}, "was this member restarted"},
		{"the joiner asked again", soon, func(t *testing.T, r *running, _ *Stream) {
			t.Helper()
			open(t, client(t, r.addr, "db-1", nil))
		}, errReplaced.Error()},
		{"nobody answers", 200 * time.Millisecond, func(t *testing.T, r *running, _ *Stream) {
			t.Helper()
			_ = r.http.Close()
		}, "it could not go on"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, newTapes(t, stuck(sent)).donor(), ServerConfig{}, nil)
			b := &breaker{target: r.addr, after: []int64{1 << 20, -1}}
			c := NewClient(ClientConfig{Addr: b.listen(t), Member: "db-1", Stall: soon, Grace: tt.grace})
			defer c.Close()
			reportTo(c, r.addr) // the breaker counts connections
			s := open(t, c)
			again := s.body.again
			s.body.again = func() (*http.Response, error) {
				tt.spoil(t, r, s)
				return again()
			}
			if _, err := s.Finish(); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// A stream belongs to the member that asked for it, in the set that holds the secret.
func TestStolenStream(t *testing.T) {
	ts := newTapes(t, stuck(noise(1<<20)))
	id := identity(t, 'a')
	r := start(t, ts.donor(), ServerConfig{}, id.Server())
	s := open(t, client(t, r.addr, "db-1", id.Client()))
	tests := []struct {
		name   string
		member string
		id     *trust.Identity
		stream string
		offset string
		want   string
	}{
		{"another member", "db-2", id, s.Header.StreamID, "0", "no such stream"},
		{"another secret", "db-1", identity(t, 'b'), s.Header.StreamID, "0", "secret"},
		{"another id", "db-1", id, newStreamID(), "0", "no such stream"},
		{"an offset that is none", "db-1", id, s.Header.StreamID, "-1", "from where"},
		{"an offset to come", "db-1", id, s.Header.StreamID, "99999999999", errGone.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, err := client(t, r.addr, tt.member, tt.id.Client()).open(t.Context(), pathClone+"/"+tt.stream, http.Header{headerOffset: {tt.offset}})
			if err == nil {
				_ = res.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// A connection that takes no more bytes and does not break, as behind a black hole, does not
// keep the joiner waiting that comes back, however long --stall-timeout is.
func TestResumeAfterABlackHole(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			id := identity(t, 'a')
			ts := newTapes(t, endless)
			r := start(t, ts.donor(), ServerConfig{Stall: time.Hour, Grace: soon}, tr.server(id))
			c := client(t, r.addr, "db-1", tr.client(id))
			s := open(t, c)
			read, err := io.CopyN(io.Discard, s, 1<<20) // and no more: the donor blocks in a write
			if err != nil {
				t.Fatal(err)
			}
			for last := int64(-1); ; time.Sleep(100 * time.Millisecond) {
				sent := r.Giving()[0].Sent
				if sent == last {
					break
				}
				last = sent
			}
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			res, err := c.open(ctx, pathClone+"/"+s.Header.StreamID, http.Header{headerOffset: {strconv.FormatInt(read, 10)}})
			if err != nil {
				t.Fatalf("after %v: %v", time.Since(begun), err)
			}
			_, err = io.CopyN(io.Discard, res.Body, minKeep)
			if err != nil {
				t.Error(err)
			}
			_ = res.Body.Close()
		})
	}
}

// Compressed streams are offered, not forced.
func TestChooseEncoding(t *testing.T) {
	for list, want := range map[string]Encoding{
		"": None, "none": None, "zstd,none": Zstd, "none,zstd": None, "br, zstd": Zstd, "br": None,
	} {
		if got := choose(list); got != want {
			t.Errorf("%q: %s, want %s", list, got, want)
		}
	}
}

// silentDonor has a backup of which a part does not come. If it goes on, it says another thing at
// each of the first questions and ends then; otherwise it says the same for ever. stream puts the
// part that is held among the others.
func silentDonor(goesOn bool, stream func(held io.Reader) io.Reader) *donor {
	var asked atomic.Int64
	release := make(chan struct{})
	d := &donor{member: func() Member { return Member{} }}
	d.backup = func(ctx context.Context, _ string) (Backup, error) {
		held := readerFunc(func([]byte) (int, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return 0, io.EOF
		})
		phase := func() string {
			if n := asked.Add(1); goesOn && n < 20 {
				return fmt.Sprintf("waiting for a lock, %d s", n)
			} else if goesOn && n == 20 {
				close(release)
			}
			return "waiting"
		}
		return Backup{Header: testHeader, Stream: stream(held), Phase: phase, Finish: wholly}, nil
	}
	return d
}

// A silent donor that says that its backup goes on is waited for; one that does not, is not.
func TestPatience(t *testing.T) {
	const stall = 500 * time.Millisecond
	for _, goesOn := range []bool{true, false} {
		t.Run(fmt.Sprintf("goes on: %v", goesOn), func(t *testing.T) {
			d := silentDonor(goesOn, func(held io.Reader) io.Reader { return io.MultiReader(strings.NewReader("XBS"), held) })
			r := start(t, d, ServerConfig{}, nil)
			c := NewClient(ClientConfig{Addr: r.addr, Member: "db-1", Stall: stall, Grace: soon})
			defer c.Close()
			s := open(t, c)
			begun := time.Now()
			_, err := s.Finish()
			if goesOn && (err != nil || time.Since(begun) < 2*stall) {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			if !goesOn && (!errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "its backup is at: waiting")) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

// So is one that has not begun, and says that its backup goes on.
func TestPatienceBeforeTheFirstByte(t *testing.T) {
	const stall = 500 * time.Millisecond
	for _, goesOn := range []bool{true, false} {
		t.Run(fmt.Sprintf("goes on: %v", goesOn), func(t *testing.T) {
			d := silentDonor(goesOn, func(held io.Reader) io.Reader { return io.MultiReader(held, strings.NewReader("XBS")) })
			r := start(t, d, ServerConfig{}, nil)
			c := NewClient(ClientConfig{Addr: r.addr, Member: "db-1", Stall: stall, Grace: soon})
			defer c.Close()
			begun := time.Now()
			s, err := c.Clone(t.Context())
			if !goesOn {
				if !errors.Is(err, ErrStalled) {
					t.Errorf("err = %v", err)
				}
				return
			}
			if err != nil || time.Since(begun) < 2*stall {
				t.Fatalf("after %v: %v", time.Since(begun), err)
			}
			if _, err := s.Finish(); err != nil {
				t.Error(err)
			}
			_ = s.Close()
		})
	}
}
