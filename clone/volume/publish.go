package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"understudy/clone/failpoint"

	"golang.org/x/sys/unix"
)

// ErrOccupied is returned when the live directory is not empty, so that nothing may
// take its place.
var ErrOccupied = errors.New("the live data directory is not empty")

// Secure puts a complete staging directory on stable storage and says so in the
// journal. From then on the copy survives anything but the loss of the disk.
func (v *Volume) Secure(j Journal) error { return v.secure(j, Prepared) }

func (v *Volume) secure(j Journal, phase Phase) error {
	staging := v.meta(stagingPrefix + j.ID)
	if err := syncTree(staging, v.lock); err != nil {
		return fmt.Errorf("sync the clone: %w", err)
	}
	if err := syncDir(v.meta("")); err != nil {
		return fmt.Errorf("sync %s: %w", metaName, err)
	}
	j.Phase = phase
	return v.WriteJournal(j)
}

// Publish makes the prepared staging directory of j the live one, in one rename, and returns the
// journal that says so. The live directory must be empty or absent, else ErrOccupied, and no mount
// point, else ErrMounted. A crash at any instant leaves a volume that Decide resumes.
func (v *Volume) Publish(j Journal) (Journal, error) {
	failpoint.Hit("before-rmdir")
	// The kubelet makes the sub-path before the first container starts.
	if err := v.withoutContent(); err != nil {
		return j, err
	}
	failpoint.Hit("before-rename")
	if err := os.Rename(v.meta(stagingPrefix+j.ID), v.Live()); err != nil {
		return j, fmt.Errorf("publish the clone: %w", err)
	}
	failpoint.Hit("after-rename")
	return v.Acknowledge(j)
}

// Acknowledge records the live directory as complete, after a rename that has already happened. It
// is also the last step of Publish.
func (v *Volume) Acknowledge(j Journal) (Journal, error) {
	for _, dir := range []string{v.root, v.meta("")} {
		if err := syncDir(dir); err != nil {
			return j, fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	made, err := infoMade(v.Live())
	if err != nil {
		return j, err
	}
	j.Phase, j.InfoMade = Published, made
	return j, v.WriteJournal(j)
}

// SetAside moves the live directory to replaced-<id> below .understudy and returns
// the new path. We never delete it: it has no reason of a reseed beside it.
func (v *Volume) SetAside(id string) (string, error) {
	aside := v.meta(replacedPrefix + id)
	if err := os.Rename(v.Live(), aside); err != nil {
		return "", fmt.Errorf("move the data directory aside: %w", err)
	}
	for _, dir := range []string{v.root, v.meta("")} {
		if err := syncDir(dir); err != nil {
			return "", fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	return aside, nil
}

// MakeLive makes the empty live directory for a server that is about to fill it.
func (v *Volume) MakeLive() error {
	if err := os.Mkdir(v.Live(), DirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return syncDir(v.root)
}

// Settle gives a complete file or directory its name, at which there must be nothing or an empty
// directory. Everything in it is on stable storage before it has the name, and the name when
// Settle returns.
func Settle(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = syncTree(from, nil)
	} else {
		err = syncDir(from) // opens and syncs a file, too
	}
	if err != nil {
		return err
	}
	// rename(2) takes the place of an empty directory in the same step; os.Rename refuses to.
	if err := unix.Rename(from, to); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return syncDir(filepath.Dir(to))
}
