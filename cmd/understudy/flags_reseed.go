package main

import (
	"fmt"
	"time"
)

// reseedFlags say who may have a member cloned anew, and for how long its old data are kept.
type reseedFlags struct {
	mode string
	keep time.Duration
}

const (
	reseedNever = "never"
	reseedAuto  = "auto"
)

func (r *reseedFlags) define(f *flagSet) {
	f.StringVar(&r.mode, "reseed", reseedNever, "`mode`: never: a replica that replication cannot heal is only reported; auto: it is cloned\n"+
		"anew. Not the primary; not where the primary is away, is not ready, or lacks what was\n"+
		"not written on this replica; not without GTIDs; at most once an hour. The sidecar\n"+
		"evicts its own pod, as a PodDisruptionBudget allows; without Kubernetes it says what to do.")
	f.DurationVar(&r.keep, "keep-replaced", time.Hour, "`time` for which the new copy has to replicate without an error before the data that it replaced are removed")
}

func (r *reseedFlags) validate() error {
	if r.mode != reseedNever && r.mode != reseedAuto {
		return fmt.Errorf("--reseed=%s: it must be never or auto", r.mode)
	}
	if r.keep < 0 {
		return fmt.Errorf("--keep-replaced=%v: it must not be less than 0", r.keep)
	}
	return nil
}
