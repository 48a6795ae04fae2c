package main

import (
	"fmt"
	"time"
)

// reseedFlags say whether the sidecar may request a reseed, and for how long replaced data are
// kept.
type reseedFlags struct {
	mode string
	keep time.Duration
}

const (
	reseedNever = "never"
	reseedAuto  = "auto"
)

func (r *reseedFlags) define(f *flagSet) {
	f.StringVar(&r.mode, "reseed", reseedNever, "`mode`: never: a replica that replication cannot repair is only reported; auto: it is reseeded,\n"+
		"at most once an hour. Never reseeded: the primary; a replica without GTIDs; a replica whose\n"+
		"primary does not answer, is not ready, or lacks transactions that were not written on this\n"+
		"replica. The sidecar evicts its own pod, subject to PodDisruptionBudgets; without Kubernetes it\n"+
		"says what to do")
	f.DurationVar(&r.keep, "keep-replaced", time.Hour, "`time` for which the new data have to replicate without an error before the replaced data are\nremoved")
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
