//go:build faults

package faults

import "understudy/e2e/network"

// strike is a fault that happens when so many bytes of an answer have passed.
type strike func(*joiner, *network.Link)

// on is a fault of the network alone.
func on(f func(*network.Link)) strike { return func(_ *joiner, l *network.Link) { f(l) } }

// strikes arranges a fault after at bytes of an answer.
func strikes(at int64, f strike) func(*joiner, *network.Proxy) {
	return func(j *joiner, p *network.Proxy) {
		p.Strike(at, 1, func(l *network.Link) { f(j, l) })
	}
}

// kill ends the joiner at once.
func kill(j *joiner, _ *network.Link) {
	<-j.started
	j.child.Kill()
}
