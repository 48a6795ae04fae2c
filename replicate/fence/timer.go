package fence

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// timer fires at an instant of CLOCK_BOOTTIME. Go's own timers stand still while the machine
// sleeps.
type timer struct {
	file *os.File
	// C gets a value when the instant has come. It may be late or superfluous: compare with Now.
	C chan struct{}
}

func newTimer() (*timer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	t := &timer{file: os.NewFile(uintptr(fd), "timerfd"), C: make(chan struct{}, 1)}
	go t.read()
	return t, nil
}

func (t *timer) read() {
	var expirations [8]byte
	for {
		if _, err := t.file.Read(expirations[:]); err != nil {
			return
		}
		select {
		case t.C <- struct{}{}:
		default:
		}
	}
}

// set has the timer fire at an instant, at once if that is past; 0: never.
func (t *timer) set(at time.Duration) error {
	conn, err := t.file.SyscallConn()
	if err != nil {
		return err
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(at))}
	var setErr error
	err = conn.Control(func(fd uintptr) {
		setErr = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	})
	if err == nil {
		err = setErr
	}
	return err
}
