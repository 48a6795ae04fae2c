package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"understudy/replicate/dictionary"

	"golang.org/x/sys/unix"
)

// CompleteMark is the file by which a person says that a data directory which others have filled is
// complete although files are missing that the server's dictionary names. It is empty.
const CompleteMark = dictionary.CompleteMark

// Vouched says whether the live directory bears a person's mark.
func (v *Volume) Vouched() (bool, error) {
	_, err := os.Lstat(filepath.Join(v.Live(), CompleteMark))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the mark of a complete directory: %w", err)
	}
	return true, nil
}

// Adopt records the live directory, which somebody else has filled, as complete, once it is on
// stable storage: tools and people do not see to that.
func (v *Volume) Adopt(j Journal) error {
	if err := syncFound(v.Live()); err != nil {
		return fmt.Errorf("sync the data directory: %w", err)
	}
	j.Adopted, j.Unchecked = true, true
	_, err := v.Acknowledge(j)
	return err
}

// infoMade is when the info file of a tool, or CLONE's, was made in dir; zero without one.
func infoMade(dir string) (time.Time, error) {
	path := findMarks(dir).info
	if path == "" {
		path = filepath.Join(dir, cloneStatus)
	}
	made, err := madeAt(path)
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("look at the tool's info file: %w", err)
	}
	return made.UTC(), nil
}

// madeAt is when a file was made, or, where the file system does not know that, last written.
func madeAt(path string) (time.Time, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MTIME|unix.STATX_BTIME, &st); err != nil {
		return time.Time{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	at := st.Btime
	if st.Mask&unix.STATX_BTIME == 0 {
		at = st.Mtime
	}
	return time.Unix(at.Sec, int64(at.Nsec)), nil
}
