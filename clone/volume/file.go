package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ownerReads is the mode of what only understudy reads.
const ownerReads = 0o600

// readJSON returns nil without an error when there is no such file. Its other errors are
// unreadable.
func readJSON[T any](path string, unreadable error) (*T, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", unreadable, err)
	}
	var value T
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", unreadable, path, err)
	}
	return &value, nil
}

// writeJSON replaces a file durably.
func writeJSON(path string, value any, mode fs.FileMode) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	return writeDurably(path, append(text, '\n'), mode)
}

// newSuffix ends the name of a file that is about to take another one's place.
const newSuffix = ".new"

// writeDurably is write, fsync, rename, fsync of the folder. Of two processes that write the
// same file at once, each writes one of its own, and the last to finish counts. What one that
// was killed leaves is swept.
func writeDurably(path string, text []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+newSuffix)
	if err != nil {
		return err
	}
	tmp := f.Name()
	if err = f.Chmod(mode); err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}

// abandoned says whether a file was left by a writer that was killed, and not by one that is
// at work: only who holds the volume writes the journal, and for the others nobody takes a
// minute for a small file.
func abandoned(e fs.DirEntry, now time.Time) bool {
	if !strings.HasSuffix(e.Name(), newSuffix) || !e.Type().IsRegular() {
		return false
	}
	if strings.HasPrefix(e.Name(), journalName+".") {
		return true
	}
	info, err := e.Info()
	return err == nil && now.Sub(info.ModTime()).Abs() > time.Minute
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

const progressName = "progress.json"

// WriteProgress replaces the file that says how far a clone is. It is for people, and
// does not outlive a crash.
func (v *Volume) WriteProgress(progress any) error {
	text, err := json.Marshal(progress)
	if err != nil {
		return fmt.Errorf("encode the progress: %w", err)
	}
	path := v.meta(progressName)
	if err := os.WriteFile(path+newSuffix, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the progress: %w", err)
	}
	return os.Rename(path+newSuffix, path)
}

// RemoveProgress removes that file, which need not exist.
func (v *Volume) RemoveProgress() error {
	var errs []error
	for _, name := range []string{progressName, progressName + newSuffix} {
		if err := os.Remove(v.meta(name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
