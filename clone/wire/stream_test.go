package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"understudy/clone/trust"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"
)

// noise is n bytes that no part of the way could guess.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails, see its documentation
	return b
}

// The same streams over TLS and over a connection that the operator left open.
var transports = []struct {
	name           string
	server, client func(*trust.Identity) *tls.Config
}{
	{"tls", (*trust.Identity).Server, (*trust.Identity).Client},
	{"insecure", func(*trust.Identity) *tls.Config { return nil }, func(*trust.Identity) *tls.Config { return nil }},
}

func TestWholeStream(t *testing.T) {
	for _, tr := range transports {
		for _, size := range []int{1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 5 << 20} {
			t.Run(fmt.Sprintf("%s/%d bytes", tr.name, size), func(t *testing.T) {
				sent, outcomes := noise(size), make(chan Outcome, 1)
				id := identity(t, 'a')
				ts := newTapes(t, whole(sent))
				r := start(t, ts.donor(), ServerConfig{Observe: func(o Outcome) { outcomes <- o }}, tr.server(id))
				s := open(t, client(t, r.addr, "db-1", tr.client(id)))
				got, err := io.ReadAll(s)
				if err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				result, err := s.Finish()
				want := Result{Bytes: int64(size), Digest: fmt.Sprintf("xxh64:%016x", xxhash.Sum64(sent))}
				if d := cmp.Diff(want, result); d != "" || err != nil {
					t.Error(d, err)
				}
				header := testHeader
				header.StreamID = within(t, "backup", soon, ts.more).id
				if d := cmp.Diff(header, s.Header); d != "" {
					t.Error(d)
				}
				o := within(t, "outcome", soon, outcomes)
				if o.Member != "db-1" || o.Bytes != int64(size) || o.Err != nil || o.Took <= 0 {
					t.Errorf("outcome %+v", o)
				}
			})
		}
	}
}

// The first bytes of a backup that then says nothing for long have left, in every encoding.
func TestFirstBytesLeaveAtOnce(t *testing.T) {
	for _, encoding := range []Encoding{None, Zstd} {
		t.Run(string(encoding), func(t *testing.T) {
			proceed := make(chan struct{})
			ts := newTapes(t, func(context.Context, int) (io.Reader, func() error) {
				rest := readerFunc(func([]byte) (int, error) {
					<-proceed
					return 0, io.EOF
				})
				return io.MultiReader(strings.NewReader("begun"), rest), wholly
			})
			r := start(t, ts.donor(), ServerConfig{}, nil)
			c := NewClient(ClientConfig{Addr: r.addr, Member: "db-1", Stall: soon, Grace: soon, Encoding: encoding})
			t.Cleanup(c.Close)
			opened := make(chan *Stream, 1)
			go func() {
				s, err := c.Clone(t.Context())
				if err != nil {
					t.Error(err)
				}
				opened <- s
			}()
			var s *Stream
			select {
			case s = <-opened:
			case <-time.After(soon):
				t.Error("no stream although the backup has begun")
				close(proceed)
				s = within(t, "stream", soon, opened)
			}
			first := make([]byte, 5)
			if _, err := io.ReadFull(s, first); err != nil || string(first) != "begun" || s.Header.Encoding != encoding {
				t.Errorf("%q, %v, %s", first, err, s.Header.Encoding)
			}
			select {
			case <-proceed:
			default:
				close(proceed)
			}
			if _, err := s.Finish(); err != nil {
				t.Error(err)
			}
			_ = s.Close()
		})
	}
}

