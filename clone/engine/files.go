package engine

import (
	"sync"
	"syscall"
)

// maxFiles bounds the soft limit: tools allocate tables of its size.
const maxFiles = 1 << 20

// raiseFiles lets tools open as many files as the hard limit allows: a backup has one open for each
// tablespace. Go raises the soft limit only for itself, and gives its children the original one
// until it is set explicitly.
//
// https://pkg.go.dev/syscall#Setrlimit
var raiseFiles = sync.OnceFunc(func() {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	limit.Cur = min(limit.Max, maxFiles)
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // a tool reports a limit that is too low
})

// fileLimit is how many files a tool may open.
func fileLimit() int64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return maxFiles
	}
	return int64(min(limit.Max, maxFiles))
}
