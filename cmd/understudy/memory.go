package main

import "golang.org/x/sys/unix"

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
