package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// reportTo has c's reports take another way than its clones.
func reportTo(c *Client, addr string) {
	c.reports.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) { //nolint:forcetypeassert // NewClient makes it
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
}

// zeros plays n of them in every backup.
func zeros(n int64) func(context.Context, int) (io.Reader, func() error) {
	return func(ctx context.Context, _ int) (io.Reader, func() error) {
		r, _ := endless(ctx, 0)
		return io.LimitReader(r, n), wholly
	}
}

// A joiner whose volume stalls for longer than the donor waits for a dead one keeps its clone, and
// its connection.
func TestVolumeStalls(t *testing.T) {
	const size, stall = 96 << 20, time.Second // four reports come in that time
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			id := identity(t, 'a')
			r := start(t, newTapes(t, zeros(size)).donor(), ServerConfig{Stall: stall, Grace: stall}, tr.server(id))
			s := open(t, client(t, r.addr, "db-1", tr.client(id)))
			if _, err := io.CopyN(io.Discard, s, 1<<20); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * stall) // the volume's stall is this test's subject
			result, err := s.Finish()
			if err != nil || result.Bytes != size || s.Resumed() != 0 {
				t.Errorf("%+v, resumed %d times, %v", result, s.Resumed(), err)
			}
		})
	}
}

// A joiner that has reported and dies without a word does not keep its slot, whether its
// connection is full or waits for its next report.
func TestDeadJoiner(t *testing.T) {
	for _, reports := range []int{0, 1} {
		t.Run(strconv.Itoa(reports)+" reports", func(t *testing.T) {
			outcomes := make(chan Outcome, 1)
			ts := newTapes(t, endless)
			const stall = 200 * time.Millisecond
			r := start(t, ts.donor(), ServerConfig{Stall: stall, Grace: stall, Observe: func(o Outcome) { outcomes <- o }}, nil)
			c := client(t, r.addr, "db-1", nil)
			res, err := c.open(t.Context(), pathClone, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
				t.Fatal(err)
			}
			for range reports {
				if status := reported(t, r.addr, res.Header.Get(headerStream), 1<<20); status != http.StatusNoContent {
					t.Fatal(status)
				}
			}
			begun := time.Now()
			within(t, "outcome", soon, outcomes)
			if took := time.Since(begun); took > 20*stall {
				t.Errorf("the slot was free after %v", took)
			}
		})
	}
}

// reported says on the joiner's behalf that it has all bytes before offset.
func reported(t *testing.T, addr, stream string, offset int64) (status int) {
	t.Helper()
	status, _ = request(t, http.MethodPut, addr, pathClone+"/"+stream, http.Header{headerMember: {"db-1"}, headerOffset: {strconv.FormatInt(offset, 10)}})
	return status
}

// A joiner that has reported, comes back on another connection and reports no more does not keep
// its slot, although its kernel takes all bytes: the donor waits for a report then.
func TestResumedJoinerIsSilent(t *testing.T) {
	const stall, read = 200 * time.Millisecond, 1 << 20
	outcomes := make(chan Outcome, 1)
	r := start(t, newTapes(t, endless).donor(), ServerConfig{Stall: stall, Grace: stall, Observe: func(o Outcome) { outcomes <- o }}, nil)
	c := client(t, r.addr, "db-1", nil)
	res, err := c.open(t.Context(), pathClone, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, res.Body, read); err != nil {
		t.Fatal(err)
	}
	stream := res.Header.Get(headerStream)
	if status := reported(t, r.addr, stream, read); status != http.StatusNoContent {
		t.Fatal(status)
	}
	_ = res.Body.Close()
	again, err := c.open(t.Context(), pathClone+"/"+stream, http.Header{headerOffset: {strconv.Itoa(read)}})
	if err != nil {
		t.Fatal(err)
	}
	taken := inBackground(func() error { _, err := io.Copy(io.Discard, again.Body); return err })
	if o := within(t, "outcome", soon, outcomes); !errors.Is(o.Err, errAbandoned) {
		t.Errorf("outcome %+v", o)
	}
	_ = again.Body.Close()
	t.Log(<-taken) // what it is told depends on where the donor was
}

