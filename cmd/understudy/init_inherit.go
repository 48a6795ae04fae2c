package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// inherit makes a volume that is a copy of another member's this member's own. Without GTIDs
// the first ordinal cannot tell what its members have that such a copy lacks.
func (v *initVerb) inherit(vol *volume.Volume, journal volume.Journal, kube *kube, log *slog.Logger) error {
	keeps := keepGTIDMode(&journal)
	if v.member.first() && keeps && v.member.flavor == flavor.MySQL {
		return fmt.Errorf("%w to make %s the first ordinal's: the volume is a copy of %s's, and without GTIDs nothing tells what it lacks; "+
			"restore a copy of the first ordinal's volume, or remove mysql/ and .understudy/journal from this one: it then comes back from the member that has most",
			clone.ErrRefused, v.volume, journal.Owner)
	}
	of := origin.Source
	if owner := journal.Owner; owner[strings.LastIndexByte(owner, '-')+1:] == strconv.Itoa(v.member.firstOrdinal) {
		of = origin.Donor
	}
	log.Warn("the volume is a copy of another member's; its data are taken for a clone of that member", "of", journal.Owner, "phase", journal.Phase)
	kube.event(true, "VolumeCopied", fmt.Sprintf("the volume is a copy of %s's, and is taken for a clone of that member; replication begins at what its data have executed", journal.Owner))
	return vol.Inherit(journal, of, keeps)
}
