package replicate

import (
	"understudy/replicate/flavor"
	"understudy/replicate/lead"
	"understudy/replicate/origin"
)

// Recorded is what the member's volume knows.
type Recorded struct {
	// Paused says since when and why the member is to be left alone; empty: it is not.
	Paused string
	// Initialising says that the server's image has not been seen to finish.
	Initialising bool
	// Image is how far it is, while it is at that.
	Image Image
	// Adopted says that the data directory was there before us, and so its channel.
	Adopted bool
	// Unchecked says that nobody has looked yet whether an adopted directory has all its files,
	// Vouched that a person says so.
	Unchecked, Vouched bool
	// Configured says that the channel of a copy was made here.
	Configured bool
	// Attached says that the member has taken its role before.
	Attached bool
	// SemiSynced says that the primary has once stopped to acknowledge commits without a replica.
	SemiSynced bool
	// Parted are transactions that the source had made and has lost, while this member has them: it
	// opened for writes without them, and gives their numbers again. Once these are beyond them,
	// nothing shows in GTIDs that the rows differ. Empty: none.
	Parted string
	// Origin is where replication begins on a fresh copy; nil when unknown.
	Origin *origin.Origin
}

// Standing is what is known of the member beside what its server says. It is the same for a whole
// turn: what is found out meanwhile is in Facts.
type Standing struct {
	Recorded
	Flavor flavor.Flavor
	// Primary says that this member is the primary: see Config.Primary.
	Primary bool
	// Source is who a replica has to follow, with the current password. See Standing.source.
	Source Source
	// SemiSync is how much commits wait for replicas.
	SemiSync SemiSync
	// Role is what the Lease lets the member be; nil where the first ordinal is the primary.
	Role *lead.Role
}

// fresh says that replication has to begin at the copy's origin, whichever channel came with the
// copy. Only a directory that we adopted knows its place better.
func (s Standing) fresh(f *Facts) bool {
	return !s.Primary && s.Origin != nil && !s.Attached && !s.Configured && (!s.Adopted || f.Channel == nil)
}

// takesOver says that the first ordinal's data are a copy of a member, untouched so far.
func (s Standing) takesOver() bool {
	return s.Primary && s.Origin != nil && !s.Attached && !s.Configured && !s.Adopted
}

// beginning is where replication begins on a fresh copy; nil when unknown.
func (s Standing) beginning(f Facts) *origin.Origin {
	switch {
	case s.Origin.Mode == origin.FirstBoot:
		return f.Booted
	case s.Origin.Mode == origin.Executed && f.UsesGTID:
		return &origin.Origin{Mode: origin.GTID, Of: s.Origin.Of, GTID: f.position()}
	case s.Origin.Mode == origin.Executed:
		return nil
	}
	return s.Origin
}

// source is the source as far as it was asked: by the password that it takes, and not verified
// where the channel never did, and the source cannot prove its identity yet.
func (s Standing) source(f Facts) Source {
	source := s.Source
	if f.PreviousTaken {
		source.Password = source.Previous
	}
	if f.Unproven != "" && f.Channel.fromBefore(source) {
		source.CA = ""
	}
	return source
}

// parted are the transactions of Recorded.Parted, as recorded or as found out just now.
func (s Standing) parted(f Facts) string {
	if s.Parted == "" && f.Source != nil && f.Source.Reused {
		return f.Source.Errant
	}
	return s.Parted
}
