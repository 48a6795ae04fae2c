package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"understudy/clone/failpoint"

	"golang.org/x/sys/unix"
)

const (
	requestName     = "reseed"
	lastRequestName = "last-reseed"
	// newCopyName is the file that marks the new copy of a reseed. Without it the two
	// directories could not be told apart after a crash: they have exchanged their names.
	newCopyName = "understudy_reseed"
	reasonExt   = ".json"
)

// ErrServerRuns is returned when a server runs on a data directory that is about to be
// replaced.
var ErrServerRuns = errors.New("a server runs on the data directory: stop it first")

// Request asks for the reseed of a member that has data. It lies on the volume until
// init has done that, or given it up.
type Request struct {
	// By is who asks, Reason why, At when.
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	// Automatic says that the sidecar asks by itself, and may take it back.
	Automatic bool `json:"automatic,omitempty"`
	// Errant is what the member has and its source lacks, for people; empty when that is
	// nothing, or not known.
	Errant string `json:"errant,omitempty"`
	// State is what the member said of itself.
	State string `json:"state,omitempty"`
}

// Replaced says of a directory that a reseed moved aside why, and what took its place. It
// lies beside it.
type Replaced struct {
	Request
	// Donor is whose copy took its place; ReplacedAt is when.
	Donor      string    `json:"donor"`
	ReplacedAt time.Time `json:"replaced_at"`
}

// WriteRequest asks for a reseed of the member whose volume is mounted at root. It needs no
// lock: the file is there whole or not at all, and a later one takes its place.
func WriteRequest(root string, r Request) error {
	if err := writeJSON(filepath.Join(root, metaName, requestName), r, ownerReads); err != nil {
		return fmt.Errorf("write the request for a reseed: %w", err)
	}
	return nil
}

// ReadRequest returns nil without an error when nobody asks for a reseed.
func ReadRequest(root string) (*Request, error) {
	return readJSON[Request](filepath.Join(root, metaName, requestName), ErrJournal)
}

// LastRequest is the request that was carried out or given up last, nil when there was none.
func LastRequest(root string) (*Request, error) {
	return readJSON[Request](filepath.Join(root, metaName, lastRequestName), ErrJournal)
}

// JournalOf reads the journal of the volume mounted at root, without its lock. It returns nil
// without an error when there is none.
func JournalOf(root string) (*Journal, error) { return (&Volume{root: root}).ReadJournal() }

