// Package process runs children that cannot outlive the program that started them.
package process

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a child that the kernel kills when this program ends, however it ends;
// unless it was detached.
type Process struct {
	// Cmd is what was started. Its fields must not be changed.
	Cmd *exec.Cmd

	exited chan struct{} // closed once err is set
	err    error
}

// Start starts cmd, in a process group of its own: an interrupt typed at the terminal
// reaches this program only. A detached child goes on after this program's end.
//
// The kernel's parent-death signal is sent when the thread that forked ends, so the
// child is forked from a goroutine that keeps its thread until the child has been
// waited for (https://go.dev/issue/27505).
func Start(cmd *exec.Cmd, detached bool) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if detached {
		cmd.SysProcAttr.Pdeathsig = 0
	}
	p := &Process{Cmd: cmd, exited: make(chan struct{})}
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

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is how the process ended, as exec.Cmd.Wait says it. It waits for the end.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// Pid is the process id.
func (p *Process) Pid() int { return p.Cmd.Process.Pid }

// Signal sends a signal. A process that has ended is no error.
func (p *Process) Signal(s syscall.Signal) {
	_ = p.Cmd.Process.Signal(s) // fails only when the process has ended
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.exited
}
