package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/gtid"
	"understudy/replicate/retry"
)

// errNoData ends the wait of a first ordinal with an empty volume.
var errNoData = errors.New("no member with data and no permission to start empty within --wait")

// ErrStartEmpty says that the operator has allowed an empty start.
var ErrStartEmpty = errors.New("starting empty is allowed")

// Recovery finds what a first ordinal with an empty volume starts with.
type Recovery struct {
	*Member
	// Journal is that of the volume; nil where there is none.
	Journal *volume.Journal
	// Wait is the time to wait for a donor or for the operator's consent.
	Wait time.Duration
	// Bootstrap is the operator's consent without Kubernetes.
	Bootstrap bool
	// Patience is the time to wait for members that have not reported what they have.
	Patience replicate.Patience

	begun time.Time
	told  string
}

// Donor finds the member that the first ordinal clones: the most advanced one, whatever the set's
// Lease says, which may have been lost. It waits for a member with data or, where no member has
// data, for the operator's consent, which is ErrStartEmpty. Parted histories, and the end of the
// wait, are clone.ErrRefused. Call it once.
func (r *Recovery) Donor(ctx context.Context) (clone.Candidate, error) {
	r.begun = time.Now()
	waiting, cancel := context.WithTimeoutCause(ctx, r.Wait, errNoData)
	defer cancel()
	var donor clone.Candidate
	err := retry.Do(waiting, retry.Policy{Max: maxLookPause}, func(ctx context.Context) (err error) {
		donor, err = r.look(ctx)
		return err
	})
	if errors.Is(err, errNoData) {
		err = fmt.Errorf("%w: %w", clone.ErrRefused, err)
	}
	return donor, err
}

// look asks the members once. An error that is not permanent is followed by another look.
func (r *Recovery) look(ctx context.Context) (donor clone.Candidate, err error) {
	consent, err := r.consent(ctx)
	if err != nil {
		return donor, err
	}
	peers, unsure := r.Histories(ctx)
	patience := r.Patience
	if r.Bootstrap && r.Kube.client == nil { // the operator answers for members that are silent
		patience.Silent = 0
	}
	if awaited := replicate.Awaited(peers, unsure, time.Since(r.begun), patience); awaited != "" {
		r.Log.Debug("waiting for members", "members", awaited)
		return donor, retry.After(errors.New(awaited), awaitedPause)
	}
	level, err := replicate.Compare(r.Flavor, gtid.History{}, peers, "")
	if err == nil && level.Ahead == nil && level.Conflict == "" { // no member has GTIDs
		level, err = replicate.ComparePositions(nil, peers)
	}
	switch {
	case err != nil:
		return donor, err
	case level.Conflict != "":
		return donor, retry.Permanent(fmt.Errorf("%w to clone a member into the first ordinal's empty volume: %s; stop the members whose data are not to count",
			clone.ErrRefused, level.Conflict))
	case level.Ahead == nil && consent == "" && !slices.ContainsFunc(peers, replicate.Peer.HasData):
		return donor, retry.Permanent(ErrStartEmpty)
	case level.Ahead == nil:
		return donor, r.noDonor(peers, consent)
	}
	r.Log.Info("the first ordinal comes back from the most advanced member", "donor", level.Ahead.Name, "has", level.Lacks, "errant", level.Errant)
	return r.candidateNamed(level.Ahead.Name), nil
}

// noDonor is the error that no member can be cloned, with what the operator can do.
func (r *Recovery) noDonor(peers []replicate.Peer, consent string) error {
	if consent == "" {
		consent = "it does not start empty while other members have data: repair these, or stop them if their data are not to count"
	}
	err := fmt.Errorf("the volume of %s is empty%s, and no member has data to clone%s; %s", r.Name, had(r.Journal), withoutData(peers), consent)
	if err.Error() != r.told {
		r.told = err.Error()
		r.Log.Warn("waiting for a member with data, or for permission to start empty", "reason", err)
		r.Kube.Event(true, ReasonEmptyVolume, r.told)
	}
	return err
}

const (
	// awaitedPause is the time between two looks while members are awaited.
	awaitedPause = time.Second
	// maxLookPause is the longest time between two looks at the members.
	maxLookPause = 5 * time.Second
)

// consent says how the operator can allow the first ordinal to start empty; empty where that is
// allowed.
func (r *Recovery) consent(ctx context.Context) (string, error) {
	const restore = "restore the data, or "
	switch {
	case r.Journal != nil:
		return restore + "remove .understudy/journal from the volume, and then allow an empty start", nil
	case r.Kube.client == nil && r.Bootstrap:
		return "", nil
	case r.Kube.client == nil:
		return "whether this set ever had data is not known; " + restore + "if it is new, allow an empty start with --bootstrap", nil
	}
	since, err := r.Kube.initialized(ctx)
	if err != nil || since == "" {
		return "", err
	}
	return fmt.Sprintf("the set has had data since %s; %sallow an empty start with: kubectl -n %s annotate lease %s %s-",
		since, restore, r.Namespace, r.Kube.lease, k8s.AnnotationInitialized), nil
}

func had(journal *volume.Journal) string {
	if journal == nil {
		return ""
	}
	return fmt.Sprintf(" although its journal says %s", journal.Phase)
}

// withoutData says why the existing members cannot give data.
func withoutData(peers []replicate.Peer) string {
	var all []string
	for _, p := range peers {
		switch {
		case p.Absent && !p.Remembered:
		case p.Empty:
			all = append(all, p.Name+" is empty")
		case p.Silence != "":
			all = append(all, p.Name+" has not reported what it has: "+p.Silence)
		case p.Parted != "":
			all = append(all, p.Name+" has a history that is not the last primary's: "+p.Parted)
		default:
			all = append(all, p.Name+" has no GTIDs and has not read the primary's binary log, so it cannot be compared")
		}
	}
	if all == nil {
		return ""
	}
	return " (" + strings.Join(all, "; ") + ")"
}

func (m *Member) candidateNamed(name string) clone.Candidate {
	ordinal, _ := m.OrdinalOf(name) // made by NameOf
	return m.candidate(ordinal)
}
