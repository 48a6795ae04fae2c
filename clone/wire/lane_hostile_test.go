package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/clone/trust"
)

// liar is a donor that gives lanes by the protocol as it is written down, and lies.
type liar struct {
	data  []byte
	lanes int
	// frames changes the stripes of a lane, in the order in which they are sent.
	frames func(lane int, all [][]byte) [][]byte
	// header and trailer change the answer for a lane.
	header, trailer func(lane int, h http.Header)
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, isLane := "0123456789abcdef", r.Header.Get(headerLane)
	switch {
	case r.Method == http.MethodGet && r.URL.Path == pathClone:
		isLane = "0"
	case r.Method != http.MethodGet || isLane == "": // a liar of several connections
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"code":"gone","error":"no such stream"}`)
		return
	}
	lane, _ := strconv.Atoi(isLane)
	from, _ := strconv.ParseInt(r.Header.Get(headerOffset), 10, 64)
	v := testHeader
	v.StreamID, v.Connections = id, l.lanes
	setHeader(w.Header(), v, place{from, lane})
	w.Header().Set(headerReportBytes, "1000000")
	w.Header().Set(headerReportEvery, "1s")
	if l.header != nil {
		l.header(lane, w.Header())
	}
	var frames [][]byte
	for at := max(from, int64(lane)*stripeSize); at < int64(len(l.data)); at += int64(l.lanes) * stripeSize {
		frames = append(frames, framed(at, l.data[at:min(at+stripeSize, int64(len(l.data)))]))
	}
	if l.frames != nil {
		frames = l.frames(lane, frames)
	}
	w.WriteHeader(http.StatusOK)
	for _, f := range frames {
		_, _ = w.Write(f)
	}
	digest := newDigest()
	_, _ = digest.Write(l.data)
	trailer := http.Header{trailerStatus: {"0"}, trailerBytes: {strconv.Itoa(len(l.data))}, trailerDigest: {digestString(digest)}}
	if l.trailer != nil {
		l.trailer(lane, trailer)
	}
	maps.Copy(w.Header(), trailer)
}

// Whatever a donor sends instead of the stripes that are due, the joiner does not take it for a
// clone, and says so at once.
func TestLyingLanes(t *testing.T) {
	const lanes, size = 3, 7*stripeSize + 99
	data := noise(size)
	only := func(lane int, change func([][]byte) [][]byte) func(int, [][]byte) [][]byte {
		return func(i int, all [][]byte) [][]byte {
			if i == lane {
				return change(all)
			}
			return all
		}
	}
	frame := func(at int64, n int) []byte { return framed(at, make([]byte, n)) }
	header := func(lane int, name, value string) func(int, http.Header) {
		return func(i int, h http.Header) {
			if i == lane {
				h.Set(name, value)
			}
		}
	}
	for _, tt := range []struct {
		name string
		l    liar
		want error
	}{
		{"a stripe twice", liar{frames: only(1, func(a [][]byte) [][]byte { return append(a[:1:1], a...) })}, errStripe},
		{"two in another order", liar{frames: only(0, func(a [][]byte) [][]byte { return [][]byte{a[1], a[0], a[2]} })}, errStripe},
		{"one is missing", liar{frames: only(2, func(a [][]byte) [][]byte { return a[1:] })}, errStripe},
		{"one of another lane", liar{frames: only(0, func(a [][]byte) [][]byte { a[1] = frame(4*stripeSize, stripeSize); return a })}, errStripe},
		{"one that overlaps", liar{frames: only(0, func(a [][]byte) [][]byte { a[1] = frame(3*stripeSize-5, stripeSize); return a })}, errStripe},
		{"one far away", liar{frames: only(0, func(a [][]byte) [][]byte { a[1] = frame(1<<60, stripeSize); return a })}, errStripe},
		{"a large one", liar{frames: only(0, func(a [][]byte) [][]byte { a[1] = frame(3*stripeSize, stripeSize+1); return a })}, errStripe},
		{"an empty one", liar{frames: only(0, func(a [][]byte) [][]byte { a[1] = frame(3*stripeSize, 0); return a })}, errStripe},
		{"a short one in the middle", liar{frames: only(1, func(a [][]byte) [][]byte { a[1] = frame(4*stripeSize, 10); return a })}, errStripe},
		{"one behind the last one", liar{frames: only(2, func(a [][]byte) [][]byte { return append(a, frame(8*stripeSize, 10)) })}, errStripe},
		{"one far behind the last one", liar{frames: only(1, func(a [][]byte) [][]byte { return append(a, frame(10*stripeSize, 10)) })}, errStripe},
		{"a lane ends early", liar{frames: only(2, func(a [][]byte) [][]byte { return a[:1] })}, errStripe},
		{"the last stripe is missing", liar{frames: only(1, func(a [][]byte) [][]byte { return a[:len(a)-1] })}, ErrIncomplete},
		{"all but one stripe is missing", liar{frames: func(i int, a [][]byte) [][]byte { return a[:max(0, 1-i)] }}, ErrIncomplete},
		{"no stripe", liar{frames: func(int, [][]byte) [][]byte { return nil }}, ErrIncomplete},
		{"garbage behind the last one", liar{frames: only(1, func(a [][]byte) [][]byte { return append(a, []byte("garbage")) })}, ErrIncomplete},
		{"another digest", liar{frames: only(1, func(a [][]byte) [][]byte { a[0][15]++; return a })}, ErrDigest},
		{"another byte", liar{frames: only(2, func(a [][]byte) [][]byte { a[0][frameSize+77]++; return a })}, ErrDigest},
		{"another byte, and its digest", liar{frames: only(0, func(a [][]byte) [][]byte { a[0] = frame(0, stripeSize); return a })}, ErrDigest},
		{"stripes exchanged, and their frames to match", liar{frames: func(i int, a [][]byte) [][]byte {
			if i < 2 {
				at := int64(1 - i)
				a[0] = framed(int64(i)*stripeSize, data[at*stripeSize:(at+1)*stripeSize])
			}
			return a
		}}, ErrDigest},
		{"no trailers", liar{trailer: func(_ int, h http.Header) { clear(h) }}, ErrIncomplete},
		{"another number of bytes", liar{trailer: func(_ int, h http.Header) { h.Set(trailerBytes, "1") }}, ErrIncomplete},
		{"another proof", liar{trailer: func(_ int, h http.Header) { h.Set(trailerDigest, "xxh64:00") }}, ErrDigest},
		{"different proofs", liar{trailer: header(0, trailerDigest, "xxh64:00")}, errStripe},
		{"different numbers of bytes", liar{trailer: header(2, trailerBytes, "1")}, errStripe},
		{"one lane failed", liar{trailer: header(0, trailerStatus, "1")}, errStripe},
		{"all lanes failed", liar{trailer: func(_ int, h http.Header) { h.Set(trailerStatus, "1") }}, ErrIncomplete},
		{"another stream", liar{header: header(1, headerStream, "fedcba9876543210")}, ErrIncomplete},
		{"another lane", liar{header: header(1, headerLane, "2")}, ErrIncomplete},
		{"another place", liar{header: header(1, headerOffset, "0")}, ErrIncomplete},
		{"another encoding", liar{header: header(1, headerEncoding, "zstd")}, ErrIncomplete},
		{"another kind of body", liar{header: header(2, "Content-Type", contentType)}, ErrIncomplete},
		{"more connections than asked for", liar{header: header(0, headerConnections, "9")}, ErrProtocol},
		{"no connections", liar{header: header(0, headerConnections, "0")}, ErrProtocol},
		{"connections without number", liar{header: header(0, headerConnections, "many")}, ErrProtocol},
		{"one connection, and lanes", liar{header: func(_ int, h http.Header) { h.Del(headerConnections) }}, ErrProtocol},
		{"lanes, and the body of a stream", liar{header: header(0, "Content-Type", contentType)}, ErrProtocol},
		{"the first one is another lane", liar{header: header(0, headerLane, "1")}, ErrProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := tt.l
			l.data, l.lanes = data, lanes
			c := striped(t, lie(t, l.ServeHTTP), lanes)
			begun := time.Now()
			s, err := c.Clone(t.Context())
			var got []byte
			if err == nil {
				if got, err = io.ReadAll(s); err == nil {
					_, err = s.Finish()
				}
				_ = s.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if err != nil && !errors.Is(tt.want, ErrProtocol) && !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrDigest) { // what a joiner begins again after
				t.Errorf("%v", err)
			}
			if took := time.Since(begun); took > soon/2 {
				t.Errorf("it took %v", took)
			}
		})
	}
	t.Run("no lie", func(t *testing.T) {
		l := liar{data: data, lanes: lanes}
		got, _, err := take(t, striped(t, lie(t, l.ServeHTTP), lanes))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// A lane is given to the peer that began the clone, and nobody else.
func TestForeignLane(t *testing.T) {
	old, rotating := identity(t, 'a'), identity(t, 'b', 'a') // the second one's key is another
	r := start(t, newTapes(t, stuck(noise(4*stripeSize))).donor(), ServerConfig{Slots: 2, Grace: soon}, identity(t, 'a', 'b').Server())
	c := striped(t, r.addr, 2, func(c *ClientConfig) { c.TLS = old.Client() })
	s := open(t, c)
	plain := open(t, client(t, r.addr, "db-5", old.Client()))
	for _, tt := range []struct {
		name         string
		member       string
		id           *trust.Identity
		stream       string
		lane, offset string
		want         string
	}{
		{"another member", "db-2", old, s.Header.StreamID, "1", "1048576", "no such stream"},
		{"another key of the set", "db-1", rotating, s.Header.StreamID, "1", "1048576", "no such stream"},
		{"another secret", "db-1", identity(t, 'c'), s.Header.StreamID, "1", "1048576", "secret"},
		{"another id", "db-1", old, newStreamID(), "1", "1048576", "no such stream"},
		{"the id of another member's clone", "db-1", old, plain.Header.StreamID, "1", "1048576", "no such stream"},
		{"a clone of one connection", "db-5", old, plain.Header.StreamID, "1", "1048576", errGone.Error()},
		{"a lane that was not granted", "db-1", old, s.Header.StreamID, "2", "2097152", errGone.Error()},
		{"a lane beyond all", "db-1", old, s.Header.StreamID, "8", "8388608", "must name a lane"},
		{"a lane before all", "db-1", old, s.Header.StreamID, "-1", "0", "must name a lane"},
		{"no lane", "db-1", old, s.Header.StreamID, "x", "0", "must name a lane"},
		{"another lane's stripe", "db-1", old, s.Header.StreamID, "1", "0", errGone.Error()},
		{"the middle of a stripe", "db-1", old, s.Header.StreamID, "1", "1048577", errGone.Error()},
		{"a stripe to come", "db-1", old, s.Header.StreamID, "1", "1049577029632", errGone.Error()},
		{"less than nothing", "db-1", old, s.Header.StreamID, "1", "-1048576", "from where"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res, err := client(t, r.addr, tt.member, tt.id.Client()).open(t.Context(), pathClone+"/"+tt.stream, http.Header{headerOffset: {tt.offset}, headerLane: {tt.lane}})
			if err == nil {
				_ = res.Body.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v", err)
			}
		})
	}
	// None of them disturbed it.
	if _, err := io.CopyN(io.Discard, s, 4*stripeSize); err != nil || s.Resumed() != 0 {
		t.Errorf("resumed %d times, %v", s.Resumed(), err)
	}
}

// However many connections are asked for, and made, a clone has as many as were granted.
func TestTooManyConnections(t *testing.T) {
	for asked, granted := range map[string]int{"1": 1, "0": 1, "-3": 1, "x": 1, "": 1, "2": 2, "8": 8, "9": 8, "1000000": 8, "99999999999999999999": 1} {
		if got := askedConnections(asked); got != granted {
			t.Errorf("of %q connections, %d were granted", asked, got)
		}
	}
	r := start(t, newTapes(t, endless).donor(), ServerConfig{}, nil)
	c := client(t, r.addr, "db-1", nil)
	ask := func(path string, header http.Header) http.Header {
		t.Helper()
		res, err := c.open(t.Context(), path, header)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res.Header
	}
	h := ask(pathClone, http.Header{headerConnections: {"100"}})
	if got := h.Get(headerConnections); got != "8" {
		t.Errorf("%q connections were granted", got)
	}
	for i := range 40 {
		lane := 1 + i%7
		ask(pathClone+"/"+h.Get(headerStream), http.Header{headerLane: {strconv.Itoa(lane)}, headerOffset: {strconv.Itoa(lane * stripeSize)}})
	}
	o := r.active()[0]
	o.mu.Lock()
	n := len(o.turns)
	o.mu.Unlock()
	if n > MaxConnections {
		t.Errorf("%d connections carry the clone", n)
	}
}

// A joiner that reads nothing, or lies about what it has, does not make the donor hold more than its
// ring, and nobody but itself gets wrong bytes: no stripe is overwritten before it has been sent.
func TestReportsOfALyingJoiner(t *testing.T) {
	const size = 160 // stripes, more than all buffers on the way
	data := noise(size * stripeSize)
	r := start(t, newTapes(t, whole(data)).donor(), ServerConfig{Grace: soon}, nil)
	c := client(t, r.addr, "db-1", nil)
	res, err := c.open(t.Context(), pathClone, http.Header{headerConnections: {"2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	stream := res.Header.Get(headerStream)
	other, err := c.open(t.Context(), pathClone+"/"+stream, http.Header{headerLane: {"1"}, headerOffset: {"1048576"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Body.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	var reports sync.WaitGroup
	defer reports.Wait()
	defer cancel()
	reported := make(chan bool)
	reports.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if n == 100 {
				close(reported)
			}
			giving := r.Giving()
			if len(giving) == 0 {
				return
			}
			made := strconv.FormatInt(giving[0].Bytes, 10) // all that there is
			report := exchange{http.MethodPut, pathClone + "/" + stream, http.Header{headerOffset: {made}}, http.NoBody}
			if res, err := c.doWith(ctx, c.reports, report); err == nil {
				_ = res.Body.Close()
			}
		}
	})
	within(t, "reports", soon, reported)
	for k := range size / 2 {
		for lane, body := range []io.Reader{res.Body, other.Body} {
			at := int64(2*k+lane) * stripeSize
			l := newLane(&Client{}, Header{Connections: 2}, lane, &watch{})
			l.next = at
			buf := make([]byte, stripeSize)
			n, err := l.stripe(body, buf)
			if err != nil || !bytes.Equal(buf[:n], data[at:at+stripeSize]) {
				t.Fatalf("the stripe at %d: %d bytes, %v", at, n, err)
			}
		}
	}
}

// Neither peer of an earlier version sees anything of connections: what a joiner of one connection
// asks, and what it is answered, has none of their headers, and a donor that does not know them
// gives the stream to one that does.
func TestEarlierVersions(t *testing.T) {
	data := noise(3*stripeSize + 5)
	for asked, news := range map[int]bool{0: false, 1: false, 4: true} {
		ts := newTapes(t, whole(data))
		server := newServer(ts.donor(), ServerConfig{Grace: soon})
		var mu sync.Mutex
		requests, kinds := []string{}, []string{}
		r := startOn(t, listen(t), server, nil, func(s *http.Server) {
			handler := s.Handler
			s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				if r.Method == http.MethodGet {
					requests = append(requests, r.URL.Path+" "+r.Header.Get(headerConnections)+" "+r.Header.Get(headerLane))
				}
				mu.Unlock()
				r.Header.Del(headerConnections) // an earlier version ignores it
				handler.ServeHTTP(w, r)
				mu.Lock()
				defer mu.Unlock()
				if r.Method == http.MethodGet {
					kinds = append(kinds, w.Header().Get("Content-Type")+w.Header().Get(headerConnections)+w.Header().Get(headerLane))
				}
			})
		})
		got, result, err := take(t, striped(t, r.addr, asked))
		if err != nil || !bytes.Equal(got, data) || result.Bytes != int64(len(data)) {
			t.Fatalf("%d bytes, %+v, %v", len(got), result, err)
		}
		want := pathClone + "  "
		if news {
			want = pathClone + " 4 "
		}
		mu.Lock()
		if !slices.Equal(requests, []string{want}) || !slices.Equal(kinds, []string{contentType}) {
			t.Errorf("%d connections: asked %q, answered %q", asked, requests, kinds)
		}
		mu.Unlock()
	}
}

// A clone over several connections ends as one over a single connection does.
func TestEndsOfConnections(t *testing.T) {
	const lanes = 4
	gone := func(t *testing.T, r *running) {
		t.Helper()
		for deadline := time.Now().Add(soon); r.Busy() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the donor still gives the clone")
			}
		}
	}
	t.Run("the joiner leaves", func(t *testing.T) {
		for _, read := range []int64{0, 1, stripeSize, 30 * stripeSize} {
			r := start(t, newTapes(t, endless).donor(), ServerConfig{Grace: time.Hour}, nil)
			s := open(t, striped(t, r.addr, lanes))
			if _, err := io.CopyN(io.Discard, s, read); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			_ = s.Close()
			gone(t, r)
			if took := time.Since(begun); took > soon { // or it has waited for the joiner
				t.Errorf("after %d bytes it took %v", read, took)
			}
		}
	})
	t.Run("the joiner is interrupted", func(t *testing.T) {
		r := start(t, newTapes(t, endless).donor(), ServerConfig{Grace: time.Hour}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		s, err := striped(t, r.addr, lanes).Clone(ctx)
		if err != nil {
			t.Fatal(err)
		}
		reading := inBackground(func() error { _, err := io.Copy(io.Discard, s); return err })
		time.Sleep(50 * time.Millisecond) // the instant does not matter
		cancel()
		if err := within(t, "the end", soon, reading); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		_ = s.Close()
		gone(t, r)
	})
	t.Run("the backup fails", func(t *testing.T) {
		for _, size := range []int{10, 3 * stripeSize, 9*stripeSize + 7} {
			ts := newTapes(t, func(context.Context, int) (io.Reader, func() error) {
				return bytes.NewReader(noise(size)), func() error { return errors.New("the tool fell over") }
			})
			outcomes := make(chan Outcome, 1)
			r := start(t, ts.donor(), ServerConfig{Grace: soon, Observe: func(o Outcome) { outcomes <- o }}, nil)
			_, _, err := take(t, striped(t, r.addr, lanes))
			if !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "the tool fell over") {
				t.Errorf("after %d bytes: %v", size, err)
			}
			if o := within(t, "outcome", soon, outcomes); o.Err == nil {
				t.Errorf("outcome %+v", o)
			}
		}
	})
	t.Run("the donor is drained", func(t *testing.T) {
		r := start(t, newTapes(t, endless).donor(), ServerConfig{Grace: soon}, nil)
		s := open(t, striped(t, r.addr, lanes))
		reading := inBackground(func() error { _, err := s.Finish(); return err })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		r.Drain(ctx)
		if err := within(t, "the end", soon, reading); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), errDraining.Error()) {
			t.Error(err)
		}
	})
	t.Run("the joiner asks again", func(t *testing.T) {
		r := start(t, newTapes(t, endless).donor(), ServerConfig{Grace: soon}, nil)
		first := open(t, striped(t, r.addr, lanes))
		reading := inBackground(func() error { _, err := first.Finish(); return err })
		second := open(t, striped(t, r.addr, lanes))
		if err := within(t, "the end", soon, reading); !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), errReplaced.Error()) {
			t.Error(err)
		}
		if _, err := io.CopyN(io.Discard, second, 10*stripeSize); err != nil {
			t.Error(err)
		}
	})
}

// One bound of the rate is for all connections together.
func TestThrottledConnections(t *testing.T) {
	const rate, size = 8 << 20, 6 * stripeSize
	data := noise(size)
	r := start(t, newTapes(t, whole(data)).donor(), ServerConfig{Throttle: NewThrottle(rate)}, nil)
	begun := time.Now()
	got, _, err := take(t, striped(t, r.addr, 4))
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if took, least := time.Since(begun), time.Duration(size-readSize)*time.Second/rate; took < least {
		t.Errorf("it took %v, not %v", took, least)
	}
}

// A joiner whose volume takes nothing makes the donor wait: it has no more than its ring, and the
// joiner two stripes for each connection.
func TestConnectionsWaitForTheVolume(t *testing.T) {
	r := start(t, newTapes(t, endless).donor(), ServerConfig{Grace: soon}, nil)
	s := open(t, striped(t, r.addr, MaxConnections))
	const taken = 5 // which the joiner may report: their place in the ring is free then
	if _, err := io.CopyN(io.Discard, s, taken); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	for made := int64(0); made != last; time.Sleep(300 * time.Millisecond) { // there is no event for "nothing happens"
		last, made = made, r.Giving()[0].Bytes
	}
	o := r.active()[0]
	o.mu.Lock()
	ring := int64(len(o.ring.buf))
	o.mu.Unlock()
	if last > ring+taken {
		t.Errorf("%d bytes were made for a ring of %d, and %d were taken", last, ring, taken)
	}
	if _, err := io.CopyN(io.Discard, s, 3*ring); err != nil || s.Resumed() != 0 {
		t.Errorf("resumed %d times, %v", s.Resumed(), err)
	}
}
