package fence

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The watchdog is a second process with the same timer. It kills the server when Run does not,
// because Run was stopped (SIGSTOP) or killed. It has no socket and decides nothing: Run tells it
// whom to kill, and when.

// WatchdogName is argv[0] of the watchdog, by which main knows to call Watchdog and nothing else.
const WatchdogName = "understudy-run-watchdog"

// watchdogGrace is how long after the end of the permission the watchdog waits for Run to kill.
const watchdogGrace = 100 * time.Millisecond

// The watchdog's files, after the standard ones.
const (
	orderFD = 3 // a memory file with the order
	aliveFD = 4 // a pipe: a byte says that the order changed, its end that Run has ended
)

// order is whom to kill, and when.
type order struct {
	group int           // the server's process group, 0 for none
	until time.Duration // 0: not yet
}

func (o order) write(f io.WriterAt) error {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], uint64(o.group)) //nolint:gosec // a process group is not negative
	binary.NativeEndian.PutUint64(b[8:], uint64(o.until)) //nolint:gosec // nor is an instant
	_, err := f.WriteAt(b[:], 0)
	return err
}

// readOrder reads until it reads the same twice: a write may be under way.
func readOrder(f io.ReaderAt) (order, error) {
	var b, before [16]byte
	for i := 0; ; i++ {
		if _, err := f.ReadAt(b[:], 0); err != nil {
			return order{}, err
		}
		if i > 0 && b == before {
			break
		}
		before = b
	}
	return order{int(binary.NativeEndian.Uint64(b[:8])), time.Duration(binary.NativeEndian.Uint64(b[8:]))}, nil //nolint:gosec // as written
}

// Watchdog is the watchdog's main function. It returns when Run has ended, after it killed the
// server's processes if Run had not.
func Watchdog() error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	orders, alive := os.NewFile(orderFD, "order"), os.NewFile(aliveFD, "alive")
	clock, err := newTimer()
	if err != nil {
		return err
	}
	changed, gone := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(gone)
		var b [64]byte
		for {
			if n, err := alive.Read(b[:]); err != nil || n == 0 {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	for {
		o, err := readOrder(orders)
		if err != nil {
			return fmt.Errorf("read the order: %w", err)
		}
		at := o.until
		if at > 0 {
			at += watchdogGrace
		}
		if at > 0 && o.group > 0 && Now() >= at {
			killGroup(o.group)
			at = Now() + watchdogGrace // again, until Run has seen it
		}
		if err := clock.set(at); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-clock.C:
		case <-gone:
			if o, err := readOrder(orders); err == nil && o.group > 0 {
				killGroup(o.group)
			}
			return nil
		}
	}
}

// watchdog is Run's side.
type watchdog struct {
	orders *os.File
	alive  *os.File // nil while none runs
	pid    int
}

func newWatchdog() (*watchdog, error) {
	fd, err := unix.MemfdCreate("understudy-order", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the watchdog's memory file: %w", err)
	}
	w := &watchdog{orders: os.NewFile(uintptr(fd), "order")}
	if err := (order{}).write(w.orders); err != nil {
		return nil, err
	}
	return w, w.start()
}

func (w *watchdog) start() error {
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	defer from.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{WatchdogName}, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{null.Fd(), null.Fd(), os.Stderr.Fd(), w.orders.Fd(), from.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true}, // no signal to Run's group reaches it
	})
	if err != nil {
		_ = to.Close()
		return fmt.Errorf("start the watchdog: %w", err)
	}
	w.pid, w.alive = pid, to
	return nil
}

// ended is called when the watchdog's process has ended, which it does not while Run lives, unless
// it is killed.
func (w *watchdog) ended() {
	_ = w.alive.Close()
	w.pid, w.alive = 0, nil
}

// tell gives the watchdog its order. It does not block: a watchdog that is stopped reads it when it
// goes on.
func (w *watchdog) tell(o order) error {
	if err := o.write(w.orders); err != nil {
		return err
	}
	if w.alive == nil {
		return nil
	}
	conn, err := w.alive.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Write(func(fd uintptr) bool {
		_, _ = unix.Write(int(fd), []byte{1}) // of a pipe that is full there is enough to read
		return true
	})
}
