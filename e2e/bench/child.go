package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"understudy/e2e/process"

	"golang.org/x/sys/unix"
)

// call runs a joiner to its end, and says what it has used: its CPU time, with that of
// all its children, and its memory.
func call(ctx context.Context, argv []string) (used time.Duration, peak peaks, err error) {
	var text bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // the whole group is killed when ctx ends
	cmd.Stdout, cmd.Stderr = &text, &text
	p, err := process.Start(cmd, false)
	if err != nil {
		return 0, peaks{}, err
	}
	defer context.AfterFunc(ctx, func() { killGroup(p) })()
	watched := watchPeaks(p.Pid())
	err = p.Err()
	peak = watched()
	if ctx.Err() != nil {
		return 0, peaks{}, ctx.Err()
	}
	if err != nil {
		return 0, peaks{}, fmt.Errorf("%w: %s", err, tail(text.String()))
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), peak, nil
}

// killGroup ends a process and all that it has started.
func killGroup(p *process.Process) { _ = unix.Kill(-p.Pid(), unix.SIGKILL) } // fails only when all have ended

// tail is the end of what a command said.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(len(lines)-5, 0):], " | ")
}

var errListen = errors.New("it does not listen")

// awaitListener waits until the kernel's table says that p listens: a try would begin a backup.
func awaitListener(ctx context.Context, p *process.Process, host string, port int) error {
	ip := net.ParseIP(host).To4()
	entry := fmt.Sprintf("%02X%02X%02X%02X:%04X 00000000:0000 0A", ip[3], ip[2], ip[1], ip[0], port) // see proc_net_tcp(5)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil || bytes.Contains(table, []byte(entry)) {
			return err
		}
		select {
		case <-p.Exited():
			return fmt.Errorf("%w: %s ended: %w", errListen, p.Cmd.Path, p.Err())
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// peaks are the most that a process and its descendants had resident, in bytes: the
// backup tool, and the sum of all others.
type peaks struct{ own, tool int64 }

// peakInterval is the time between two looks. The kernel keeps the peak of each process,
// so that only the last moments of one are missed.
const peakInterval = 20 * time.Millisecond

// watchPeaks watches a process, if there is one, until the function that it returns is
// called. What wait4(2) says would be wrong: it counts the memory of this program, whose
// children share it until they have become another program.
func watchPeaks(pid int) (stop func() peaks) {
	if pid == 0 {
		return func() peaks { return peaks{} }
	}
	seen := map[int]resident{}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(peakInterval)
		defer tick.Stop()
		for {
			look(pid, seen)
			select {
			case <-ended:
				return
			case <-tick.C:
			}
		}
	}()
	return func() (p peaks) {
		close(ended)
		<-done
		for _, r := range seen {
			if r.program == "mariadb-backup" {
				p.tool = max(p.tool, r.peak)
			} else {
				p.own += r.peak
			}
		}
		return p
	}
}

// resident is the peak of one process since it became what it is.
type resident struct {
	program string
	peak    int64
}

// look updates seen with a process and its descendants.
func look(pid int, seen map[int]resident) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	text, err := os.ReadFile(dir + "status")
	if err != nil {
		return // it has ended
	}
	status := string(text)
	if r := (resident{field(status, "Name:"), kib(field(status, "VmHWM:"))}); r.peak > 0 { // one that has ended has no memory
		seen[pid] = r
	}
	threads, _ := os.ReadDir(dir + "task") // nor has it threads
	for _, thread := range threads {
		children, _ := os.ReadFile(dir + "task/" + thread.Name() + "/children")
		for child := range strings.FieldsSeq(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				look(n, seen)
			}
		}
	}
}

// field is the first word after a name in /proc/PID/status.
func field(status, name string) string {
	_, rest, _ := strings.Cut(status, name)
	if words := strings.Fields(rest); len(words) > 0 {
		return words[0]
	}
	return ""
}

func kib(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // proc(5) promises a number
	return n << 10
}
