package member

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strconv"
	"time"

	"understudy/clone"
	"understudy/clone/trust"
	"understudy/clone/volume"
	"understudy/clone/wire"
)

// TLS is how members authenticate to one another; all of it is nil with --insecure.
type TLS struct {
	Client, Server *tls.Config
	Trust          *trust.Identity
}

// Member is the member that this process acts for.
type Member struct {
	Identity

	// Root is where the member's volume is mounted; Volume is that volume, opened. Both are zero
	// in a process that has no volume.
	Root   string
	Volume *volume.Volume

	TLS  TLS
	Kube *Kube
	// Port is where members answer.
	Port int
	Log  *slog.Logger
}

// lockPause is the time between two tries to open a volume that another process holds.
const lockPause = 10 * time.Second

// OpenVolume opens the volume at Root. It waits for another process that holds it, as long as it
// takes. The caller closes it.
func (m *Member) OpenVolume(ctx context.Context) (err error) {
	m.Volume, err = volume.Open(ctx, m.Root, lockPause, func(holder string) {
		m.Log.Info("waiting for another process to release the volume", "holder", holder)
	})
	if err == nil {
		m.Volume.OwnedBy(m.Name)
	}
	return err
}

// Role is the role of a member that is, or is not, the primary.
func Role(primary bool) wire.Role {
	if primary {
		return wire.Primary
	}
	return wire.Replica
}

// address is where the member with that ordinal answers.
func (m *Member) address(ordinal int) string {
	return net.JoinHostPort(m.HostOf(ordinal), strconv.Itoa(m.Port))
}

// Candidates are the members that may give a clone: all known ones without this one. A joiner can
// do without members that are not known.
func (m *Member) Candidates(ctx context.Context) []clone.Candidate {
	r, err := m.Kube.Roster(ctx)
	if err != nil {
		m.Log.Debug("donors are known by their names only", "error", err)
	}
	var all []clone.Candidate
	for _, ordinal := range m.Peers(r) {
		all = append(all, m.candidate(ordinal))
	}
	return all
}

func (m *Member) candidate(ordinal int) clone.Candidate {
	return clone.Candidate{Name: m.NameOf(ordinal), Ordinal: ordinal, Role: Role(ordinal == m.First), Addr: m.address(ordinal)}
}
