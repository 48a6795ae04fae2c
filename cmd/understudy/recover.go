package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// errNoData ends the wait of a first ordinal whose volume is empty.
var errNoData = errors.New("no member with data, and no permission to start empty, came in time")

// errStartEmpty says that the operator has consented meanwhile.
var errStartEmpty = errors.New("starting empty is allowed")

// comeBack finds the member that a first ordinal clones whose own volume is empty: the most
// advanced one, whatever the set's Lease says, which may have been lost. It waits for one with
// data, or, where no member has any, for the operator's consent: errStartEmpty. It is
// ErrRefused when the members have parted, and when nothing comes in time.
func (v *initVerb) comeBack(ctx context.Context, journal *volume.Journal, pair tlsPair, kube *kube, log *slog.Logger) (clone.Candidate, error) {
	l := lead{v: v, journal: journal, pair: pair, kube: kube, log: log, begun: time.Now()}
	waiting, cancel := context.WithTimeoutCause(ctx, v.wait, errNoData)
	defer cancel()
	var donor clone.Candidate
	err := retry.Do(waiting, retry.Policy{Max: maxLeadPause}, func(ctx context.Context) (err error) {
		donor, err = l.look(ctx)
		return err
	})
	if errors.Is(err, errNoData) {
		err = fmt.Errorf("%w: %w", clone.ErrRefused, err)
	}
	return donor, err
}

// lead is the search for what a first ordinal begins with.
type lead struct {
	v       *initVerb
	journal *volume.Journal
	pair    tlsPair
	kube    *kube
	log     *slog.Logger
	begun   time.Time
	told    string
}

// look is one look at the members. An error that is not permanent asks for another one.
func (l *lead) look(ctx context.Context) (donor clone.Candidate, err error) {
	v := l.v
	consent, err := v.consent(ctx, l.journal, l.kube)
	if err != nil {
		return donor, err
	}
	peers, unsure := v.member.peersOf(ctx, l.kube, v.clonePort, l.pair, l.log)
	patience := replicate.Patience{Silent: silentPatience, Starting: leadPatience}
	if v.bootstrap && l.kube.client == nil { // those that do not answer are the operator's to know
		patience.Silent = 0
	}
	if awaited := replicate.Awaited(peers, unsure, time.Since(l.begun), patience); awaited != "" {
		l.log.Debug("members are waited for", "members", awaited)
		return donor, retry.After(errors.New(awaited), awaitedPause)
	}
	level, err := replicate.Compare(v.member.flavor, gtid.History{}, peers, "")
	if err == nil && level.Ahead == nil && level.Conflict == "" { // nobody has GTIDs
		level, err = replicate.ComparePositions(nil, peers)
	}
	switch {
	case err != nil:
		return donor, err
	case level.Conflict != "":
		return donor, retry.Permanent(fmt.Errorf("%w to clone a member into the first ordinal's empty volume: %s; stop those that shall not count",
			clone.ErrRefused, level.Conflict))
	case level.Ahead == nil && consent == "" && !slices.ContainsFunc(peers, replicate.Peer.HasData):
		return donor, retry.Permanent(errStartEmpty)
	case level.Ahead == nil:
		return donor, l.nobody(peers, consent)
	}
	l.log.Info("the first ordinal comes back from the most advanced member", "donor", level.Ahead.Name, "has", level.Lacks, "errant", level.Errant)
	return v.candidate(level.Ahead), nil
}

// nobody says that no member can be cloned, and what the operator can do.
func (l *lead) nobody(peers []replicate.Peer, consent string) error {
	if consent == "" {
		consent = "it is not started empty beside members with data: mend them, or, if their data shall not count, stop them"
	}
	err := fmt.Errorf("the volume of %s is empty%s, and no member has data to clone%s; %s", l.v.member.podName, had(l.journal), withoutData(peers), consent)
	if err.Error() != l.told {
		l.told = err.Error()
		l.log.Warn("waiting for a member with data, or for permission to start empty", "reason", err)
		l.kube.event(true, "EmptyVolume", l.told)
	}
	return err
}

const (
	// leadPatience is for how long a member is waited for that Kubernetes knows of, or that
	// answers and does not know yet what it has. It is --level-wait's default.
	leadPatience = time.Minute
	// awaitedPause is the time between two looks for members that are waited for.
	awaitedPause = time.Second
)

// maxLeadPause is the longest time between two looks at the members.
const maxLeadPause = 5 * time.Second

// consent says how the operator allows the first ordinal to start empty; it is empty when
// that is allowed.
func (v *initVerb) consent(ctx context.Context, journal *volume.Journal, kube *kube) (string, error) {
	const restore = "restore the data, or "
	switch {
	case journal != nil:
		return restore + "remove .understudy/journal from the volume, and then allow an empty start", nil
	case kube.client == nil && v.bootstrap:
		return "", nil
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
		case p.Absent && !p.Remembered:
		case p.Empty:
			all = append(all, p.Name+" is empty, too")
		case p.Silence != "":
			all = append(all, p.Name+" does not say what it has: "+p.Silence)
		case p.Parted != "":
			all = append(all, p.Name+" has a history that is not the last primary's: "+p.Parted)
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
	ordinal, _ := v.member.ordinalOf(p.Name) // which has named it
	return v.candidateAt(ordinal)
}
