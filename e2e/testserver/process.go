package testserver

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// process is a child that the kernel kills when this program ends, however it ends.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once err is set
	err    error
}

// start starts cmd. The kernel's parent-death signal is sent when the *thread* that forked ends, so the child is forked
// from a goroutine that keeps its thread until the child has been waited for (golang.org/issue/27505).
func start(cmd *exec.Cmd) (*process, error) {
	// A group of its own: an interrupt typed at the terminal reaches this program only, which then stops its servers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}
