package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"understudy/clone/wire"
)

// transferFlags say how a joiner takes a clone.
type transferFlags struct {
	stall, grace time.Duration
	compress     string
	connections  int
	protocol     string
}

func (t *transferFlags) define(f *flagSet) {
	f.DurationVar(&t.stall, "stall-timeout", time.Minute, "`time` without a byte received and without progress of the backup after which a donor is abandoned")
	f.DurationVar(&t.grace, "resume-grace", time.Minute, "`time` for which the joiner tries to reconnect after its connection broke")
	f.StringVar(&t.compress, "compress", string(wire.None), "`encoding` of the stream: none, or zstd for networks slower than about 100 MB/s")
	f.IntVar(&t.connections, "connections", 0, "`number` of connections over which the stream comes, at most 8; donors of earlier versions have one;\n0: one for each core that the container may use, but one where there are fewer than 4")
	f.StringVar(&t.protocol, "protocol", string(wire.V1), "`protocol` of the donor: v1; raw for an ncat donor of the tutorial, without authentication and\nwithout proof that the clone is complete; auto: v1, or raw with donors that do not support it")
}

func (t *transferFlags) validate() error {
	if t.stall <= 0 || t.grace <= 0 {
		return errors.New("--stall-timeout and --resume-grace must be more than 0")
	}
	switch wire.Encoding(t.compress) {
	case wire.None, wire.Zstd:
	default:
		return fmt.Errorf("--compress=%s: it must be none or zstd", t.compress)
	}
	if t.connections < 0 || t.connections > wire.MaxConnections {
		return fmt.Errorf("--connections=%d: it must be from 0 to %d", t.connections, wire.MaxConnections)
	}
	switch wire.Protocol(t.protocol) {
	case wire.V1, wire.Auto, wire.Raw:
	default:
		return fmt.Errorf("--protocol=%s: it must be v1, auto or raw", t.protocol)
	}
	return nil
}

// connectionsFor is how many connections pay off on so many cores. On a few, the core that a second
// connection keeps busy is missing elsewhere.
func connectionsFor(cores int) int {
	const worthwhile = 4
	if cores < worthwhile {
		return 1
	}
	return min(cores, wire.MaxConnections)
}

// client completes what a joiner's flags say of its connections.
func (t *transferFlags) client(c wire.ClientConfig) wire.ClientConfig {
	c.Stall, c.Grace, c.Encoding, c.Protocol = t.stall, t.grace, wire.Encoding(t.compress), wire.Protocol(t.protocol)
	if c.Connections = t.connections; c.Connections == 0 {
		c.Connections = connectionsFor(runtime.GOMAXPROCS(0))
	}
	if c.Protocol != wire.V1 {
		c.Log.Warn("clones without authentication and without proof that they are whole are allowed", "protocol", c.Protocol)
	}
	return c
}
