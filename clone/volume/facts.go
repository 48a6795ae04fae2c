package volume

import "os"

// Facts is all that the decision rests on.
type Facts struct {
	// First says that this is the first ordinal, which may start empty, and whose
	// data nobody else may have.
	First bool
	// Bootstrap is the operator's permission for the first ordinal to start empty.
	Bootstrap bool
	// Owner is this member's name; empty when that is not known.
	Owner string
	// Journal is nil when the volume has none.
	Journal *Journal
	// Staging says that the journal's staging directory exists; while swapping, that it is
	// the new copy.
	Staging bool
	// Swapped says, while swapping, that the live directory is the new copy.
	Swapped bool
	// SameCopy says that the live directory has the info file that was there when it was recorded.
	SameCopy bool
	// Request is nil when nobody asks for a reseed.
	Request *Request
	Live    Live
}

// Facts gathers what Decide needs from the volume.
func (v *Volume) Facts(first, bootstrap bool) (Facts, error) {
	f := Facts{First: first, Bootstrap: bootstrap, Owner: v.owner}
	var err error
	if f.Journal, err = v.ReadJournal(); err != nil {
		return f, err
	}
	if f.Journal != nil && f.Journal.ID != "" {
		staging := v.meta(stagingPrefix + f.Journal.ID)
		info, err := os.Lstat(staging)
		f.Staging = err == nil && info.IsDir()
		if f.Journal.Phase == Swapping {
			f.Staging = isNewCopy(staging, f.Journal.ID)
			f.Swapped = isNewCopy(v.Live(), f.Journal.ID)
		}
	}
	if f.Journal != nil && !f.Journal.InfoMade.IsZero() {
		made, err := infoMade(v.Live())
		if err != nil {
			return f, err
		}
		f.SameCopy = made.Equal(f.Journal.InfoMade)
	}
	if f.Request, err = ReadRequest(v.root); err != nil {
		return f, err
	}
	f.Live, err = v.InspectLive()
	return f, err
}
