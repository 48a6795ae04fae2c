//go:build failover

package failover

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"understudy/e2e/set"

	"golang.org/x/sys/unix"
)

// diskSize has room for a data directory, and for one that was set aside.
const diskSize = 2 << 30

// onDisks puts each member's volume on a file system of its own, ext4 on a loop device: it can stand
// still, be full, and lose its power. The device is in memory, so that many servers need not share
// one disk; what it has is what was synced, and what the kernel wrote meanwhile.
func (f *fixture) onDisks() {
	f.t.Helper()
	devices := filepath.Join(f.dir, "devices")
	if err := os.Mkdir(devices, 0o750); err != nil {
		f.t.Fatal(err)
	}
	f.tool("mount", "-t", "tmpfs", "none", devices)
	f.t.Cleanup(func() { _ = syscall.Unmount(devices, syscall.MNT_DETACH) })
	for i := range f.n {
		m := f.Member(i)
		if err := m.MakeDirs(); err != nil {
			f.t.Fatal(err)
		}
		image := f.image(m)
		file, err := os.Create(image)
		if err == nil {
			err = file.Truncate(diskSize)
		}
		if err != nil {
			f.t.Fatal(err)
		}
		_ = file.Close()
		f.tool("mkfs.ext4", "-q", "-F", image)
		f.attach(m)
		f.t.Cleanup(func() {
			m.KillSidecar()
			m.KillServer()
			_ = syscall.Unmount(m.Volume, syscall.MNT_DETACH)
		})
	}
}

func (f *fixture) image(m *set.Member) string { return filepath.Join(f.dir, "devices", m.Name()) }

func (f *fixture) tool(program string, args ...string) {
	f.t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil { //nolint:noctx // it ends at once
		f.t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
}

func (f *fixture) attach(m *set.Member) {
	f.t.Helper()
	f.tool("mount", "-o", "loop", f.image(m), m.Volume)
}

// powerCut has members lose what they have not synced: all their processes stand still, then their
// disks end without writing anything more (as xfstests' godown does), then the processes end.
func (f *fixture) powerCut(ctx context.Context, members ...*set.Member) {
	f.t.Helper()
	for _, m := range members {
		stopped(m, wholeMember...)
	}
	for _, m := range members {
		f.onVolume(m, "shut down the file system", func(fd int) error {
			const (
				shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
				noLogFlush = 2
			)
			return unix.IoctlSetPointerInt(fd, shutdown, noLogFlush)
		})
	}
	for _, m := range members {
		kill(ctx, m, processServer, processSidecar, processRun)
	}
	for _, m := range members {
		if err := syscall.Unmount(m.Volume, syscall.MNT_DETACH); err != nil {
			f.t.Fatalf("unmount the volume of %s: %v", m.Name(), err)
		}
		// Other mount namespaces have it yet: it goes on on a copy, and nothing comes to it any more.
		next := f.image(m) + ".next"
		f.tool("cp", "--sparse=always", f.image(m), next)
		if err := os.Rename(next, f.image(m)); err != nil {
			f.t.Fatal(err)
		}
		f.attach(m)
	}
}

func (f *fixture) onVolume(m *set.Member, what string, do func(fd int) error) {
	f.t.Helper()
	dir, err := os.Open(m.Volume)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	if err := do(int(dir.Fd())); err != nil {
		f.t.Fatalf("%s of %s: %v", what, m.Name(), err)
	}
}

const freeze, thaw = 0xc0045877, 0xc0045878 // FIFREEZE, FITHAW

// freeze has a member's disk stand still.
func (f *fixture) freeze(m *set.Member) (mend func()) {
	f.onVolume(m, "freeze the disk", func(fd int) error { return unix.IoctlSetInt(fd, freeze, 0) })
	return func() { f.onVolume(m, "thaw the disk", func(fd int) error { return unix.IoctlSetInt(fd, thaw, 0) }) }
}

// slow has a member's disk stand still most of the time: what is written or synced takes up to half a
// second. Disks are so whose operations are limited, and spent.
func (f *fixture) slow(m *set.Member) (mend func()) {
	f.t.Helper()
	dir, err := os.Open(m.Volume)
	if err != nil {
		f.t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for err == nil {
			select {
			case <-end:
				ended <- nil
				return
			case <-time.After(20 * time.Millisecond):
			}
			if err = unix.IoctlSetInt(int(dir.Fd()), freeze, 0); err == nil {
				time.Sleep(500 * time.Millisecond)
				err = unix.IoctlSetInt(int(dir.Fd()), thaw, 0)
			}
		}
		ended <- err
	}()
	return func() {
		close(end)
		if err := <-ended; err != nil {
			f.t.Errorf("slow down the disk of %s: %v", m.Name(), err)
		}
		_ = dir.Close()
	}
}

// fill leaves no room on a member's disk.
func (f *fixture) fill(m *set.Member) (empty func()) {
	f.t.Helper()
	path := filepath.Join(m.Volume, "filler")
	file, err := os.Create(path)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var at int64
	for size := int64(1 << 30); size >= 4096; {
		if syscall.Fallocate(int(file.Fd()), 0, at, size) != nil {
			size /= 2
			continue
		}
		at += size
	}
	return func() {
		if err := os.Remove(path); err != nil {
			f.t.Error(err)
		}
	}
}

// tidy removes what reseeds have set aside, as a person does.
func (f *fixture) tidy() {
	for i := range f.n {
		old, _ := filepath.Glob(filepath.Join(f.Member(i).Volume, "replaced-*"))
		for _, dir := range old {
			_ = os.RemoveAll(dir)
		}
	}
}
