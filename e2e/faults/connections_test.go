//go:build faults

package faults

import (
	"fmt"
	"slices"

	"understudy/e2e/network"
)

// connections is over how many the clones of these rows come.
const connections = 4

// striped makes the clones of a row come over several connections.
func striped(r row) row {
	r.kind += ", several connections"
	for i := range r.faults {
		r.faults[i].flags = append(slices.Clone(r.faults[i].flags), fmt.Sprintf("--connections=%d", connections))
	}
	return r
}

// lanePlaces are places in what one of several connections carries.
func (d *donor) lanePlaces(n int) []place {
	lane := d.size / connections
	all := []place{{"first bytes", 40 << 10}, {"end of a stripe", 1<<20 + 4<<10}, {"third stripe", 2<<20 + 300<<10}}
	for percent := int64(30); percent <= 90; percent += 15 {
		all = append(all, place{fmt.Sprintf("%d %% of a connection", percent), lane * percent / 100})
	}
	return few(all, n)
}

// overConnections are faults of clones that come over several connections, as kind says. Where one
// connection breaks the others go on; where all do, or the donor forgets the clone, it ends as a
// clone over one connection does.
func (d *donor) overConnections(kind string) []row {
	booted := onTheNetwork(kind+": reset, then prepared and started", on((*network.Link).Reset), resumed, d.lanePlaces(3))
	for i := range booted.faults {
		booted.faults[i].flags, booted.faults[i].boot = []string{"--prepare"}, true
	}
	often := row{kind: kind + ": every connection reset, many times"}
	for _, times := range []int64{3, 8, 20} {
		often.faults = append(often.faults, fault{
			name: fmt.Sprintf("%d times", times), then: resumed,
			network: func(_ *joiner, p *network.Proxy) { p.Strike(1<<20+1000, times, (*network.Link).Reset) },
		})
	}
	compressed := onTheNetwork(kind+": compressed, connection reset", on((*network.Link).Reset), resumed, []place{{"64 KiB", 64 << 10}, {"1 MiB", 1 << 20}})
	for i := range compressed.faults {
		compressed.faults[i].flags = []string{"--compress=zstd"}
	}
	killed := onTheNetwork(kind+": init killed", kill, nextRun, d.lanePlaces(2))
	restart := onTheNetwork(kind+": sidecar restarted", d.restart, restarted, d.lanePlaces(4)[1:3])
	for _, r := range []row{killed, restart} {
		for i := range r.faults {
			r.faults[i].init = true
		}
	}
	restart.faults[0].boot = true
	rows := []row{
		{kind: kind + ": undisturbed", faults: []fault{{name: "nothing", then: complete, flags: []string{"--prepare"}, boot: true}}},
		onTheNetwork(kind+": connection cut", on((*network.Link).Cut), resumed, d.lanePlaces(6)),
		onTheNetwork(kind+": reset seen by the donor only", on((*network.Link).ResetDonor), resumed, d.lanePlaces(2)),
		onTheNetwork(kind+": another source address", on((*network.Link).Move), resumed, d.lanePlaces(2)),
		onTheNetwork(kind+": port away for a while", on((*network.Link).Away), resumed, d.lanePlaces(3)),
		onTheNetwork(kind+": short stall", on((*network.Link).Pause), complete, d.lanePlaces(2)),
		onTheNetwork(kind+": connection dead without a word", on((*network.Link).Die), resumed, d.lanePlaces(3)),
		onTheNetwork(kind+": bit flipped under TLS", on((*network.Link).Flip), resumed, d.lanePlaces(4)),
		onTheNetwork(kind+": joiner frozen beyond the limit", freeze, resumed, d.lanePlaces(4)[1:3]),
		booted, often, compressed, killed, restart,
	}
	for i := range rows {
		rows[i] = striped(rows[i])
	}
	return rows
}

// askedOfAnEarlierVersion are clones over the one connection that a donor of an earlier version has.
func askedOfAnEarlierVersion() row {
	r := striped(onTheNetwork("connection cut, an earlier version", on((*network.Link).Cut), resumed, few(places(), 6)))
	for i := range few(places(), 3) {
		r.faults[2*i].init = true
	}
	return r
}
