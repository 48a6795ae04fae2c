package main

import "golang.org/x/sys/unix"

// peakMemory is the most that this process, and the largest of the tools it ran, have
// had in memory at once, in MiB.
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
