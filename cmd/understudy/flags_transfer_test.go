package main

import (
	"strings"
	"testing"

	"understudy/clone/wire"
)

func TestConnectionsFor(t *testing.T) {
	for cores, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 4, 6: 6, 8: 8, 64: wire.MaxConnections} {
		if got := connectionsFor(cores); got != want {
			t.Errorf("%d cores: %d connections, want %d", cores, got, want)
		}
	}
}

// As many connections as are asked for, and no more than there can be.
func TestConnections(t *testing.T) {
	for n, refused := range map[int]bool{-1: true, 0: false, 1: false, 8: false, 9: true} {
		f := transferFlags{stall: 1, grace: 1, compress: "none", protocol: "v1", connections: n}
		err := f.validate()
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), "--connections") {
			t.Errorf("%d connections: %v", n, err)
		}
		if got := f.client(wire.ClientConfig{}).Connections; !refused && n > 0 && got != n {
			t.Errorf("%d connections became %d", n, got)
		}
	}
}
