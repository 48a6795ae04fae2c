//go:build faults

package faults

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"understudy/e2e/network"
)

// TestRecorded is the part of the matrix that needs no server.
func TestRecorded(t *testing.T) {
	t.Parallel()
	s := site{flags: []string{"--insecure", "--stall-timeout=1s", "--resume-grace=4s"}, wait: "4s", check: sameAsRecorded}
	s.run(t, append(rawAsIs(), []row{
		raw(cutAtBorders("stream cut at a chunk's border", 8, nil)), raw(flipped("bit flipped", true)),
		onTheNetwork("connection cut", on((*network.Link).Cut), resumed, places()),
		onTheNetwork("connection reset", on((*network.Link).Reset), resumed, places()),
		onTheNetwork("reset seen by the donor only", on((*network.Link).ResetDonor), resumed, few(places(), 6)),
		onTheNetwork("another source address", on((*network.Link).Move), resumed, few(places(), 10)),
		onTheNetwork("donor's port away for a while", on((*network.Link).Away), resumed, few(places(), 8)),
		onTheNetwork("short stall", on((*network.Link).Pause), complete, few(places(), 8)),
		onTheNetwork("connection dead without a word", on((*network.Link).Die), resumed, few(places(), 8)),
		oftenCut(), slowNetwork(), beforeTheStream(), askedOfAnEarlierVersion(),
		busyDonor(), stalledDonor(), forgetfulDonor(), forgottenStream(),
		cutAtBorders("stream cut at a chunk's border, proof to match", 1, func(d *recorded, i int) { d.proof = borderProofs()[i] }),
		cutAtBorders("stream cut at a chunk's border, proof of the whole", 12, nil),
		cutAtBorders("stream cut at a chunk's border, no proof", 24, func(d *recorded, _ int) { d.proof = nil }),
		flipped("bit flipped on the way", false),
		flipped("bit flipped at the source", true),
		lies(), lyingHeads(), foreignPages(), tricks(),
		fullDisk(), fullDiskOfInit(),
		killedAtFailpoints(), killedOnTheWay(),
		onTheNetwork("clone-from killed on the way", kill, nextRun, few(places(), 6)),
	}...))
}

// place is somewhere in the bytes that the donor sends.
type place struct {
	name string
	at   int64
}

// wireSize is the length of the whole answer, its head and its trailers included.
var wireSize = sync.OnceValue(func() int64 {
	c, d := net.Pipe()
	l := &oneConn{conns: make(chan net.Conn, 1)}
	l.conns <- d
	server := &http.Server{Handler: http.HandlerFunc(replay().clone)} //nolint:gosec // one request, from here
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()
	go func() { _, _ = io.WriteString(c, "GET /v1/clone HTTP/1.1\r\nHost: db-0\r\nConnection: close\r\n\r\n") }()
	n, err := io.Copy(io.Discard, c)
	if err != nil {
		panic(err)
	}
	return n
})

// oneConn is a listener that gets one connection.
type oneConn struct{ conns chan net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *oneConn) Close() error { close(l.conns); return nil }

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// places are where connections break: at both ends byte by byte, as it were, and all the
// way between them.
func places() []place {
	size := wireSize()
	all := []place{{"first bytes", 1000}, {"64 KiB", 64 << 10}, {"300 KiB", 300 << 10}, {"first border of a large file", int64(chunks()[65].at)}}
	for percent := int64(5); percent < 100; percent += 10 {
		all = append(all, place{fmt.Sprintf("%d %%", percent), size * percent / 100})
	}
	return append(
		all, place{"last MiB", size - 1<<20}, place{"last file", size - 900}, place{"trailers begin", size - 200},
		place{"in the trailers", size - 60}, place{"before the last byte", size - 1},
	)
}

// few takes n of the places, evenly.
func few(all []place, n int) []place {
	var some []place
	for i := range n {
		some = append(some, all[i*(len(all)-1)/(n-1)])
	}
	return some
}

func onTheNetwork(kind string, f strike, then outcome, where []place) row {
	r := row{kind: kind}
	for _, p := range where {
		r.faults = append(r.faults, fault{name: p.name, network: strikes(p.at, f), then: then})
	}
	return r
}

// oftenCut breaks every connection of a clone, up to a number.
func oftenCut() row {
	r := row{kind: "every connection cut, many times"}
	for _, times := range []int64{2, 5, 10, 20} {
		r.faults = append(r.faults, fault{
			name: fmt.Sprintf("%d times", times), then: resumed,
			network: func(_ *joiner, p *network.Proxy) { p.Strike(1<<20, times, (*network.Link).Reset) },
		})
	}
	return r
}

func slowNetwork() row {
	r := row{kind: "throttled"}
	for _, rate := range []int64{24 << 20, 48 << 20, 96 << 20} {
		r.faults = append(r.faults, fault{
			name: fmt.Sprintf("%d MiB/s", rate>>20), then: complete, network: func(_ *joiner, p *network.Proxy) { p.Rate.Store(rate) },
		})
	}
	return r
}