// A joiner whose volume stalled for longer than it reports goes on reporting once its volume does.
func TestReportsAfterALongStall(t *testing.T) {
	const size, stall = 256 << 20, time.Second
	r := start(t, newTapes(t, zeros(size)).donor(), ServerConfig{Stall: stall, Grace: soon}, nil)
	c := client(t, r.addr, "db-1", nil)
	c.config.Stall = stall / stallShare // its patience with its own volume is a multiple of that
	s := open(t, c)
	if _, err := io.CopyN(io.Discard, s, 1<<20); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(soon); r.Giving()[0].Connected && time.Now().Before(deadline); { // the donor takes the joiner for dead
		time.Sleep(stall / 10)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	defer context.AfterFunc(ctx, s.cancel)()
	result, err := s.Finish()
	if err != nil || result.Bytes != size || s.Resumed() != 1 {
		t.Errorf("%+v, resumed %d times, %v", result, s.Resumed(), err)
	}
}

// Reports do not keep a slot for ever: what was sent has to arrive in the end. They do so for as
// long as it takes when it is the backup that is silent.
func TestReportsWithoutProgress(t *testing.T) {
	const stall, size = 500 * time.Millisecond, 1 << 20
	for _, tt := range []struct {
		name   string
		play   func(context.Context, int) (io.Reader, func() error)
		broken bool // the joiner's connection breaks, and it does not come back
		kept   bool
	}{
		{"the joiner takes nothing", endless, false, false},
		{"its connection broke, too", endless, true, false},
		{"the backup is silent", stuck(noise(size)), false, true},
		{"the backup is silent and the connection broke", stuck(noise(size)), true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // each waits
			outcomes := make(chan Outcome, 1)
			r := start(t, newTapes(t, tt.play).donor(), ServerConfig{Stall: stall, Grace: 2 * stall, Observe: func(o Outcome) { outcomes <- o }}, nil)
			res, err := client(t, r.addr, "db-1", nil).open(t.Context(), pathClone, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			if _, err := io.CopyN(io.Discard, res.Body, size); err != nil {
				t.Fatal(err)
			}
			if tt.broken {
				_ = res.Body.Close()
			}
			begun, tick := time.Now(), time.NewTicker(stall/4)
			defer tick.Stop()
			for time.Since(begun) < 2*stallShare*stall {
				select {
				case o := <-outcomes:
					if took := time.Since(begun); tt.kept || took < stallShare*stall {
						t.Errorf("ended after %v: %v", took, o.Err)
					}
					return
				case <-tick.C:
					reported(t, r.addr, res.Header.Get(headerStream), size)
				}
			}
			if !tt.kept {
				t.Error("the joiner still has its slot")
			}
		})
	}
}

// hop is a proxy of a service mesh that buffers without a bound, between a donor and its joiner.
type hop struct {
	target string
	wg     sync.WaitGroup
	cut    chan struct{} // closed to break the first connection
	once   sync.Once
	passed chan struct{} // closed when the first connection is broken
}

func (h *hop) listen(t *testing.T) (addr string) {
	t.Helper()
	l := listen(t)
	h.cut, h.passed = make(chan struct{}), make(chan struct{})
	h.wg.Go(func() {
		for first := true; ; first = false {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { h.pass(c, first) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		h.strike()
		h.wg.Wait()
	})
	return l.Addr().String()
}

// strike breaks the first connection.
func (h *hop) strike() { h.once.Do(func() { close(h.cut) }) }

func (h *hop) pass(joiner net.Conn, first bool) {
	defer func() { _ = joiner.Close() }()
	donor, err := net.Dial("tcp", h.target) //nolint:noctx // ends with the connection
	if err != nil {
		return
	}
	defer func() { _ = donor.Close() }()
	h.wg.Go(func() {
		_, _ = io.Copy(donor, joiner)
		_ = donor.Close()
	})
	if !first {
		_, _ = io.Copy(joiner, donor)
		return
	}
	buffered := make(chan []byte, 1<<20)
	h.wg.Go(func() {
		defer close(buffered)
		for {
			b := make([]byte, 32<<10)
			n, err := donor.Read(b)
			if n > 0 {
				buffered <- b[:n]
			}
			if err != nil {
				return
			}
		}
	})
	h.wg.Go(func() {
		<-h.cut
		_ = joiner.(*net.TCPConn).SetLinger(0) //nolint:forcetypeassert // a TCP listener has no others
		_ = joiner.Close()
		_ = donor.Close()
		close(h.passed)
	})
	for b := range buffered {
		if _, err := joiner.Write(b); err != nil {
			break
		}
	}
	<-h.passed
	for range buffered { // what the hop had is lost
	}
}

// However much a hop between the two buffers, what is lost with it is still at the donor.
func TestReplayCoversAHop(t *testing.T) {
	const size = 200 << 20
	r := start(t, newTapes(t, zeros(size)).donor(), ServerConfig{Grace: soon}, nil)
	h := &hop{target: r.addr}
	c := client(t, h.listen(t), "db-1", nil)
	reportTo(c, r.addr)
	s := open(t, c)
	if _, err := io.CopyN(io.Discard, s, 30<<20); err != nil {
		t.Fatal(err)
	}
	for last := int64(-1); ; time.Sleep(200 * time.Millisecond) { // there is no event for "nothing moves"
		giving := r.Giving()
		if len(giving) == 0 {
			t.Fatal("the hop has taken all of it")
		}
		sent := giving[0].Sent
		if sent == last {
			break
		}
		last = sent
	}
	h.strike()
	within(t, "cut", soon, h.passed)
	result, err := s.Finish()
	if err != nil || result.Bytes != size || s.Resumed() != 1 {
		t.Errorf("%+v, resumed %d times, %v", result, s.Resumed(), err)
	}
}

// What a hop buffers when the donor has sent the last byte is still at the donor for as long as the
// joiner reports.
func TestReportsKeepTheLastBytes(t *testing.T) {
	const size, grace = 20 << 20, time.Second
	r := start(t, newTapes(t, zeros(size)).donor(), ServerConfig{Stall: grace, Grace: grace}, nil)
	h := &hop{target: r.addr}
	c := client(t, h.listen(t), "db-1", nil)
	reportTo(c, r.addr)
	s := open(t, c)
	if _, err := io.CopyN(io.Discard, s, 1<<20); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(soon); r.Busy() > 0; time.Sleep(grace / 10) {
		if time.Now().After(deadline) {
			t.Fatal("the donor has not sent all")
		}
	}
	time.Sleep(3 * grace) // the joiner's volume stalls
	h.strike()
	within(t, "cut", soon, h.passed)
	result, err := s.Finish()
	if err != nil || result.Bytes != size || s.Resumed() != 1 {
		t.Errorf("%+v, resumed %d times, %v", result, s.Resumed(), err)
	}
}

// Who may report, and what.
func TestReport(t *testing.T) {
	r := start(t, newTapes(t, stuck(noise(1<<20))).donor(), ServerConfig{}, nil)
	s := open(t, client(t, r.addr, "db-1", nil))
	path := pathClone + "/" + s.Header.StreamID
	for _, tt := range []struct {
		name, member, path, offset string
		want                       int
	}{
		{"the joiner", "db-1", path, "0", http.StatusNoContent},
		{"more than was sent", "db-1", path, "99999999", http.StatusNoContent},
		{"another member", "db-2", path, "0", http.StatusNotFound},
		{"another stream", "db-1", pathClone + "/" + newStreamID(), "0", http.StatusNotFound},
		{"no offset", "db-1", path, "", http.StatusBadRequest},
		{"less than nothing", "db-1", path, "-1", http.StatusBadRequest},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if status, body := request(t, http.MethodPut, r.addr, tt.path, http.Header{headerMember: {tt.member}, headerOffset: {tt.offset}}); status != tt.want {
				t.Errorf("status %d, want %d: %s", status, tt.want, body)
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if status, _ := request(t, http.MethodPut, r.addr, path, http.Header{headerMember: {"db-1"}, headerOffset: {"0"}}); status != http.StatusNotFound {
		t.Errorf("after the end: status %d", status)
	}
}
