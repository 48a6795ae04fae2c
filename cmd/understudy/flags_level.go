package main

import (
	"errors"
	"time"

	"understudy/replicate"
)

// levelFlags say for how long a first ordinal waits for what the other members have: init before it
// clones one of them, the sidecar before it opens the server for writes.
type levelFlags struct {
	wait time.Duration
}

// silentPatience is the time to wait for a member that does not answer and that Kubernetes does not
// know. It may not exist: where names are addresses, name service does not tell.
const silentPatience = 5 * time.Second

func (l *levelFlags) define(f *flagSet) {
	f.DurationVar(&l.wait, "level-wait", time.Minute, "`time` for which a first ordinal waits for members that the set's Lease names, and for members\n"+
		"whose servers do not answer yet, before it opens for writes or clones a member into its empty\n"+
		"volume. Set it alike for init and sidecar")
}

func (l *levelFlags) validate() error {
	if l.wait < 0 {
		return errors.New("--level-wait must not be less than 0")
	}
	return nil
}

func (l *levelFlags) patience() replicate.Patience {
	return replicate.Patience{Silent: min(silentPatience, l.wait), Starting: l.wait}
}
