package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBusy(t *testing.T) {
	ts := newTapes(t, stuck(noise(300<<10)))
	r := start(t, ts.donor(), ServerConfig{}, nil)
	first := open(t, client(t, r.addr, "db-1", nil))
	if r.Busy() != 1 {
		t.Errorf("%d slots are taken", r.Busy())
	}
	_, err := client(t, r.addr, "db-2", nil).Clone(t.Context())
	refused, ok := errors.AsType[*RefusedError](err)
	if !ok || !errors.Is(err, ErrBusy) || refused.RetryAfter <= 0 || !strings.Contains(err.Error(), "all 1 clone slots") {
		t.Errorf("err = %v", err)
	}
	tape := within(t, "backup", soon, ts.more)
	select {
	case <-tape.gone:
		t.Error("the running clone was ended")
	default:
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "the backup's end", soon, tape.gone)
}

// What a busy donor says is the running clone's remaining time.
func TestWait(t *testing.T) {
	running := func(since time.Duration, made, total int64) *outgoing {
		return &outgoing{begun: time.Now().Add(-since), raw: made, backup: Backup{Header: Header{EstimatedBytes: total}}}
	}
	tests := []struct {
		name    string
		streams []*outgoing
		want    time.Duration
	}{
		{"nothing made yet", []*outgoing{running(time.Minute, 0, 100)}, busyRetry},
		{"half done", []*outgoing{running(time.Minute, 50, 100)}, time.Minute},
		{"beyond the estimate", []*outgoing{running(time.Minute, 150, 100)}, busyRetry},
		{"nearly done", []*outgoing{running(time.Minute, 999, 1000)}, time.Second},
		{"for ever", []*outgoing{running(time.Hour, 1, 1<<50)}, 10 * time.Minute},
		{"the first that falls free", []*outgoing{running(time.Minute, 25, 100), running(time.Minute, 50, 100)}, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{streams: map[string]*outgoing{}}
			for _, st := range tt.streams {
				s.streams[newStreamID()] = st
			}
			if got := s.wait(); got.Round(time.Second) != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestSameMemberAsksAgain(t *testing.T) {
	tests := []struct {
		name string
		// old is how the first backup goes on; read says whether its joiner still reads.
		old  func(context.Context, int) (io.Reader, func() error)
		read bool
	}{
		{"the old joiner waits for bytes", stuck(noise(300 << 10)), true},
		{"the old joiner reads", endless, true},
		{"the old joiner has stopped reading", endless, false}, // as one whose node is gone
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sent := noise(300 << 10)
			ts := newTapes(t, func(ctx context.Context, n int) (io.Reader, func() error) {
				if n == 0 {
					return tt.old(ctx, n)
				}
				return whole(sent)(ctx, n)
			})
			r := start(t, ts.donor(), ServerConfig{Stall: time.Minute}, nil)
			old := open(t, client(t, r.addr, "db-1", nil))
			tape := within(t, "first backup", soon, ts.more)
			var ended <-chan error
			if tt.read {
				ended = inBackground(func() error { _, err := old.Finish(); return err })
			}
			begun := time.Now()
			if _, result, err := take(t, client(t, r.addr, "db-1", nil)); err != nil || result.Bytes != int64(len(sent)) {
				t.Errorf("%+v, %v", result, err)
			}
			if took := time.Since(begun); took > soon { // or it has waited for the old one, for --stall-timeout
				t.Errorf("the new stream took %v to come", took)
			}
			within(t, "the old backup's end", soon, tape.gone)
			if n := tape.finished.Load(); n != 1 {
				t.Errorf("Finish of the old backup was called %d times before the new one began", n)
			}
			if !tt.read {
				return
			}
			if err := within(t, "the old stream's end", soon, ended); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), errReplaced.Error()) {
				t.Errorf("the old joiner hears %v", err)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	ts := newTapes(t, stuck(noise(300<<10)))
	r := start(t, ts.donor(), ServerConfig{}, nil)
	s := open(t, client(t, r.addr, "db-1", nil))
	tape := within(t, "backup", soon, ts.more)
	if status, _ := request(t, http.MethodDelete, r.addr, pathClone+"/"+s.Header.StreamID, http.Header{headerMember: {"db-1"}}); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	if tape.finished.Load() != 1 {
		t.Error("the answer came before the backup's end")
	}
	if _, err := s.Finish(); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), errDeleted.Error()) {
		t.Errorf("the joiner hears %v", err)
	}
	status, body := request(t, http.MethodDelete, r.addr, pathClone+"/"+s.Header.StreamID, http.Header{headerMember: {"db-1"}})
	if status != http.StatusNotFound || !strings.Contains(body, "no such stream") {
		t.Errorf("again: %d %s", status, body)
	}
}

// request is for what the client does not send.
func request(t *testing.T, method, addr, path string, header http.Header) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for k := range header {
		req.Header[k] = header[k]
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func TestJoinerLeaves(t *testing.T) {
	for _, tr := range transports {
		for name, play := range map[string]func(context.Context, int) (io.Reader, func() error){
			"while the tool writes": endless, "while the tool is silent": stuck(noise(300 << 10)),
		} {
			t.Run(tr.name+"/"+name, func(t *testing.T) {
				outcomes := make(chan Outcome, 1)
				id := identity(t, 'a')
				ts := newTapes(t, play)
				r := start(t, ts.donor(), ServerConfig{Observe: func(o Outcome) { outcomes <- o }}, tr.server(id))
				s := open(t, client(t, r.addr, "db-1", tr.client(id)))
				if _, err := io.ReadFull(s, make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				within(t, "the backup's end", soon/2, within(t, "backup", soon, ts.more).gone)
				if o := within(t, "outcome", soon, outcomes); o.Err == nil {
					t.Errorf("outcome %+v", o)
				}
			})
		}
	}
}

// A joiner that leaves before the tool's first byte has no stream yet.
func TestJoinerLeavesEarly(t *testing.T) {
	ts := newTapes(t, stuck(nil))
	r := start(t, ts.donor(), ServerConfig{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	c := client(t, r.addr, "db-1", nil)
	asked := inBackground(func() error { _, err := c.Clone(ctx); return err })
	tape := within(t, "backup", soon, ts.more)
	cancel()
	if err := within(t, "the request's end", soon, asked); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	within(t, "the backup's end", soon/2, tape.gone)
}

func TestJoinerStalls(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			outcomes := make(chan Outcome, 1)
			id := identity(t, 'a')
			ts := newTapes(t, endless)
			r := start(t, ts.donor(), ServerConfig{Stall: 100 * time.Millisecond, Grace: 100 * time.Millisecond, Observe: func(o Outcome) { outcomes <- o }}, tr.server(id))
			c := client(t, r.addr, "db-1", tr.client(id))
			c.config.Stall = 50 * time.Millisecond // its patience with its own volume is a multiple of that
			s := open(t, c)                        // and reads nothing
			tape := within(t, "backup", soon, ts.more)
			within(t, "the backup's end", soon, tape.gone)
			if o := within(t, "outcome", soon, outcomes); o.Err == nil || o.Bytes == 0 {
				t.Errorf("outcome %+v", o)
			}
			if _, err := s.Finish(); !errors.Is(err, ErrIncomplete) {
				t.Errorf("the joiner hears %v", err)
			}
		})
	}
}

func TestDrain(t *testing.T) {
	t.Run("waits", func(t *testing.T) {
		goOn, sent := make(chan struct{}), noise(1<<20)
		ts := newTapes(t, func(context.Context, int) (io.Reader, func() error) {
			held := readerFunc(func([]byte) (int, error) { <-goOn; return 0, io.EOF })
			return io.MultiReader(strings.NewReader(string(sent)), held), wholly
		})
		r := start(t, ts.donor(), ServerConfig{Slots: 2}, nil)
		s := open(t, client(t, r.addr, "db-1", nil))
		drained := inBackground(func() bool { r.Drain(t.Context()); return true })
		refusedWhileDraining(t, r)
		select {
		case <-drained:
			t.Error("it did not wait")
		default:
		}
		close(goOn)
		within(t, "drain", soon, drained)
		shut := inBackground(func() error { return r.http.Shutdown(t.Context()) })
		if result, err := s.Finish(); err != nil || result.Bytes != int64(len(sent)) {
			t.Errorf("%+v, %v", result, err)
		}
		if err := within(t, "shutdown", soon, shut); err != nil {
			t.Error(err)
		}
	})
	for name, play := range map[string]func(context.Context, int) (io.Reader, func() error){
		"ends a silent one": stuck(noise(300 << 10)), "ends one that nobody reads": endless,
	} {
		t.Run(name, func(t *testing.T) {
			ts := newTapes(t, play)
			r := start(t, ts.donor(), ServerConfig{Slots: 2, Stall: time.Minute}, nil)
			s := open(t, client(t, r.addr, "db-1", nil))
			ctx, cancel := context.WithCancel(t.Context())
			drained := inBackground(func() bool { r.Drain(ctx); return true })
			refusedWhileDraining(t, r)
			cancel()
			within(t, "drain", soon, drained)
			tape := within(t, "backup", soon, ts.more)
			if tape.finished.Load() != 1 || r.Busy() != 0 {
				t.Error("the backup has not ended")
			}
			if _, err := s.Finish(); !errors.Is(err, ErrIncomplete) {
				t.Errorf("the joiner hears %v", err)
			}
		})
	}
}

// refusedWhileDraining asks until the drain has begun, in the names of others and of
// the member that is being served.
func refusedWhileDraining(t *testing.T, r *running) {
	t.Helper()
	for {
		r.mu.Lock()
		draining := r.draining
		r.mu.Unlock()
		if draining {
			break
		}
		runtime.Gosched()
	}
	for _, member := range []string{"db-2", "db-1"} {
		_, err := client(t, r.addr, member, nil).Clone(t.Context())
		if !errors.Is(err, ErrNotServing) || !strings.Contains(err.Error(), errDraining.Error()) {
			t.Errorf("%s: %v", member, err)
		}
	}
}

func TestMemberNames(t *testing.T) {
	r := start(t, newTapes(t, whole([]byte("x"))).donor(), ServerConfig{}, nil)
	tests := []struct {
		name, member string
		want         int
	}{
		{"a pod", "db-1", http.StatusOK},
		{"a host", "by-hand-Laptop.local-4711", http.StatusOK},
		{"the longest", strings.Repeat("x", 253), http.StatusOK},
		{"none", "", http.StatusBadRequest},
		{"a blank", "db 1", http.StatusBadRequest},
		{"a path", "../db", http.StatusBadRequest},
		{"an escape", "db\x1b[2J", http.StatusBadRequest},
		{"not ASCII", "dbé", http.StatusBadRequest},
		{"too long", strings.Repeat("x", 254), http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Contains(tt.member, "\x1b") { // no client of net/http sends that
				if memberName.MatchString(tt.member) {
					t.Error("it was taken")
				}
				return
			}
			status, body := request(t, http.MethodGet, r.addr, pathClone, http.Header{headerMember: {tt.member}})
			if status != tt.want || status != http.StatusOK && !strings.Contains(body, headerMember) {
				t.Errorf("status %d, want %d: %s", status, tt.want, body)
			}
		})
	}
}

func TestMember(t *testing.T) {
	id := identity(t, 'a')
	lag := int64(7)
	want := Member{
		Name: "db-0", Role: Primary, Phase: "attached", Flavor: "mariadb", ServerVersion: "10.11.19-MariaDB", ServerID: 100,
		GTID:       strings.Repeat("0-100-5,", 100_000), // as a set with many gaps
		LagSeconds: &lag, DataBytes: 1 << 40, Ready: true, Reason: "the primary is open for writes",
	}
	ts := newTapes(t, stuck(noise(300<<10)))
	d := ts.donor()
	d.member = func() Member { return want }
	r := start(t, d, ServerConfig{Slots: 3}, id.Server())
	s := open(t, client(t, r.addr, "db-1", id.Client()))
	if _, err := io.CopyN(io.Discard, s, 300<<10); err != nil { // the donor has counted what has arrived
		t.Fatal(err)
	}
	got, err := client(t, r.addr, "db-2", id.Client()).Member(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want.Slots, want.SlotsBusy = 3, 1
	if len(got.Giving) != 1 || got.Giving[0].Joiner != "db-1" || got.Giving[0].Bytes != 300<<10 || !got.Giving[0].Connected {
		t.Errorf("giving %+v", got.Giving)
	}
	got.Giving = nil
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// An address that is another member's by now counts for nobody; and what is dialled is another
// name for the same address.
func TestAnotherMemberAnswers(t *testing.T) {
	d := &donor{member: func() Member { return Member{Name: "db-2"} }}
	r := start(t, d, ServerConfig{}, nil)
	for _, tt := range []struct {
		expect string
		want   error
	}{{"", nil}, {"db-2", nil}, {"db-1", ErrOther}} {
		dialled := ""
		c := NewClient(ClientConfig{
			Addr: "nobody.invalid:3307", Expect: tt.expect, Member: "db-0", Stall: soon,
			Dial: func(addr string) string { dialled = addr; return r.addr },
		})
		m, err := c.Member(t.Context())
		if !errors.Is(err, tt.want) || (err == nil) != (m.Name == "db-2") || dialled != "nobody.invalid:3307" {
			t.Errorf("expected %q: %+v, %v; dialled instead of %q", tt.expect, m, err, dialled)
		}
		c.Close()
	}
}

// What other programs read has to keep its names.
func TestMemberJSON(t *testing.T) {
	d := &donor{member: func() Member {
		return Member{Name: "db-1", Role: Replica, Phase: "published", Flavor: "mariadb", Reason: "why"}
	}}
	r := start(t, d, ServerConfig{}, nil)
	const want = `{"name":"db-1","role":"replica","phase":"published","flavor":"mariadb","ready":false,"reason":"why","clone_slots":1,"clone_slots_busy":0}` + "\n"
	if status, body := request(t, http.MethodGet, r.addr, pathMember, nil); status != http.StatusOK || body != want {
		t.Errorf("%d %s", status, body)
	}
}

// HEAD, which a router takes for GET, starts no backup.
func TestHead(t *testing.T) {
	r := start(t, newTapes(t, whole(nil)).donor(), ServerConfig{}, nil)
	status, _ := request(t, http.MethodHead, r.addr, pathClone, http.Header{headerMember: {"db-1"}})
	if status != http.StatusMethodNotAllowed {
		t.Errorf("status %d", status)
	}
}
