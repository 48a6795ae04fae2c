package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	liveName     = "mysql"
	metaName     = ".understudy"
	journalName  = "journal"
	snapshotName = "snapshot"

	stagingPrefix  = "staging-"
	replacedPrefix = "replaced-"
	backupPrefix   = "backup-"

	// DirMode is the mode of directories made here: the server's account owns them.
	DirMode fs.FileMode = 0o750
)

// ErrLocked is returned while another process holds the volume.
var ErrLocked = errors.New("another understudy process holds the volume")

// Volume is one member's volume, locked for this process.
type Volume struct {
	root string
	lock *os.File
	// owner is this member's name; empty when that is not known.
	owner string
	// exchange swaps two names; tests take it for a file system that cannot.
	exchange func(a, b string) error
}

// Open takes the volume at root. It waits while another process holds it (after a
// forced deletion two pods can overlap), calling waiting each interval, and fails
// with ErrLocked and the context's error when ctx ends first. Close releases it.
func Open(ctx context.Context, root string, interval time.Duration, waiting func(holder string)) (*Volume, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("look at the volume: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("the volume %s is not a directory", root)
	}
	meta := filepath.Join(root, metaName)
	if err := os.Mkdir(meta, DirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make %s on the volume: %w", metaName, err)
	}
	lock, err := os.OpenFile(filepath.Join(meta, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the volume's lock: %w", err)
	}
	if err := acquire(ctx, lock, interval, waiting); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	// Says who holds it, for the message of the next one who waits.
	host, _ := os.Hostname()
	_ = lock.Truncate(0)
	_, _ = lock.WriteAt(fmt.Appendf(nil, "%s pid %d\n", host, os.Getpid()), 0)
	return &Volume{root: root, lock: lock, exchange: exchange}, nil
}

// OwnedBy says which member's volume it is, by its name, SET-ORDINAL: the journal bears it from
// now on.
func (v *Volume) OwnedBy(member string) { v.owner = member }

// TryLock locks a file until it is closed, by its process's end at the latest. It is
// false when somebody else holds it.
func TryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func acquire(ctx context.Context, lock *os.File, interval time.Duration, waiting func(string)) error {
	const poll = 200 * time.Millisecond
	tick := time.NewTicker(poll)
	defer tick.Stop()
	said := time.Time{}
	for {
		got, err := TryLock(lock)
		if err != nil {
			return fmt.Errorf("lock the volume: %w", err)
		}
		if got {
			return nil
		}
		holder := make([]byte, 256)
		n, _ := lock.ReadAt(holder, 0)
		who := strings.TrimSpace(string(holder[:n]))
		if time.Since(said) >= interval {
			waiting(who)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%s): %w", ErrLocked, who, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Close lets go of the volume. It is safe to call it twice.
func (v *Volume) Close() error {
	if v.lock == nil {
		return nil
	}
	err := v.lock.Close()
	v.lock = nil
	return err
}

// Live is the path of the data directory that the server runs on.
func (v *Volume) Live() string { return filepath.Join(v.root, liveName) }

func (v *Volume) meta(name string) string { return filepath.Join(v.root, metaName, name) }

// Space is what an unprivileged process can still use of a file system.
type Space struct {
	Bytes  int64
	Inodes int64
	// Size is all that there is, in bytes.
	Size int64
}

// FreeSpace reports the space left where path lies.
func FreeSpace(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, fmt.Errorf("read free space of %s: %w", path, err)
	}
	s := Space{Bytes: int64(st.Bavail) * st.Bsize, Inodes: int64(st.Ffree), Size: int64(st.Blocks) * st.Bsize} //nolint:gosec // a file system's size fits
	if st.Files == 0 {
		s.Inodes = math.MaxInt64 // it makes them when they are wanted, as btrfs does
	}
	return s, nil
}

// Free reports the space left on the volume.
func (v *Volume) Free() (Space, error) { return FreeSpace(v.root) }

// Writable tries what a clone does before it writes much: it makes a file, puts it on
// stable storage and removes it, in the volume's root and below .understudy. The error
// says who tried, and whose the directory is.
func (v *Volume) Writable() error {
	for _, dir := range []string{v.root, v.meta("")} {
		if err := tryWrite(dir, 0); err != nil {
			return fmt.Errorf("the volume cannot be written by uid %d, gid %d: %w%s", os.Geteuid(), os.Getegid(), err, owner(dir))
		}
	}
	return nil
}

// TakesWrites tries what a server does all the time: it allocates room, in bytes, writes some of it
// and has it on stable storage. It hangs for as long as the disk does.
func (v *Volume) TakesWrites(room int64) error {
	if err := tryWrite(v.meta(""), room); err != nil {
		return fmt.Errorf("write to the volume: %w", err)
	}
	return nil
}

// tryWrite makes a file with something in it, and with room bytes, where the file system can allocate
// them; 0: with what it needs.
func tryWrite(dir string, room int64) error {
	f, err := os.CreateTemp(dir, ".understudy-*")
	if err != nil {
		return err
	}
	// Removed first, it is not left behind by a process that dies.
	err = os.Remove(f.Name())
	var allocErr error
	if room > 0 {
		allocErr = unix.Fallocate(int(f.Fd()), 0, 0, room)
	}
	if errors.Is(allocErr, unix.EOPNOTSUPP) || errors.Is(allocErr, unix.ENOSYS) || errors.Is(allocErr, unix.EINTR) {
		allocErr = nil // not every file system can
	}
	_, writeErr := f.WriteString("x")
	return errors.Join(err, allocErr, writeErr, f.Sync(), f.Close())
}

// owner says whose dir is, as far as that can be seen.
func owner(dir string) string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return ""
	}
	return fmt.Sprintf(" (%s belongs to uid %d, gid %d, mode %04o)", dir, st.Uid, st.Gid, st.Mode&0o7777)
}

