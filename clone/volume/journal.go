package volume

import (
	"errors"
	"fmt"
	"time"

	"understudy/clone/failpoint"
	"understudy/replicate/origin"
)

// Phase is how far a member's data directory has come.
type Phase string

const (
	// Initialising means that the server's own image was told to make a new data
	// directory, and has not been seen to finish.
	Initialising Phase = "initialising"
	// Transferring means that a stream is being unpacked into the staging directory.
	Transferring Phase = "transferring"
	// Extracted means that the stream arrived whole.
	Extracted Phase = "extracted"
	// Preparing means that the engine is at work on the staging directory, which is
	// useless if that is cut short.
	Preparing Phase = "preparing"
	// Prepared means that the staging directory is a complete copy, on stable storage.
	Prepared Phase = "prepared"
	// Swapping means that the staging directory, a complete copy on stable storage, takes
	// the place of the complete live directory. Both are whole, whatever their names are now.
	Swapping Phase = "swapping"
	// Published means that the live directory is complete.
	Published Phase = "published"
	// Attached means that the member has taken its role: replication ran, or it is
	// the primary. Only an attached member gives clones.
	Attached Phase = "attached"
)

// journalFormat is raised when a journal can no longer be read by an older program.
const journalFormat = 1

// ErrJournal is returned for a journal that cannot be read. Nothing is decided then.
var ErrJournal = errors.New("unreadable journal")

// Journal is the durable record of what was done to a volume.
type Journal struct {
	Format int   `json:"format"`
	Phase  Phase `json:"phase"`
	// ID names the clone and its staging directory. Empty for a directory that was
	// not cloned by us.
	ID string `json:"id,omitempty"`
	// Owner is the member that wrote this, by its name. It is not known of volumes that an
	// older program has written.
	Owner string `json:"owner,omitempty"`
	// Donor is the member whose data this is a copy of.
	Donor         string `json:"donor,omitempty"`
	Engine        string `json:"engine,omitempty"`
	ServerVersion string `json:"server_version,omitempty"`
	// Bytes and Digest describe the raw xbstream: its length and "xxh64:" + hex.
	Bytes  int64  `json:"bytes,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Adopted says that the directory was not made by us: it keeps its GTID mode.
	Adopted bool `json:"adopted,omitempty"`
	// Binlog is the log_bin with which the server of an adopted directory wrote its binary logs,
	// where the operator's configuration says that; empty where the directory tells.
	Binlog string `json:"binlog,omitempty"`
	// InfoMade is when the info file of the tool, or of CLONE, in the complete directory was made:
	// until a server has run on a copy, only that tells it from another one in its place. Zero without
	// such a file.
	InfoMade time.Time `json:"info_made,omitzero"`
	// Unchecked says that nobody has looked yet whether an adopted directory has all files that the
	// server's dictionary names. It is not set in the journals of older programs.
	Unchecked bool `json:"unchecked,omitempty"`
	// KeepsGTIDMode says that the server keeps its GTID mode though the directory was not
	// adopted here: the member whose volume was copied had adopted it.
	KeepsGTIDMode bool `json:"keeps_gtid_mode,omitempty"`
	// Configured says that the server on this copy was told to replicate from the origin.
	Configured bool `json:"configured,omitempty"`
	// SemiSynced says that the primary on this directory acknowledges no commit that is not
	// with a replica, where that is required.
	SemiSynced bool `json:"semi_synced,omitempty"`
	// Parted are transactions on this directory that the primary had lost when it opened for
	// writes. It gives their numbers again, so that nothing but this shows that rows differ.
	Parted string `json:"parted,omitempty"`
	// Origin is where replication begins on this copy; nil when it is not known.
	Origin *origin.Origin `json:"origin,omitempty"`
	// Attempt counts, from 1, how often the server's image has begun to make the directory,
	// while it is initialising. Zero, of an older program, is the first.
	Attempt int `json:"attempt,omitempty"`
	// Replaces is why a complete directory is replaced, while that is done.
	Replaces *Request `json:"replaces,omitempty"`
}

// ReadJournal returns nil without an error when the volume has no journal.
func (v *Volume) ReadJournal() (*Journal, error) {
	j, err := readJSON[Journal](v.meta(journalName), ErrJournal)
	if j == nil || err != nil {
		return nil, err
	}
	if j.Format != journalFormat {
		return nil, fmt.Errorf("%w: %s has format %d, this program knows %d", ErrJournal, v.meta(journalName), j.Format, journalFormat)
	}
	switch j.Phase {
	case Initialising, Transferring, Extracted, Preparing, Prepared, Swapping, Published, Attached:
		return j, nil
	}
	return nil, fmt.Errorf("%w: %s has the unknown phase %q", ErrJournal, v.meta(journalName), j.Phase)
}

// WriteJournal replaces the journal so that a crash leaves the old or the new one,
// and returns once the new one is on stable storage.
func (v *Volume) WriteJournal(j Journal) error {
	j.Format = journalFormat
	if v.owner != "" {
		j.Owner = v.owner
	}
	failpoint.Hit("before-journal-" + string(j.Phase))
	if err := writeJSON(v.meta(journalName), j, ownerReads); err != nil {
		return fmt.Errorf("write the journal (%s): %w", j.Phase, err)
	}
	failpoint.Hit("after-journal-" + string(j.Phase))
	return nil
}