// A backup that is silent for longer than a joiner may be, and then ends, is whole on the
// connection that there is, even for a joiner that does not report.
func TestEndAfterSilence(t *testing.T) {
	const stall = 100 * time.Millisecond
	sent := noise(1 << 20)
	ts := newTapes(t, func(context.Context, int) (io.Reader, func() error) {
		silent := readerFunc(func([]byte) (int, error) {
			time.Sleep(3 * stall) // the silence is this test's subject
			return 0, io.EOF
		})
		return io.MultiReader(bytes.NewReader(sent), silent), wholly
	})
	r := start(t, ts.donor(), ServerConfig{Stall: stall, Grace: stall}, nil)
	res, err := client(t, r.addr, "db-1", nil).open(t.Context(), pathClone, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(got, sent) || res.Trailer.Get(trailerStatus) != "0" {
		t.Errorf("%d bytes, trailers %v, %v", len(got), res.Trailer, err)
	}
	_ = res.Body.Close()
}

// Finish takes what nobody read, and Bytes counts all of it.
func TestFinishReadsTheRest(t *testing.T) {
	sent := noise(1 << 20)
	r := start(t, newTapes(t, whole(sent)).donor(), ServerConfig{}, nil)
	s := open(t, client(t, r.addr, "db-1", nil))
	if _, err := io.ReadFull(s, make([]byte, 1000)); err != nil || s.Bytes() != 1000 {
		t.Fatal(s.Bytes(), err)
	}
	result, err := s.Finish()
	if err != nil || result.Bytes != int64(len(sent)) || s.Bytes() != result.Bytes {
		t.Errorf("%+v, %d, %v", result, s.Bytes(), err)
	}
}

var errTool = errors.New("backup tool: exit status 1: the disk is on fire\nand the house, too")

func TestToolFails(t *testing.T) {
	const early, late = "the disk is on fire\nand the house, too", "the disk is on fire and the house, too" // a header is one line
	tests := []struct {
		name   string
		donor  func(t *testing.T) *donor
		want   error
		text   string
		header bool // the stream began
	}{
		{
			name: "may not give a clone", want: ErrNotServing, text: "no clones: it is not attached yet (ask",
			donor: func(*testing.T) *donor {
				return &donor{backup: func(context.Context, string) (Backup, error) {
					return Backup{}, fmt.Errorf("%w: it is not attached yet", ErrNotServing)
				}}
			},
		},
		{
			name: "does not start", want: ErrNotServing, text: early,
			donor: func(*testing.T) *donor {
				return &donor{backup: func(context.Context, string) (Backup, error) { return Backup{}, errTool }}
			},
		},
		{
			name: "fails before the first byte", want: ErrNotServing, text: early,
			donor: func(t *testing.T) *donor {
				t.Helper()
				return newTapes(t, func(context.Context, int) (io.Reader, func() error) {
					return strings.NewReader(""), func() error { return errTool }
				}).donor()
			},
		},
		{
			name: "ends well without a byte", want: ErrNotServing, text: "the tool wrote nothing",
			donor: func(t *testing.T) *donor { t.Helper(); return newTapes(t, whole(nil)).donor() },
		},
		{
			name: "fails midway", want: ErrIncomplete, text: late, header: true,
			donor: func(t *testing.T) *donor {
				t.Helper()
				return newTapes(t, func(context.Context, int) (io.Reader, func() error) {
					return bytes.NewReader(noise(600 << 10)), func() error { return errTool }
				}).donor()
			},
		},
		{
			name: "cannot be read after its first bytes", want: ErrIncomplete, text: "pipe broke", header: true,
			donor: func(t *testing.T) *donor {
				t.Helper()
				return newTapes(t, func(context.Context, int) (io.Reader, func() error) {
					broken := readerFunc(func([]byte) (int, error) { return 0, errors.New("pipe broke") })
					return io.MultiReader(strings.NewReader("XBS"), broken), wholly
				}).donor()
			},
		},
		{
			name: "cannot be read midway", want: ErrIncomplete, text: "pipe broke", header: true,
			donor: func(t *testing.T) *donor {
				t.Helper()
				return newTapes(t, func(context.Context, int) (io.Reader, func() error) {
					broken := readerFunc(func([]byte) (int, error) { return 0, errors.New("pipe broke") })
					return io.MultiReader(bytes.NewReader(noise(600<<10)), broken), wholly
				}).donor()
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := identity(t, 'a')
			r := start(t, tt.donor(t), ServerConfig{}, id.Server())
			c := client(t, r.addr, "db-1", id.Client())
			if tt.header {
				_, _, err := take(t, c)
				if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("err = %v", err)
				}
				return
			}
			_, err := c.Clone(t.Context())
			refused, ok := errors.AsType[*RefusedError](err)
			if !ok || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || refused.RetryAfter <= 0 {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestServerDies(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			id := identity(t, 'a')
			ts := newTapes(t, stuck(noise(300<<10)))
			r := start(t, ts.donor(), ServerConfig{}, tr.server(id))
			s := open(t, client(t, r.addr, "db-1", tr.client(id)))
			if _, err := io.ReadFull(s, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if err := r.http.Close(); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, struct{ io.Reader }{s})
			if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), r.addr) {
				t.Errorf("err = %v after %d bytes", err, n)
			}
			if _, err := s.Finish(); !errors.Is(err, ErrIncomplete) {
				t.Errorf("Finish: %v", err)
			}
			within(t, "the backup's end", soon, within(t, "backup", soon, ts.more).gone)
		})
	}
}

func TestOneLine(t *testing.T) {
	got := oneLine(errors.New("exit status 1\n\tsays: ü" + strings.Repeat("x", 3000) + "\nlast words"))
	if len(got) != 2000 || !strings.HasPrefix(got, "exit status 1  says:   xx") || !strings.HasSuffix(got, "xx last words") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
