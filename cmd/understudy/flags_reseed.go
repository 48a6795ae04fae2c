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
	f.StringVar(&r.mode, "reseed", reseedNever, "`mode`: never: a replica that replication cannot repair is only reported; auto: the sidecar\n"+
		"reseeds it by evicting its own pod, at most once an hour, where it uses GTIDs and the primary is\n"+
		"ready and has lost nothing. Without Kubernetes the sidecar says what to do")
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
