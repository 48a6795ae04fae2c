package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrMounted is returned for a data directory that is a mount point: nothing can take its
// name, and what is staged beside it lies on another file system.
var ErrMounted = errors.New("it is a mount point")

// Mounted is ErrMounted when the live data directory is a mount point, and not a directory of
// the volume. One that does not exist is none.
func (v *Volume) Mounted() error {
	mounted, err := IsMountPoint(v.Live())
	if err == nil && mounted {
		err = fmt.Errorf("%s: %w; mount the volume itself at %s, so that mysql/ is a directory of it", v.Live(), ErrMounted, v.root)
	}
	return err
}

// IsMountPoint says whether path is one. Kernels before 5.8 do not tell it of a directory
// that is mounted from the same file system. A path that does not exist is none.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("see whether %s is a mount point: %w", path, err)
	}
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
	}
	var parent unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, filepath.Join(path, ".."), 0, unix.STATX_TYPE, &parent); err != nil {
		return false, fmt.Errorf("see whether %s is a mount point: %w", path, err)
	}
	return st.Dev_major != parent.Dev_major || st.Dev_minor != parent.Dev_minor, nil
}

// withoutContent makes the live directory's name free. The directory must be absent or count as
// empty, else ErrOccupied: it goes, or, where something was found for its lost+found, is moved
// aside.
func (v *Volume) withoutContent() error {
	err := unix.Rmdir(v.Live())
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EBUSY):
		return errors.Join(v.Mounted(), fmt.Errorf("remove the empty %s: %w", v.Live(), err))
	case !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("remove the empty %s: %w", v.Live(), err)
	}
	live, err := v.InspectLive()
	if err != nil {
		return err
	}
	if live.Content != Empty {
		return fmt.Errorf("%w: %s", ErrOccupied, v.Live())
	}
	_ = unix.Rmdir(filepath.Join(v.Live(), lostFound)) // leaves it where it holds something
	err = unix.Rmdir(v.Live())
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		_, err = v.SetAside(NewID())
	}
	return err
}
