package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Pause says that the sidecar has to leave its member alone. It is a file of its own and
// not part of the journal, which belongs to whoever holds the volume's lock: people pause
// a member while its sidecar runs.
type Pause struct {
	Since time.Time `json:"since"`
	// Until is when the pause ends by itself; zero: it does not.
	Until time.Time `json:"until,omitzero"`
	// Reason is what whoever paused it said; it may be empty.
	Reason string `json:"reason,omitempty"`
}

// Ended reports whether the pause has ended by itself.
func (p Pause) Ended(now time.Time) bool { return !p.Until.IsZero() && !now.Before(p.Until) }

// String says it to people. It stays the same for as long as the pause does.
func (p Pause) String() string {
	text := "paused since " + p.Since.UTC().Format(time.RFC3339)
	if !p.Until.IsZero() {
		text += " until " + p.Until.UTC().Format(time.RFC3339)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// ErrNoVolume is returned for a directory that init has not made a member's volume.
var ErrNoVolume = errors.New("it is no volume of understudy")

// ErrPause is returned for a pause that cannot be read.
var ErrPause = errors.New("unreadable pause")

func pausePath(root string) string { return filepath.Join(root, metaName, "paused") }

// ReadPause returns nil without an error when nobody has paused the member whose volume
// root is. A pause that has ended by itself is returned, too.
func ReadPause(root string) (*Pause, error) { return readJSON[Pause](pausePath(root), ErrPause) }

// Pause is ReadPause for the volume that this process holds.
func (v *Volume) Pause() (*Pause, error) { return ReadPause(v.root) }

// WritePause pauses the member whose volume root is, and returns once that is on stable
// storage. It needs no lock.
func WritePause(root string, p Pause) error {
	if err := initialised(root); err != nil {
		return err
	}
	// The sidecar may have another uid than whoever pauses it on the host.
	const everybodyReads = 0o644
	if err := writeJSON(pausePath(root), p, everybodyReads); err != nil {
		return fmt.Errorf("write the pause: %w", err)
	}
	return nil
}

// RemovePause ends a pause. It is no error when there is none, nor when it cannot be read.
func RemovePause(root string) error {
	if err := initialised(root); err != nil {
		return err
	}
	err := os.Remove(pausePath(root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Join(root, metaName))
	}
	if err != nil {
		return fmt.Errorf("remove the pause: %w", err)
	}
	return nil
}

// initialised looks for the journal, which init writes before all else.
func initialised(root string) error {
	_, err := os.Stat(filepath.Join(root, metaName, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: init has written no journal there", root, ErrNoVolume)
	}
	if err != nil {
		return fmt.Errorf("look at the volume: %w", err)
	}
	return nil
}