// NewID makes a name for a clone: the time for people, random bits against clashes.
func NewID() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return time.Now().UTC().Format("20060102T150405") + "-" + hex.EncodeToString(b)
}

// NewStaging makes the empty directory into which the clone id is unpacked.
func (v *Volume) NewStaging(id string) (string, error) {
	return v.newDir(stagingPrefix + id)
}

// NewBackup makes the empty directory in which a backup tool keeps its working
// files while this member gives a clone. The caller removes it.
func (v *Volume) NewBackup(id string) (string, error) {
	return v.newDir(backupPrefix + id)
}

// Snapshots makes the directory in which this member's server makes its own copies, unless
// it is there already, and returns its path. It stays, for it may be mounted elsewhere.
func (v *Volume) Snapshots() (string, error) {
	dir := v.meta(snapshotName)
	if err := os.Mkdir(dir, DirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make %s on the volume: %w", snapshotName, err)
	}
	return dir, nil
}

func (v *Volume) newDir(name string) (string, error) {
	dir := v.meta(name)
	if err := os.Mkdir(dir, DirMode); err != nil {
		return "", fmt.Errorf("make %s on the volume: %w", name, err)
	}
	return dir, nil
}

// Sweep removes the working files that killed processes left: backups, and all
// stagings but the one named keep (an id, or empty). It touches nothing else.
func (v *Volume) Sweep(keep string) error {
	entries, err := os.ReadDir(v.meta(""))
	if err != nil {
		return fmt.Errorf("list %s on the volume: %w", metaName, err)
	}
	var errs []error
	for _, e := range entries {
		id, staging := strings.CutPrefix(e.Name(), stagingPrefix)
		if staging && (keep == "" || id != keep) || strings.HasPrefix(e.Name(), backupPrefix) || abandoned(e, time.Now()) {
			errs = append(errs, os.RemoveAll(v.meta(e.Name())))
		}
	}
	return errors.Join(append(errs, v.RemoveProgress())...)
}

// SweepSnapshots removes what the server's own copies left, before the server runs: one that
// does may still write to them.
func (v *Volume) SweepSnapshots() error {
	err := Clear(v.meta(snapshotName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Clear removes what lies in a directory, but not the directory: it may be a mount point, with
// a lost+found of its file system's, which stays, too.
func Clear(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clear a directory: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lostFound {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
