package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The marks that the first and the last script of the server's image leave in the data directory,
// see manifests/base/initdb. No backup tool copies them.
const (
	begunMark = ".understudy-begun"
	endedMark = ".understudy-ended"
)

// MaxAttempts is how often the server's image is told by itself to make a data directory.
const MaxAttempts = 3

// Marks are what the server's image has left of its work on the live directory.
type Marks struct {
	// Filled says that there is anything.
	Filled bool
	// Begun says that the image has come to its scripts, Ended that the last of them has run,
	// or that something else has proved the image's end: see MarkEnded.
	Begun, Ended bool
}

// Marks looks at the live directory.
func (v *Volume) Marks() (Marks, error) {
	live, err := v.InspectLive()
	m := Marks{Filled: live.Content != Empty}
	for name, there := range map[string]*bool{begunMark: &m.Begun, endedMark: &m.Ended} {
		_, statErr := os.Lstat(filepath.Join(v.Live(), name))
		*there = statErr == nil
		if !errors.Is(statErr, fs.ErrNotExist) {
			err = errors.Join(err, statErr)
		}
	}
	if err != nil {
		return Marks{}, fmt.Errorf("look how far the server's image is: %w", err)
	}
	return m, nil
}

// MarkEnded leaves the mark of the image's end in its place. It is on stable storage then.
func (v *Volume) MarkEnded() error {
	if err := writeDurably(filepath.Join(v.Live(), endedMark), nil, ownerReads); err != nil {
		return fmt.Errorf("mark that the server's image is done: %w", err)
	}
	return nil
}

// RemoveMarks removes the marks of the image, and a person's, which mean nothing in a directory
// that is complete by the journal.
func (v *Volume) RemoveMarks() error {
	var errs []error
	for _, name := range []string{begunMark, endedMark, CompleteMark} {
		if err := os.Remove(filepath.Join(v.Live(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove the marks of the data directory: %w", err))
		}
	}
	return errors.Join(errs...)
}

// StartEmpty lets the server's image make the live directory, for the attempt that is given. The
// journal comes first: from then on a directory found here is not unknown.
func (v *Volume) StartEmpty(attempt int) error {
	return errors.Join(v.WriteJournal(Journal{Phase: Initialising, Attempt: attempt}), v.MakeLive())
}
