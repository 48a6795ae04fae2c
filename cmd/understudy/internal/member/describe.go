package member

import (
	"cmp"
	"fmt"
	"net"
	"strconv"
	"time"

	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/replicate"
	"understudy/replicate/origin"
)

// Describe is what the member says of itself to its peers.
func (m *Member) Describe(record *Record, s replicate.Status) wire.Member {
	said := describe(&m.Identity, record.Phase(), s)
	said.Clone = record.clone()
	said.Trouble = cmp.Or(said.Trouble, m.Kube.Note())
	return said
}

func describe(id *Identity, phase volume.Phase, s replicate.Status) wire.Member {
	m := wire.Member{
		Name: id.Name, Role: Role(s.Primary), Phase: string(phase), Flavor: string(id.Flavor), ServerVersion: s.ServerVersion,
		ServerID: s.Facts.ServerID, UUID: s.Facts.ServerUUID, GTID: s.Facts.GTID, Received: s.Facts.Received(), Ready: s.Ready, Reason: s.Reason,
		Paused:   s.Paused,
		Parted:   s.Parted,
		SemiSync: s.Facts.SemiSync.Active || s.Facts.SemiSync.Acknowledging, SemiSyncReplicas: s.Facts.SemiSync.Replicas,
		Trouble: s.Trouble.Text, WithoutSourceSeconds: s.Without.Seconds(), CommitsWaitSeconds: s.CommitsWait.Seconds(),
		VolumeBytes: s.Facts.Volume.Size, VolumeFreeBytes: s.Facts.Volume.Free,
	}
	if !s.Facts.Seen.IsZero() {
		m.SeenSeconds = time.Since(s.Facts.Seen).Seconds()
	}
	// A source that is not open yet lacks what it will fetch: that is not errant.
	if said := s.Facts.Source; said != nil && (!said.ReadOnly || said.OnlyOurs) {
		m.Errant = said.Errant
	}
	if c := s.Facts.Channel; c != nil {
		m.LagSeconds = c.Lag
		m.Source = net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
		m.Read = c.Read.String()
	}
	return m
}

// Serving says whether this member may give clones. Only the primary, or a replica that has
// replicated, knows that its data and its coordinate are right. errant returns transactions that a
// replica has and its source lacks, which a copy would have, too.
func Serving(phase volume.Phase, s replicate.Status, errant func() string) (wire.Header, error) {
	h := wire.Header{ServerVersion: s.ServerVersion, Role: Role(s.Primary), Origin: origin.GTID}
	switch {
	case phase != volume.Attached:
		return h, fmt.Errorf("%w: it is not attached yet (%s): %s", wire.ErrNotServing, phase, s.Action.Reason)
	case s.Facts.Trouble != "" || s.ServerVersion == "":
		return h, fmt.Errorf("%w: its server cannot be observed: %s", wire.ErrNotServing, s.Facts.Trouble)
	case s.Primary && s.Facts.Channel != nil:
		return h, fmt.Errorf("%w: it is the primary, and not open yet: %s", wire.ErrNotServing, s.Action.Reason)
	case s.Primary:
		if !s.Facts.UsesGTID {
			h.Origin = origin.Position
		}
		return h, nil
	case s.Facts.Channel == nil || !s.Facts.Channel.SQLRunning:
		return h, fmt.Errorf("%w: its applier does not run: %s", wire.ErrNotServing, s.Action.Reason)
	case s.Verdict == replicate.Report || s.Verdict == replicate.Reseed:
		return h, fmt.Errorf("%w: it is unhealthy itself: %s", wire.ErrNotServing, s.Action.Reason)
	case !s.Facts.Channel.UsingGTID:
		h.Origin = origin.Position
		return h, nil
	}
	if lacked := errant(); lacked != "" {
		return h, fmt.Errorf("%w: it has transactions that the primary lacks, which a copy would have, too: %s", wire.ErrNotServing, lacked)
	}
	return h, nil
}
