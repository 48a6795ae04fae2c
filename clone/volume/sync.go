package volume

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// syncers is how many files are synced at the same time. Most of the time each of them waits for
// the disk.
const syncers = 32

// syncTree puts everything in dir on stable storage. before is a file of the same file system that
// was opened before anything in dir was written; nil: there is none.
//
// One syncfs(2) on before does it where that reports every write that has failed since before was
// opened. Elsewhere each file and directory is synced, after a syncfs, which makes that quick.
func syncTree(dir string, before *os.File) error { return syncAll(dir, before, false) }

// syncFound is syncTree for what somebody else has put there, some of which this account may not
// read. The server does not read that either.
func syncFound(dir string) error { return syncAll(dir, nil, true) }

func syncAll(dir string, before *os.File, lenient bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	if before != nil && reportsWrites(before) && sameDevice(before, d) {
		return unix.Syncfs(int(before.Fd()))
	}
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return err
	}
	return syncEach(root, lenient)
}

// syncEach syncs all files and directories below root; lenient: of those that may be read.
func syncEach(root *os.Root, lenient bool) error {
	hidden := func(err error) bool { return lenient && errors.Is(err, fs.ErrPermission) }
	var g errgroup.Group
	g.SetLimit(syncers)
	err := fs.WalkDir(root.FS(), ".", func(path string, e fs.DirEntry, err error) error {
		if hidden(err) {
			return fs.SkipDir
		}
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		g.Go(func() error {
			f, err := root.Open(path)
			if hidden(err) {
				return nil
			}
			if err != nil {
				return err
			}
			return errors.Join(f.Sync(), f.Close())
		})
		return nil
	})
	return errors.Join(err, g.Wait())
}

// reportsWrites says whether syncfs(2) waits for all data of f's file system, and reports writes
// that have failed: from Linux 5.8 on, and of the file systems below. FUSE, for one, does not wait.
//
// https://man7.org/linux/man-pages/man2/sync.2.html
func reportsWrites(f *os.File) bool {
	var system unix.Statfs_t
	var kernel unix.Utsname
	if unix.Fstatfs(int(f.Fd()), &system) != nil || unix.Uname(&kernel) != nil {
		return false
	}
	switch system.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return sinceLinux(unix.ByteSliceToString(kernel.Release[:]), 5, 8)
	}
	return false
}

// sinceLinux says whether a release, such as 6.1.0-18-amd64, is not older than major.minor.
func sinceLinux(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	second, _, _ = strings.Cut(second, "-")
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(second)
	return errA == nil && errB == nil && (a > major || a == major && b >= minor)
}

func sameDevice(a, b *os.File) bool {
	var ofA, ofB unix.Stat_t
	return unix.Fstat(int(a.Fd()), &ofA) == nil && unix.Fstat(int(b.Fd()), &ofB) == nil && ofA.Dev == ofB.Dev
}
