//go:build failpoint

package failpoint

import (
	"os"
	"syscall"
)

// Hit kills the process, as kill -9 does, when UNDERSTUDY_FAILPOINT is name.
func Hit(name string) {
	if os.Getenv("UNDERSTUDY_FAILPOINT") == name {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		os.Exit(128 + int(syscall.SIGKILL)) // the first process of a container cannot kill itself
	}
}