// CloseRequest ends the request, if there is one, and remembers it as the last one.
func (v *Volume) CloseRequest() error {
	err := os.Rename(v.meta(requestName), v.meta(lastRequestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err = errors.Join(err, syncDir(v.meta(""))); err != nil {
		return fmt.Errorf("close the request for a reseed: %w", err)
	}
	return nil
}

// WithdrawRequest removes the request as if nobody had asked.
func (v *Volume) WithdrawRequest() error {
	if err := os.Remove(v.meta(requestName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("withdraw the request for a reseed: %w", err)
	}
	return syncDir(v.meta(""))
}

// Replaceable says whether another directory can take the live one's name now. It is
// ErrMounted where that is a mount point, and ErrServerRuns while a server holds it: both
// flavours lock some of their files by fcntl (the system tablespace, whatever its name is, and
// mysql.ibd or aria_log_control), and the kernel drops the locks with the process.
func (v *Volume) Replaceable() error {
	if err := v.Mounted(); err != nil {
		return err
	}
	entries, err := os.ReadDir(v.Live())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("see whether a server runs: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		locked, err := isLocked(filepath.Join(v.Live(), e.Name()))
		if err != nil {
			return fmt.Errorf("see whether a server runs: %w", err)
		}
		if locked {
			return ErrServerRuns
		}
	}
	return nil
}

// isLocked says whether another process has locked a file. One that has gone is not.
func isLocked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return lock.Type != unix.F_UNLCK, errors.Join(err, f.Close())
}

// Swap puts the staging directory of j, a complete copy, in the place of the complete live
// directory, as r asks, and returns the journal that says so. Until it has written the phase
// Swapping, nothing has changed; from then on FinishSwap brings it to its end.
func (v *Volume) Swap(j Journal, r Request) (Journal, error) {
	if err := v.Replaceable(); err != nil {
		return j, err
	}
	staging := v.meta(stagingPrefix + j.ID)
	if err := os.WriteFile(filepath.Join(staging, newCopyName), []byte(j.ID+"\n"), 0o600); err != nil {
		return j, fmt.Errorf("mark the new copy: %w", err)
	}
	j.Replaces = &r
	if err := v.secure(j, Swapping); err != nil {
		return j, err
	}
	return v.FinishSwap(j)
}

// FinishSwap goes on with a swap wherever it was left. At every instant the live name leads
// to the old directory or to the new one, each of them whole; where the file system cannot
// exchange two names, it leads nowhere for an instant, and the journal says what comes next.
func (v *Volume) FinishSwap(j Journal) (Journal, error) {
	staging, aside := v.meta(stagingPrefix+j.ID), v.meta(replacedPrefix+j.ID)
	why := Replaced{Donor: j.Donor, ReplacedAt: time.Now().UTC().Truncate(time.Second)}
	if j.Replaces != nil {
		why.Request = *j.Replaces
	}
	if err := writeJSON(aside+reasonExt, why, ownerReads); err != nil {
		return j, fmt.Errorf("note why the data directory is replaced: %w", err)
	}
	if !isNewCopy(v.Live(), j.ID) {
		failpoint.Hit("before-exchange")
		if err := v.takePlace(staging, aside); err != nil {
			return j, fmt.Errorf("put the new copy in the place of the old one: %w", err)
		}
		failpoint.Hit("after-exchange")
		if err := errors.Join(syncDir(v.root), syncDir(v.meta(""))); err != nil {
			return j, fmt.Errorf("sync the volume: %w", err)
		}
	}
	if err := os.Rename(staging, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return j, fmt.Errorf("move the old data directory aside: %w", err)
	}
	failpoint.Hit("after-aside")
	if err := v.CloseRequest(); err != nil {
		return j, err
	}
	j.Replaces = nil
	j, err := v.Acknowledge(j)
	if err != nil {
		return j, err
	}
	if err := os.Remove(filepath.Join(v.Live(), newCopyName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return j, fmt.Errorf("unmark the new copy: %w", err)
	}
	return j, nil
}

// takePlace makes staging the live directory. The old one is at staging or at aside then.
func (v *Volume) takePlace(staging, aside string) error {
	live, err := v.InspectLive()
	if err != nil {
		return err
	}
	if live.Content != Empty {
		err := v.exchange(staging, v.Live())
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
		if err := os.Rename(v.Live(), aside); err != nil { // NFS and others: one after the other
			return err
		}
		failpoint.Hit("between-renames")
	}
	// Nothing, or the empty sub-path that the kubelet has made again.
	if err := v.withoutContent(); err != nil {
		return err
	}
	return os.Rename(staging, v.Live())
}

// exchange swaps two names in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// isNewCopy says whether dir is the new copy of the reseed id.
func isNewCopy(dir, id string) bool {
	text, err := os.ReadFile(filepath.Join(dir, newCopyName))
	return err == nil && strings.TrimSpace(string(text)) == id
}

// RemoveReplaced removes what reseeds have moved aside, and returns the paths. Directories
// that were moved aside for other reasons stay: they have no reason beside them.
func (v *Volume) RemoveReplaced(ctx context.Context) ([]string, error) {
	reasons, err := filepath.Glob(v.meta(replacedPrefix + "*" + reasonExt))
	if err != nil {
		return nil, fmt.Errorf("look for replaced data directories: %w", err)
	}
	var gone []string
	for _, reason := range reasons {
		dir := strings.TrimSuffix(reason, reasonExt)
		// The reason goes last: what a crash leaves is removed the next time.
		if err := removeSlowly(ctx, dir); err != nil {
			return gone, fmt.Errorf("remove a replaced data directory: %w", err)
		}
		if err := os.Remove(reason); err != nil {
			return gone, fmt.Errorf("remove a replaced data directory: %w", err)
		}
		gone = append(gone, dir)
	}
	return gone, nil
}

// removeSlowly is os.RemoveAll that ends with ctx, once what it is at is removed.
func removeSlowly(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(err, os.Remove(dir))
}
