package fence

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what Run is told.
type Config struct {
	// Command is the server's command and its arguments.
	Command []string
	// Socket is the path of the socket. Its directory exists.
	Socket string
	// SocketDirs are where the server's own sockets may be.
	SocketDirs []string
	// Stdout and Stderr are where the server's output goes on to.
	Stdout, Stderr io.Writer
	Log            *slog.Logger
	// StopWait is how long a server with a permission goes on after SIGTERM, for the sidecar to
	// close it and to disarm.
	StopWait time.Duration
	// Crashes are how many servers may end unasked Within a time and be started again.
	Crashes int
	Within  time.Duration
}

// ErrCommand means that the command cannot be started.
var ErrCommand = errors.New("the server cannot be started")

// forwarded are the signals that are passed on as they are; stopping are those that end the server.
var (
	forwarded = []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH}
	stopping  = []os.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}
)

// Run starts the server and starts it again until it is told to stop by a signal, or until the
// server has crashed too often. It returns how the last server ended, after all its processes have.
// It may run once in a process, which must have no children of its own: it waits for all there are.
// Main calls Watchdog instead where it was started as WatchdogName.
func Run(c Config) (End, error) {
	path, err := exec.LookPath(c.Command[0])
	if err != nil {
		return End{}, fmt.Errorf("%w: %w", ErrCommand, err)
	}
	// The server's orphans come here, also where Run is not the first process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return End{}, fmt.Errorf("become the parent of orphans: %w", err)
	}
	s := &supervisor{
		Config: c, path: path,
		signals: make(chan os.Signal, 16), children: make(chan os.Signal, 1),
		joins: make(chan *session), leaves: make(chan *session), asks: make(chan ask), over: make(chan struct{}),
		says: make(chan func(), 64), printed: make(chan string),
	}
	signal.Notify(s.signals, append(forwarded, stopping...)...)
	signal.Notify(s.children, syscall.SIGCHLD)
	// It is taken, so that a log whose reader has gone does not end Run; the server does not inherit
	// that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if s.clock, err = newTimer(); err != nil {
		return End{}, err
	}
	l, err := listen(c.Socket)
	if err != nil {
		return End{}, err
	}
	defer l.Close()
	if s.dog, err = newWatchdog(); err != nil {
		return End{}, err
	}
	said := make(chan struct{})
	go func() {
		defer close(said)
		for say := range s.says {
			say()
		}
	}()
	go s.accept(l)
	if err := s.start(); err != nil {
		return End{}, err
	}
	err = s.loop()
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		s.ended.open.Wait()
		close(s.says)
		<-said
	}()
	select {
	case <-flushed:
	case <-time.After(time.Second): // nobody reads it
	}
	close(s.over)
	last := *s.last
	last.Output = s.ended.last()
	return last, err
}
