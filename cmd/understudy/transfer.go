package main

import (
	"errors"
	"fmt"
	"time"

	"understudy/clone/wire"
)

// transferFlags say how a joiner takes a clone.
type transferFlags struct {
	stall, grace time.Duration
	compress     string
}

func (t *transferFlags) define(f *flagSet) {
	f.DurationVar(&t.stall, "stall-timeout", time.Minute, "`time` after which a donor is given up that sends no byte and whose backup does not go on")
	f.DurationVar(&t.grace, "resume-grace", time.Minute, "`time` for which a broken connection is tried to be made again")
	f.StringVar(&t.compress, "compress", string(wire.None), "`encoding` on the way: none, or zstd for networks slower than about 100 MB/s")
}

func (t *transferFlags) validate() error {
	if t.stall <= 0 || t.grace <= 0 {
		return errors.New("--stall-timeout and --resume-grace must be more than 0")
	}
	switch wire.Encoding(t.compress) {
	case wire.None, wire.Zstd:
		return nil
	}
	return fmt.Errorf("--compress=%s: it must be none or zstd", t.compress)
}

// client completes what a joiner's flags say of its connections.
func (t *transferFlags) client(c wire.ClientConfig) wire.ClientConfig {
	c.Stall, c.Grace, c.Encoding = t.stall, t.grace, wire.Encoding(t.compress)
	return c
}
