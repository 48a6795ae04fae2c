package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/gtid"
	"understudy/replicate/retry"
)

// errNoData ends the wait of a first ordinal whose volume is empty.
var errNoData = errors.New("no member with data, and no permission to start empty, came in time")

// errStartEmpty says that the operator has consented meanwhile.
var errStartEmpty = errors.New("starting empty is allowed")

// comeBack finds the member that a first ordinal clones whose own data are lost: the most
// advanced one. It waits for one with data, or for the operator's consent: errStartEmpty.
// It is ErrRefused when the members have parted, and when nothing comes in time.
func (v *initVerb) comeBack(ctx context.Context, journal *volume.Journal, pair tlsPair, kube *kube, log *slog.Logger) (clone.Candidate, error) {
	var donor clone.Candidate
	begun, told := time.Now(), ""
	waiting, cancel := context.WithTimeoutCause(ctx, v.wait, errNoData)
	defer cancel()
	patience := replicate.Patience{Silent: silentPatience, Starting: time.Minute}
	err := retry.Do(waiting, retry.Policy{Max: maxLeadPause}, func(ctx context.Context) error {
		consent, err := v.consent(ctx, journal, kube)
		if err != nil {
			return err
		}
		if consent == "" {
			return retry.Permanent(errStartEmpty)
		}
		peers := v.member.peersOf(ctx, v.clonePort, pair, log)
		if awaited := replicate.Awaited(peers, time.Since(begun), patience); awaited != "" {
			log.Debug("members are waited for", "members", awaited)
			return errors.New(awaited)
		}
		level, err := replicate.Compare(v.member.flavor, gtid.History{}, peers, "")
		if err == nil && level.Ahead == nil && level.Conflict == "" { // nobody has GTIDs
			level, err = replicate.ComparePositions(nil, peers)
		}
		switch {
		case err != nil:
			return err
		case level.Conflict != "":
			return retry.Permanent(fmt.Errorf("%w to clone a member into the first ordinal's empty volume: %s; stop those that shall not count",
				clone.ErrRefused, level.Conflict))
		case level.Ahead == nil:
			err := fmt.Errorf("the volume of %s is empty%s, and no member has data to clone%s; %s", v.member.podName, had(journal), withoutData(peers), consent)
			if err.Error() != told {
				told = err.Error()
				log.Warn("waiting for a member with data, or for permission to start empty", "reason", err)
				kube.event(true, "EmptyVolume", told)
			}
			return err
		}
		donor = v.candidate(level.Ahead)
		log.Info("the first ordinal comes back from the most advanced member", "donor", donor.Name, "has", level.Lacks, "errant", level.Errant)
		return nil
	})
	if errors.Is(err, errNoData) {
		err = fmt.Errorf("%w: %w", clone.ErrRefused, err)
	}
	return donor, err
}

// maxLeadPause is the longest time between two looks at the members.
const maxLeadPause = 5 * time.Second

// consent says how the operator allows the first ordinal to start empty; it is empty when
// that is allowed.
func (v *initVerb) consent(ctx context.Context, journal *volume.Journal, kube *kube) (string, error) {
	const restore = "restore the data, or "
	switch {
	case journal != nil:
		return restore + "remove .understudy/journal from the volume, and then allow an empty start", nil
	case kube.client == nil:
		return "nothing says that this set never held data; " + restore + "if it is new, allow an empty start with --bootstrap", nil
	}
	since, err := kube.initialized(ctx)
	if err != nil || since == "" {
		return "", err
	}
	return fmt.Sprintf("the set has had data since %s; %sallow an empty start with: kubectl -n %s annotate lease %s %s-",
		since, restore, v.member.namespace, kube.lease, k8s.AnnotationInitialized), nil
}

func had(journal *volume.Journal) string {
	if journal == nil {
		return ""
	}
	return fmt.Sprintf(" although its journal says %s", journal.Phase)
}

// withoutData says of the members that exist why they have nothing to give.
func withoutData(peers []replicate.Peer) string {
	var all []string
	for _, p := range peers {
		switch {
		case p.Absent:
		case p.Empty:
			all = append(all, p.Name+" is empty, too")
		case p.Silence != "":
			all = append(all, p.Name+" does not say what it has: "+p.Silence)
		default:
			all = append(all, p.Name+" has neither GTIDs nor read the primary's binary log, so that it cannot be compared")
		}
	}
	if all == nil {
		return ""
	}
	return " (" + strings.Join(all, "; ") + ")"
}

func (v *initVerb) candidate(p *replicate.Peer) clone.Candidate {
	for _, c := range v.candidates() {
		if c.Addr == net.JoinHostPort(p.Host, strconv.Itoa(v.clonePort)) {
			return c
		}
	}
	return clone.Candidate{} // never: peers and candidates are the same members
}
