//go:build faults

package faults

import (
	"net"
	"sync"
	"testing"
)

// listenRaw answers as the tutorial's ncat does, until the test ends.
func (d *recorded) listenRaw(t *testing.T, l net.Listener) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				for _, p := range d.pieces {
					_, _ = c.Write(p) // a joiner may have seen enough
				}
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
}

// raw takes the same clones as raw streams, which prove nothing. By init: it knows whether
// its donor is the primary. What strikes the first bytes makes it no stream at all: see rawAsIs.
func raw(r row) row {
	r.kind = "raw: " + r.kind
	faults := r.faults[1:]
	r.faults = nil
	for _, f := range faults {
		change := f.donor
		f.donor = func(d *recorded) {
			change(d)
			d.raw = true
		}
		f.init = true
		f.flags = []string{"--protocol=raw"}
		r.faults = append(r.faults, f)
	}
	return r
}

// rawAsIs are a correct stream, and answers that are no stream.
func rawAsIs() []row {
	as := func(kind string, f fault) row { return raw(row{kind: kind, faults: []fault{{}, f}}) }
	return []row{
		as("whole", fault{name: "whole", donor: func(*recorded) {}, then: complete}),
		as("not a byte", fault{name: "not a byte", donor: func(d *recorded) { d.pieces = nil }, then: refused, code: 4, say: "closed without a byte"}),
		as("no stream", fault{
			name: "no stream", donor: func(d *recorded) { d.pieces = [][]byte{[]byte("<html>It works!</html>")} },
			then: refused, code: 4, say: "does not speak the clone protocol",
		}),
	}
}
