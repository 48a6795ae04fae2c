package volume

import (
	"fmt"
	"strings"
)

// Verdict is what init does with a volume.
type Verdict string

const (
	// Keep means that the live directory is complete and known; nothing is to be done.
	Keep Verdict = "keep"
	// Adopt means that the live directory is complete but unknown; it gets a journal.
	Adopt Verdict = "adopt"
	// Start means that the server's image makes a new data directory.
	Start Verdict = "start empty"
	// StartAnew is Start, after the live directory has been moved aside.
	StartAnew Verdict = "move aside and start empty"
	// Clone means that the data come from a peer.
	Clone Verdict = "clone"
	// CloneAnew is Clone, after the live directory has been moved aside.
	CloneAnew Verdict = "move aside and clone"
	// Publish means that a prepared staging directory becomes the live one.
	Publish Verdict = "publish"
	// Acknowledge means that it already became the live one, and only the journal lags.
	Acknowledge Verdict = "acknowledge"
	// Reseed means that a copy of a peer takes the place of the complete live directory.
	Reseed Verdict = "clone and swap"
	// Inherit means that the whole volume is a copy of another member's, as a snapshot of that
	// makes it: its data are a copy of that member's.
	Inherit Verdict = "take over another member's volume"
	// FinishSwap means that a swap was begun, and both directories are whole.
	FinishSwap Verdict = "finish the swap"
	// Refuse means that nothing is touched, and that somebody has to decide.
	Refuse Verdict = "refuse"
)

// Decide picks the verdict, and says why in words for the log.
//
//	journal                              staging  live directory      first ordinal         others
//	-----------------------------------  -------  ------------------  --------------------  ------------------
//	none                                 -        empty               start¹, else clone²   clone
//	none                                 -        complete⁷           adopt                 adopt
//	none                                 -        incomplete          refuse                move aside, clone
//	none                                 -        foreign             refuse                refuse
//	initialising                         -        empty               start                 refuse
//	initialising                         -        anything else⁸      move aside, start     refuse
//	transferring, extracted, preparing   any      empty               clone²                clone
//	transferring, extracted, preparing   any      anything else       refuse                refuse
//	prepared                             yes      empty               publish               publish
//	prepared                             yes      anything else       refuse                refuse
//	prepared                             no       server, copy        acknowledge           acknowledge
//	prepared                             no       empty               clone²                clone
//	prepared                             no       anything else       refuse                refuse
//	swapping                             yes³     complete, empty     finish the swap       finish the swap
//	swapping                             any      the new copy⁴       finish the swap       finish the swap
//	swapping                             else     anything else       refuse                refuse
//	published, attached                  any      replaced⁹           adopt                 adopt
//	published, attached, another's⁶      any      server, copy        inherit               inherit
//	published, attached                  any      server, copy        keep                  keep, or reseed⁵
//	published, attached                  any      empty               clone²                clone
//	published, attached                  any      anything else       refuse                refuse
//
// ¹ only with the permission to bootstrap. Where there is a journal, the set was initialised
// once, and no permission covers that.
// ² from the most advanced member; while none has data, it waits.
//
// ³ the staging directory is the new copy, by the mark in it.
//
// ⁴ by the mark in it, and complete.
//
// ⁵ when there is a request for it.
//
// ⁶ the journal was written by another ordinal. A set may be restored under another name.
//
// ⁷ server, copy, restored. Whoever copied it there may have been interrupted, which does not show
// here: the sidecar asks the server's dictionary, see Journal.Unchecked.
//
// ⁸ also where the last script has left its mark. The set has not opened, so that nothing is lost,
// and it is how an image begins again that was given a wrong password.
//
// ⁹ a copy that no server has run on, and whose info file is not the one that was recorded. Older
// programs recorded none: there only one that is restored.
//
// Only prepared is resumed: whatever came earlier is thrown away with its staging.
func Decide(f Facts) (Verdict, string) {
	if f.Journal == nil {
		return decideUnknown(f)
	}
	phase := f.Journal.Phase
	complete := f.Live.Content == Server || f.Live.Content == Copy
	known := phase == Published || phase == Attached
	switch {
	case phase == Initialising && !f.First:
		return Refuse, "the journal says that this volume was the first ordinal's"
	case phase == Initialising && f.Live.Content == Empty:
		return Start, "the permission to start empty was given before, and nothing has been made yet"
	case phase == Initialising:
		return StartAnew, "the server's image was interrupted while it made the data directory"
	case phase == Prepared && f.Staging && f.Live.Content == Empty:
		return Publish, "a prepared clone is waiting"
	case phase == Prepared && f.Staging:
		return Refuse, "both a prepared clone and a live directory exist"
	case phase == Prepared && complete:
		return Acknowledge, "the clone is in place, only the journal lags"
	case phase == Swapping && (f.Swapped && complete || !f.Swapped && f.Staging && (complete || f.Live.Content == Empty)):
		return FinishSwap, "the new copy is complete, and was taking the old one's place"
	case phase == Swapping:
		return Refuse, "a swap was begun, but the new copy cannot be found"
	case known && f.Live.starts() && f.another():
		return Inherit, fmt.Sprintf("the journal was written by %s: the volume is a copy of that member's", f.Journal.Owner)
	case known && f.replaced():
		return Adopt, "the live directory was put there in the place of the one that is recorded: " + f.Live.Why
	case known && f.Live.starts() && f.Request != nil && !f.First:
		return Reseed, fmt.Sprintf("%s asks for it: %s", f.Request.By, f.Request.Reason)
	case known && f.Live.starts():
		return Keep, fmt.Sprintf("the journal says %s, and %s", phase, f.Live.Why)
	case f.Live.Content != Empty:
		return Refuse, fmt.Sprintf("the journal says %s, but the live directory is %s: %s", phase, f.Live.Content, f.Live.Why)
	}
	return Clone, fmt.Sprintf("the journal says %s, and the live directory is empty", f.Journal.Phase)
}

// another says that the journal came from a member of another ordinal, with its volume.
func (f Facts) another() bool {
	ordinal := func(member string) string { return member[strings.LastIndexByte(member, '-')+1:] }
	return f.Owner != "" && f.Journal.Owner != "" && ordinal(f.Owner) != ordinal(f.Journal.Owner)
}

// replaced says that the live directory is not the one that the journal says is complete.
func (f Facts) replaced() bool {
	switch f.Live.Content {
	case Copy:
		return !f.SameCopy && !f.Journal.InfoMade.IsZero()
	case Restored:
		return !f.SameCopy
	case Empty, Server, Incomplete, Foreign:
	}
	return false
}

const incomplete = "the live directory is a copy that was cut short, or never prepared: "

func decideUnknown(f Facts) (Verdict, string) {
	switch f.Live.Content {
	case Server, Copy, Restored:
		return Adopt, f.Live.Why
	case Incomplete:
		if f.First {
			return Refuse, incomplete + f.Live.Why + "; nobody else may have the data of the first ordinal, so that it is not moved aside: " +
				"restore a complete copy in its place, or move it away yourself, and this member is cloned from the most advanced of the others"
		}
		return CloneAnew, incomplete + f.Live.Why
	case Empty:
		switch {
		case !f.First:
			return Clone, "the volume is empty"
		case f.Bootstrap:
			return Start, "the volume is empty, and starting empty is allowed"
		default:
			return Clone, "the volume of the first ordinal is empty, and nothing says that this set never held data"
		}
	}
	return Refuse, "the live directory is not a server's: " + f.Live.Why + "; empty it, or restore the data there"
}
