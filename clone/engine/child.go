package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// termGrace is how long a tool may take to end after SIGTERM.
	termGrace = 500 * time.Millisecond
	// pipeSize is the requested size of the pipe between a tool and us.
	pipeSize = 1 << 20
	// tailLines is how many lines of a tool's stderr an error has.
	tailLines = 12
)

// ErrTool is returned when a backup tool fails. The text has its exit status and the tail of its
// stderr.
var ErrTool = errors.New("backup tool")

// Process is a running backup: a tool, which dies with this program, or a goroutine in its place.
type Process struct {
	// Stdout is its output; nil for a tool whose output is no data.
	Stdout io.ReadCloser

	done chan struct{}
	err  error
}

// newProcess runs f, which writes the stream. Its writes fail after Stdout is closed.
func newProcess(f func(w io.Writer) error) *Process {
	read, write := io.Pipe()
	p := &Process{Stdout: read, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = f(write)
		_ = write.Close() // never fails, see io.PipeWriter
	}()
	return p
}

// Wait returns the error of a finished backup, ErrTool for a tool. It may be called more than once.
// Close Stdout first, or read it to its end.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// child is a tool to run.
type child struct {
	argv []string
	// stdout says that its output is read from the process's Stdout.
	stdout bool
	// heard, if not nil, gets each line of its stderr.
	heard func(line string)
	// session, if not nil, learns the process.
	session *session
}

// start runs the tool. When ctx ends, the tool gets SIGTERM, and SIGKILL soon after.
func (c child) start(ctx context.Context, log *slog.Logger) (*Process, error) {
	raiseFiles()
	argv, s := c.argv, c.session
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error {
		if s != nil {
			s.look()
		}
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = termGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	name := filepath.Base(argv[0])
	stderr := newLineLogger(log.With("tool", name), c.heard)
	cmd.Stderr = stderr
	p := &Process{done: make(chan struct{})}
	var write *os.File
	if c.stdout {
		read, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize) // only speed depends on it
		p.Stdout, write, cmd.Stdout = read, w, w
	}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		// Pdeathsig follows the thread that forked, not the process, so the thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if s != nil && err == nil {
			s.started(cmd.Process.Pid)
		}
		if write != nil {
			err = errors.Join(err, write.Close())
		}
		started <- err
		if err == nil {
			go stderr.write()
			p.err = ended(ctx, name, cmd.Wait(), stderr)
			if s != nil {
				s.ended(context.WithoutCancel(ctx), p.err)
			}
		}
	}()
	if err := <-started; err != nil {
		if p.Stdout != nil {
			err = errors.Join(err, p.Stdout.Close())
		}
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func ended(ctx context.Context, name string, err error, stderr *lineLogger) error {
	stderr.flush()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) { // it ended well, and another process still has its stderr
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %s was stopped: %w", ErrTool, name, context.Cause(ctx))
	}
	return fmt.Errorf("%w: %s: %w: %s", ErrTool, name, err, stderr.account())
}

// lineLogger logs a tool's lines and keeps the last ones. A blocked log, as when nobody reads our
// stderr, stops neither the tool nor the reactions to its lines; log lines are dropped then.
type lineLogger struct {
	log   *slog.Logger
	heard func(line string)
	lines chan string
	wrote chan struct{} // closed when all lines are logged

	mu     sync.Mutex
	part   []byte
	last   []string
	lost   int
	ended  bool
	reason string // the line with the cause of a failure, as far as it is known
	crash  bool   // reason is final, as after a crash
}

// maxUnlogged bounds the lines that wait for the log.
const maxUnlogged = 1000

// newLineLogger makes a lineLogger. Its write runs until flush.
func newLineLogger(log *slog.Logger, heard func(line string)) *lineLogger {
	return &lineLogger{log: log, heard: heard, lines: make(chan string, maxUnlogged), wrote: make(chan struct{})}
}

// write logs the lines.
func (l *lineLogger) write() {
	defer close(l.wrote)
	for line := range l.lines {
		// Tools print two lines for each file, and one each second, which only matter for
		// debugging.
		say := l.log.Info
		for _, noise := range []string{"Streaming", "...done", "log scanned up to"} {
			if strings.Contains(line, noise) {
				say = l.log.Debug
			}
		}
		say("tool says", "line", line)
	}
	if l.lost > 0 { // final at this point
		l.log.Warn("the log was too slow for what the tool said", "lines_left_out", l.lost)
	}
}

// Write never fails: a tool must not stop because of its log.
func (l *lineLogger) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		line, rest, found := bytes.Cut(l.part, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.say(string(line))
		l.part = rest
	}
}

// flush ends write, and waits a moment for the log.
func (l *lineLogger) flush() {
	l.mu.Lock()
	l.say(string(l.part))
	l.part, l.ended = nil, true
	close(l.lines)
	l.mu.Unlock()
	select {
	case <-l.wrote:
	case <-time.After(termGrace):
	}
}

// say notes a line. l.mu is held.
func (l *lineLogger) say(line string) {
	if line = strings.TrimSpace(line); line == "" || l.ended {
		return
	}
	if l.last = append(l.last, line); len(l.last) > tailLines {
		l.last = l.last[1:]
	}
	l.judge(line)
	select {
	case l.lines <- line:
	default:
		l.lost++
	}
	if l.heard != nil {
		l.heard(line)
	}
}

// overrun are the words of mariadb-backup and XtraBackup when redo was overwritten before they read
// it. Seen with mariadb-backup 10.11, 96 MiB of redo, a heavy writer and --max-rate=5MiB: every
// clone fails at its end.
var overrun = []string{"Was only able to copy log from", "log has wrapped around before xtrabackup"}

const overrunReason = "the server overwrote its redo log before the backup had read it, for it writes more than the clone takes: " +
	"enlarge the redo log (innodb_log_file_size, or innodb_redo_log_capacity of MySQL from 8.0.30 on), raise --max-rate, or clone while less is written: "

// judge keeps the first line with an error, because later ones are its consequences, or the line
// about a crash. The words are those of the tools and of the server code in them.
func (l *lineLogger) judge(line string) {
	switch {
	case l.crash:
	case strings.Contains(line, "got signal "):
		l.reason, l.crash = line, true
	case slices.ContainsFunc(overrun, func(words string) bool { return strings.Contains(line, words) }):
		l.reason, l.crash = overrunReason+line, true
	case l.reason != "":
	case slices.ContainsFunc([]string{"[ERROR]", "Error:", "ERROR:", "error:", "Failed to connect"}, func(word string) bool { return strings.Contains(line, word) }):
		l.reason = line
	}
}

// account is the reason, if one was found, and the last lines.
func (l *lineLogger) account() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := strings.Join(l.last, " | ")
	if l.reason == "" || len(l.last) > 0 && l.last[0] == l.reason {
		return last
	}
	return l.reason + " (its last lines: " + last + ")"
}
