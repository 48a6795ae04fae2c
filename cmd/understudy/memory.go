package main

import (
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// garbage is how much garbage there may be, in percent of what is in use. Go's own 100 would double
// the buffers of a clone, which hardly make any.
const garbage = 25

// collectSooner bounds the garbage, unless GOGC does.
func collectSooner() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
}

// peakMemory returns the peak resident memory of this process, and of the largest tool that it ran,
// in MiB.
func peakMemory() (self, tools int64) {
	mebibytes := func(who int) int64 {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			return 0
		}
		return u.Maxrss >> 10 // Linux counts in KiB
	}
	return mebibytes(unix.RUSAGE_SELF), mebibytes(unix.RUSAGE_CHILDREN)
}
