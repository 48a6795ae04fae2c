package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process has used since it began: see proc(5).
type usage struct {
	own, children time.Duration
	peak          int64 // bytes, resident
}

// tick is the unit of the times in /proc/PID/stat, on every Linux.
const tick = time.Second / 100

// usageOf reads a process's usage; it is zero when there is no such process.
func usageOf(pid int) usage {
	var u usage
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	const utime, stime, cutime, cstime = 11, 12, 13, 14
	at := func(i int) time.Duration {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // proc(5) promises numbers
		return time.Duration(n) * tick
	}
	if len(fields) > cstime {
		u.own, u.children = at(utime)+at(stime), at(cutime)+at(cstime)
	}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		if _, rest, found := strings.Cut(string(text), "VmHWM:"); found {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			u.peak = kib << 10
		}
	}
	return u
}

// syncFS returns when what was written below dir is on the disk.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync the copy: %w", err)
	}
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return errors.Join(fmt.Errorf("sync the copy: %w", err), f.Close())
	}
	return f.Close()
}

// sizeOf sums up the files below dir.
func sizeOf(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
