//go:build faults

package faults

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/e2e/network"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
)

const recording = "../../clone/xbstream/testdata/mariadb-10.11.19-primary"

// stream is what the real mariadb-backup 10.11 wrote on a primary.
var stream = sync.OnceValue(func() []byte {
	packed, err := os.ReadFile(recording + ".xbstream.zst")
	if err != nil {
		panic(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		panic(err)
	}
	defer d.Close()
	text, err := d.DecodeAll(packed, nil)
	if err != nil {
		panic(err)
	}
	return text
})

// manifest are the digests of the files that mbstream made of the stream.
var manifest = sync.OnceValue(func() map[string]string {
	text, err := os.ReadFile(recording + ".sha256")
	if err != nil {
		panic(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	return sums
})

// chunk is a part of the stream: see clone/xbstream for the format.
type chunk struct {
	at, end int
	kind    byte
	path    string
}

const (
	kindAt  = 9  // the type, behind magic and flags
	sizeAt  = 10 // the path's length
	pathAt  = 14
	payload = 20 // from the end of the path to the payload: length, offset, checksum
)

// chunks are the borders of the stream.
var chunks = sync.OnceValue(func() []chunk {
	b, all := stream(), []chunk(nil)
	for at := 0; at < len(b); {
		size := int(binary.LittleEndian.Uint32(b[at+sizeAt:]))
		c := chunk{at: at, kind: b[at+kindAt], path: string(b[at+pathAt : at+pathAt+size]), end: at + pathAt + size}
		if c.kind == 'P' {
			c.end += payload + int(binary.LittleEndian.Uint64(b[c.end:]))
		}
		all = append(all, c)
		at = c.end
	}
	return all
})

// recorded is a donor that speaks the protocol as it is written down, and replays one
// stream. Its fields are the lies that it can tell.
type recorded struct {
	header map[string]string
	pieces [][]byte // the body
	// proof are the trailers; nil for none.
	proof map[string]string
	// page, when set, is all that it answers.
	page http.HandlerFunc
	// hold is where it stops for a while, pause how long, and works whether it says meanwhile that
	// it goes on.
	hold  int64
	pause time.Duration
	works bool
	// forget lets it know no stream any more; other makes a resumed stream another one.
	forget, other bool
	// raw makes it a donor of the Kubernetes tutorial: whoever connects gets the pieces.
	raw bool

	mu      sync.Mutex
	given   map[string]*replayed
	serving int // running requests for streams
	asked   int // for new streams
}

type replayed struct {
	joiner string
	sent   int64
	held   bool
	begun  time.Time
}

// proofOf are the trailers of a whole stream.
func proofOf(pieces ...[]byte) map[string]string {
	digest, n := xxhash.New(), 0
	for _, p := range pieces {
		_, _ = digest.Write(p) // never fails, see hash.Hash
		n += len(p)
	}
	return trailers(n, digest)
}

func trailers(n int, digest hash.Hash) map[string]string {
	return map[string]string{
		"Understudy-Exit-Status": "0", "Understudy-Bytes": strconv.Itoa(n), "Understudy-Digest": fmt.Sprintf("xxh64:%x", digest.Sum(nil)),
	}
}

// borderProofs are, for each chunk, those of what comes before it.
var borderProofs = sync.OnceValue(func() []map[string]string {
	digest, all := xxhash.New(), []map[string]string(nil)
	for _, c := range chunks() {
		all = append(all, trailers(c.at, digest))
		_, _ = digest.Write(stream()[c.at:c.end]) // as above
	}
	return all
})

var wholeProof = sync.OnceValue(func() map[string]string { return proofOf(stream()) })

// replay makes a donor that does not lie.
func replay() *recorded {
	return &recorded{
		header: map[string]string{
			"Content-Type": "application/vnd.understudy.xbstream", "Understudy-Engine": "mariadb-backup",
			"Understudy-Server-Version": "10.11.19-MariaDB", "Understudy-Role": "primary", "Understudy-Origin": "gtid",
			"Understudy-Estimated-Bytes": strconv.Itoa(len(stream())), "Understudy-Encoding": "none",
		},
		pieces: [][]byte{stream()}, proof: wholeProof(), given: map[string]*replayed{}, hold: -1,
	}
}

// listen answers until the test ends, and returns where.
func (d *recorded) listen(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if d.raw {
		d.listenRaw(t, l)
		return l.Addr().String()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/member", d.member)
	mux.HandleFunc("GET /v1/clone", d.clone)
	mux.HandleFunc("GET /v1/clone/{id}", d.resume)
	mux.HandleFunc("DELETE /v1/clone/{id}", func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		delete(d.given, r.PathValue("id"))
		d.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	})
	network.Serve(t, l, mux)
	return l.Addr().String()
}

// member answers as the member of the set db that is looked for at its address: see joiner.args.
func (d *recorded) member(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	giving := []map[string]any{}
	for id, g := range d.given {
		phase := "copying"
		if g.held && d.works {
			phase = "waiting for a lock, " + time.Since(g.begun).String()
		}
		giving = append(giving, map[string]any{"stream": id, "joiner": g.joiner, "phase": phase, "bytes": g.sent, "sent": g.sent})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"name": "db-1", "clone_slots": 1, "giving": giving}) // a peer that left is not our error
}

func (d *recorded) clone(w http.ResponseWriter, r *http.Request) {
	if d.page != nil {
		d.page(w, r)
		return
	}
	d.mu.Lock()
	d.asked++
	id := fmt.Sprintf("%016x", time.Now().UnixNano())
	d.given[id] = &replayed{joiner: r.Header.Get("Understudy-Member"), begun: time.Now()}
	d.mu.Unlock()
	d.send(w, r, id, 0)
}

func (d *recorded) resume(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	offset, err := strconv.ParseInt(r.Header.Get("Understudy-Offset"), 10, 64)
	d.mu.Lock()
	known := d.given[id] != nil
	d.mu.Unlock()
	if err != nil || !known || d.forget {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"code":"gone","error":"no such stream"}`)) // as above
		return
	}
	if d.other {
		id += "0"
	}
	d.send(w, r, id, offset)
}

// send gives the stream from offset to its end.
func (d *recorded) send(w http.ResponseWriter, r *http.Request, id string, offset int64) {
	d.mu.Lock()
	d.serving++
	g := d.given[id]
	if g == nil {
		g = &replayed{}
	}
	g.sent = offset
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.serving--
		d.mu.Unlock()
	}()
	h := w.Header()
	for name, value := range d.header {
		h.Set(name, value)
	}
	h.Set("Understudy-Stream", id)
	h.Set("Understudy-Offset", strconv.FormatInt(offset, 10))
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // a short rest has trailers, too
	for _, p := range d.pieces {
		skip := min(offset, int64(len(p)))
		offset -= skip
		if !d.sendPiece(w, r, g, p[skip:]) {
			panic(http.ErrAbortHandler)
		}
	}
	for name, value := range d.proof {
		h.Set(http.TrailerPrefix+name, value)
	}
}

func (d *recorded) sendPiece(w http.ResponseWriter, r *http.Request, g *replayed, p []byte) bool {
	const most = 256 << 10
	for len(p) > 0 {
		n := min(most, len(p))
		d.mu.Lock()
		at := g.sent
		d.mu.Unlock()
		if before := d.hold - at; before > 0 {
			n = min(n, int(before))
		} else if before == 0 && !d.rest(w, r, g) {
			return false
		}
		if _, err := w.Write(p[:n]); err != nil {
			return false
		}
		d.mu.Lock()
		g.sent += int64(n)
		d.mu.Unlock()
		p = p[n:]
	}
	return true
}

// rest sends nothing for a while.
func (d *recorded) rest(w http.ResponseWriter, r *http.Request, g *replayed) bool {
	hold := func(held bool) {
		d.mu.Lock()
		g.held = held
		d.mu.Unlock()
	}
	_ = http.NewResponseController(w).Flush() // what follows shows whether it went
	hold(true)
	defer hold(false)
	timer := time.NewTimer(d.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}
