package main

import (
	"fmt"
	"strconv"
	"strings"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// adopt takes over a data directory that was there before understudy.
func (v *initVerb) adopt(m *member.Member, content volume.Content) error {
	o, err := volume.AdoptedOrigin(m.Volume.Live(), content, m.Flavor)
	if err != nil {
		return fmt.Errorf("adopt the data directory: %w", err)
	}
	binlog, err := v.adoptBinlog(m, o)
	if err != nil {
		return fmt.Errorf("adopt the data directory: %w", err)
	}
	return m.Volume.Adopt(volume.Journal{Origin: o, Binlog: binlog})
}

// inherit takes over a volume that is a copy of another member's. It is refused to the first
// ordinal where GTIDs do not tell which transactions of its members the copy lacks: without GTIDs,
// and where the set has used the same GTIDs again.
func (v *initVerb) inherit(m *member.Member, journal volume.Journal) error {
	keeps := member.KeepsGTIDMode(&journal)
	if m.IsFirst() && keeps && m.Flavor == flavor.MySQL {
		return fmt.Errorf("%w to use %s as the first ordinal's volume: it is a copy of %s's, and without GTIDs what it lacks is not known; "+
			"restore a copy of the first ordinal's volume, or remove mysql/ and .understudy/journal from this one: init then clones the most advanced member",
			clone.ErrRefused, v.volume, journal.Owner)
	}
	if m.IsFirst() && journal.Parted != "" {
		return fmt.Errorf("%w to use %s as the first ordinal's volume: it is a copy of %s's, which has transactions that the last primary had lost (%s) and whose GTIDs it has used again; "+
			"restore a copy of another member's volume, or remove mysql/ and .understudy/journal from this one: init then clones the most advanced member",
			clone.ErrRefused, v.volume, journal.Owner, journal.Parted)
	}
	of := origin.Source
	if owner := journal.Owner; owner[strings.LastIndexByte(owner, '-')+1:] == strconv.Itoa(m.First) {
		of = origin.Donor
	}
	m.Log.Warn("the volume is a copy of another member's, and counts as a clone of that member", "of", journal.Owner, "phase", journal.Phase)
	m.Kube.Event(true, member.ReasonVolumeCopied, fmt.Sprintf("the volume is a copy of %s's, and counts as a clone of that member; replication begins after what its data have executed", journal.Owner))
	return m.Volume.Inherit(journal, of, keeps)
}
