package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"understudy/replicate/origin"
)

// Inherit makes a volume that is a copy of another member's this member's own: its data are a
// copy of that member's, and replication begins at what they have executed. of says whose
// binary log that is. keepsGTIDMode says that their server kept its GTID mode. A copy that had
// not replicated yet keeps the origin that it had. Journal.Parted stays, since it is of the data.
// The server gets an identity of its own: two servers with one server_uuid cannot replicate.
func (v *Volume) Inherit(j Journal, of origin.Owner, keepsGTIDMode bool) error {
	if err := os.Remove(filepath.Join(v.Live(), "auto.cnf")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the other member's identity: %w", err)
	}
	if err := syncDir(v.Live()); err != nil {
		return fmt.Errorf("remove the other member's identity: %w", err)
	}
	made, err := infoMade(v.Live())
	if err != nil {
		return err
	}
	if j.Phase == Attached || j.Configured || j.Origin == nil {
		j = Journal{
			Donor: j.Owner, ServerVersion: j.ServerVersion, KeepsGTIDMode: keepsGTIDMode, Unchecked: j.Unchecked, Parted: j.Parted,
			Origin: &origin.Origin{Mode: origin.Executed, Of: of},
		}
	}
	j.Phase, j.InfoMade = Published, made
	return v.WriteJournal(j)
}
