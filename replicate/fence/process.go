package fence

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// killGroup sends SIGKILL to all processes of a group, at once.
func killGroup(group int) { _ = syscall.Kill(-group, syscall.SIGKILL) }

// started is a server's process, the leader of its own process group.
type started struct {
	pid    int
	output *output
	ooms   int // what the container's memory controller had counted
}

// launch starts the command, with its output passed on.
func launch(path string, c Config) (*started, error) {
	s := &started{output: &output{}, ooms: countOOM()}
	stdout, err := s.output.pipe(c.Stdout)
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := s.output.pipe(c.Stderr)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	s.pid, err = syscall.ForkExec(path, c.Command, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{os.Stdin.Fd(), stdout.Fd(), stderr.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return s, nil
}

// describe is how a process ended, for people, and its exit code as a shell has it.
func describe(status syscall.WaitStatus) (how string, code int) {
	if status.Signaled() {
		return "killed by " + signalName(status.Signal()), 128 + int(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus()), status.ExitStatus()
}

// signalName is a signal as people write it.
func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGKILL:
		return "SIGKILL"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGABRT:
		return "SIGABRT"
	case syscall.SIGSEGV:
		return "SIGSEGV"
	case syscall.SIGBUS:
		return "SIGBUS"
	}
	return "signal " + strconv.Itoa(int(s))
}

// countOOM is how many processes the kernel has killed in this container because its memory was
// used up (cgroup v2). Where it kills all of them, as Kubernetes has it by default, Run dies too.
func countOOM() int {
	data, err := os.ReadFile("/sys/fs/cgroup/memory.events")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if n, found := strings.CutPrefix(line, "oom_kill "); found {
			count, _ := strconv.Atoi(strings.TrimSpace(n))
			return count
		}
	}
	return 0
}

// offspring are the processes whose parent this one is. Run is a subreaper: what the server leaves
// behind is among them.
func offspring() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// "PID (NAME) STATE PPID …", and a name may have blanks and brackets.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}