// beforeTheStream breaks what comes before it: init asks again.
func beforeTheStream() row {
	r := row{kind: "connection broken before the stream"}
	for name, f := range map[string]strike{"cut": on((*network.Link).Cut), "reset": on((*network.Link).Reset)} {
		for _, at := range []int64{0, 40, 130} {
			r.faults = append(r.faults, fault{name: fmt.Sprintf("%s after %d bytes", name, at), init: true, then: complete, network: strikes(at, f)})
		}
	}
	return r
}

func holding(at int64, pause time.Duration, works bool) func(*recorded) {
	return func(d *recorded) { d.hold, d.pause, d.works = at, pause, works }
}

// someOffsets are places in the stream itself.
func someOffsets() []place {
	size := int64(len(stream()))
	return []place{{"first bytes", 500}, {"a quarter", size / 4}, {"half", size / 2}, {"last file", int64(chunks()[len(chunks())-2].at)}}
}

// busyDonor sends nothing for longer than --stall-timeout, and says why.
func busyDonor() row {
	r := row{kind: "donor silent beyond the limit, its backup alive"}
	for _, p := range someOffsets() {
		r.faults = append(r.faults, fault{name: p.name, then: complete, donor: holding(p.at, 2500*time.Millisecond, true)})
	}
	return r
}

// stalledDonor sends nothing, and has nothing to say.
func stalledDonor() row {
	r := row{kind: "donor stalled beyond the limit"}
	for _, p := range someOffsets() {
		r.faults = append(r.faults, fault{
			name: p.name, then: refused, code: 5, say: "the donor stalled: nothing has gone on", donor: holding(p.at, time.Hour, false),
		})
	}
	return r
}

// forgetfulDonor does not know its stream any more when the connection comes back, or gives
// another.
func forgetfulDonor() row {
	r := row{kind: "resumed stream unknown or another one"}
	for _, p := range few(places(), 4) {
		r.faults = append(
			r.faults,
			fault{
				name: "unknown, " + p.name, then: refused, code: 5, say: "no such stream",
				donor: func(d *recorded) { d.forget = true }, network: strikes(p.at, on((*network.Link).Cut)),
			},
			fault{
				name: "another, " + p.name, then: refused, code: 5, say: "it resumes another stream",
				donor: func(d *recorded) { d.other = true }, network: strikes(p.at, on((*network.Link).Cut)),
			},
		)
	}
	return r
}

// forgottenStream is the same for init, which asks for a new one.
func forgottenStream() row {
	r := row{kind: "stream lost, init begins again"}
	for _, p := range few(places(), 6) {
		r.faults = append(r.faults, fault{
			name: p.name, init: true, then: restarted, donor: func(d *recorded) { d.forget = true }, network: strikes(p.at, on((*network.Link).Cut)),
		})
	}
	return r
}

// fullDisk lets clone-from run out of space.
func fullDisk() row {
	r := row{kind: "disk full"}
	for _, kib := range []int64{64, 256, 1024, 2048, 2560, 3072, 4096, 5120} {
		r.faults = append(r.faults, fault{name: fmt.Sprintf("%d KiB", kib), disk: kib << 10, then: refused, code: 1, say: "no space left"})
	}
	return r
}

// fullDiskOfInit is known beforehand, or a surprise.
func fullDiskOfInit() row {
	r := row{kind: "disk full at init"}
	for _, kib := range []int64{1024, 3072, 6144} {
		r.faults = append(
			r.faults,
			fault{name: fmt.Sprintf("%d KiB, announced", kib), init: true, disk: kib << 10, then: refused, code: 3, say: "MiB"},
			fault{
				name: fmt.Sprintf("%d KiB, a surprise", kib), init: true, disk: kib << 10, then: refused, code: 1, say: "the volume is full",
				donor: func(d *recorded) { d.header["Understudy-Estimated-Bytes"] = "1000" },
			},
		)
	}
	return r
}

// killedAtFailpoints kills init at every instant that has a name.
func killedAtFailpoints() row {
	r := row{kind: "init killed at an instant"}
	for _, point := range []string{
		"before-journal-transferring", "after-journal-transferring", "transferring", "before-journal-extracted", "after-journal-extracted",
		"before-journal-preparing", "after-journal-preparing", "preparing", "before-journal-prepared", "after-journal-prepared", "before-rmdir",
		"before-rename", "after-rename", "before-journal-published", "after-journal-published",
	} {
		r.faults = append(r.faults, fault{name: point, init: true, env: []string{"UNDERSTUDY_FAILPOINT=" + point}, then: nextRun})
	}
	return r
}

func killedOnTheWay() row {
	r := row{kind: "init killed on the way"}
	for _, p := range few(places(), 8) {
		r.faults = append(r.faults, fault{name: p.name, init: true, then: nextRun, network: strikes(p.at, kill)})
	}
	return r
}
