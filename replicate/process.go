package replicate

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"

	"understudy/replicate/flavor"
)

// Process is this process as the server knows it: its connections bear a name, on MySQL, and have
// ports that no other process of this host has. All that logs in to the member's server by itself
// has the same one.
type Process struct {
	name string

	mu    sync.Mutex
	ports map[string]bool
}

// NewProcess makes one.
func NewProcess() *Process { return &Process{name: rand.Text(), ports: map[string]bool{}} }

// mark is by what the questions of a leader know this process's connections, see leadWords.
func (p *Process) mark(f flavor.Flavor) string {
	if f == flavor.MySQL {
		return p.name
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(p.ports)), ",")
}

// dial opens a connection, and knows its port until it is closed.
func (p *Process) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil
	}
	_, port, err := net.SplitHostPort(tcp.LocalAddr().String())
	if err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("read the own port: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ports[port] = true
	return &ported{TCPConn: tcp, port: port, of: p}, nil
}

// ported is a connection whose port is known.
type ported struct {
	*net.TCPConn
	port string
	of   *Process
}

// Close forgets the port first: once it is closed, another process may get it.
func (c *ported) Close() error {
	c.of.mu.Lock()
	delete(c.of.ports, c.port)
	c.of.mu.Unlock()
	return c.TCPConn.Close()
}
