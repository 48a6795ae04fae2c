package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/k8s"
	"understudy/replicate"
)

const (
	// reseedEvery is the least time between two automatic reseeds.
	reseedEvery = time.Hour
	// reseedLooks is the number of looks at the server for which a verdict has to stand.
	reseedLooks = 10
	// brokenLooks is that number for an interrupted image, whose mark may be written between the
	// look at the marks and the look at the server.
	brokenLooks = 2
	// EvictEvery is the time between two attempts to evict the pod.
	EvictEvery = 10 * time.Second
)

// Reseeder evicts the pod for a requested reseed, requests one itself where it may, and removes
// replaced data once the new ones have replicated. It also evicts the pod after the server's image
// was interrupted. It runs beside the agent.
type Reseeder struct {
	config ReseedConfig
	member string
	first  bool
	root   string
	volume *volume.Volume
	status func() replicate.Status
	// source asks the primary for its state.
	source func(context.Context) (wire.Member, error)
	// evict is nil without Kubernetes.
	evict func(context.Context) error
	event func(warning bool, reason, text string)
	log   *slog.Logger

	begun                  time.Time
	hopeless, well, broken duration
	evicted                time.Time // the last try
	said                   string
}

// duration measures for how long a condition has been true.
type duration struct{ since time.Time }

func (d *duration) see(now time.Time, isTrue bool) time.Duration {
	if !isTrue {
		d.since = time.Time{}
		return 0
	}
	if d.since.IsZero() {
		d.since = now
	}
	return now.Sub(d.since)
}

// ReseedConfig says when a member may be reseeded.
type ReseedConfig struct {
	// Auto lets the sidecar request a reseed itself.
	Auto bool
	// Leader, when set, names the primary, in a set whose primary the Lease names; empty: there is
	// none now.
	Leader func() string
	// Keep is the time for which the new data have to replicate before the replaced ones are
	// removed.
	Keep time.Duration
	// Stall is the time that the primary has to answer.
	Stall time.Duration
}

// NewReseeder makes the member's reseeder. status returns the agent's last observation.
func (m *Member) NewReseeder(c ReseedConfig, status func() replicate.Status) *Reseeder {
	r := &Reseeder{
		config: c, member: m.Name, first: m.IsFirst() && c.Leader == nil, root: m.Root, volume: m.Volume, status: status, event: m.Kube.Event, log: m.Log,
		begun: time.Now(),
	}
	r.source = func(ctx context.Context) (wire.Member, error) {
		primary := m.First
		if c.Leader != nil {
			var ok bool
			if primary, ok = m.OrdinalOf(c.Leader()); !ok {
				return wire.Member{}, errors.New("the Lease names no leader")
			}
		}
		client := wire.NewClient(wire.ClientConfig{
			Addr: m.address(primary), Expect: m.NameOf(primary), Member: m.Name, TLS: m.TLS.Client, Dial: m.Dial(),
			Protocol: wire.V1, Stall: c.Stall, Log: m.Log,
		})
		defer client.Close()
		return client.Member(ctx)
	}
	if m.Kube.client != nil {
		r.evict = m.Kube.client.Evict
	}
	return r
}

// Run takes a turn at every interval until ctx ends.
func (r *Reseeder) Run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := r.turn(ctx, interval, time.Now()); err != nil && ctx.Err() == nil {
			r.say(ctx, slog.LevelWarn, ReasonReseedFailed, err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *Reseeder) turn(ctx context.Context, interval time.Duration, now time.Time) error {
	s := r.status()
	if broken := r.broken.see(now, s.Action.Step == replicate.StartOver); broken > 0 && broken >= brokenLooks*interval {
		return r.startOver(ctx, s.Action.Reason, now)
	}
	hopeless := r.hopeless.see(now, s.Action.Step == replicate.Reseed)
	well := r.well.see(now, replicates(s))
	if well >= r.config.Keep && !r.well.since.IsZero() {
		if err := r.tidy(ctx); err != nil {
			return err
		}
	}
	request, err := volume.ReadRequest(r.root)
	switch {
	case err != nil:
		return err
	case request == nil && (!r.config.Auto || hopeless < reseedLooks*interval || r.hopeless.since.IsZero()):
		return nil
	case request == nil:
		return r.ask(ctx, s, now)
	case r.first || s.Primary:
		r.say(ctx, slog.LevelWarn, ReasonReseedRefused, "the primary is never reseeded, and its volume has a request for a reseed: remove .understudy/reseed")
		return nil
	case request.Automatic && !r.well.since.IsZero():
		r.log.Info("the request for a reseed is withdrawn: replication runs again")
		return r.volume.WithdrawRequest()
	}
	return r.leave(ctx, *request, now)
}

// replicates says whether a replica replicates without a problem.
func replicates(s replicate.Status) bool {
	c := s.Facts.Channel
	return !s.Primary && s.Attached && c != nil && c.IO == "Yes" && c.SQLRunning && s.Action.Step != replicate.Report && s.Action.Step != replicate.Reseed
}

func (r *Reseeder) tidy(ctx context.Context) error {
	gone, err := r.volume.RemoveReplaced(ctx)
	for _, dir := range gone {
		r.log.Info("the data that a reseed replaced are removed: the new copy has replicated", "dir", dir, "for", r.config.Keep)
	}
	return err
}

// ask writes a request unless there is an objection.
func (r *Reseeder) ask(ctx context.Context, s replicate.Status, now time.Time) error {
	last, err := volume.LastRequest(r.root)
	if err != nil {
		return err
	}
	if objection := r.objection(ctx, s, last, now); objection != "" {
		r.say(ctx, slog.LevelWarn, ReasonNotReseeded, "no automatic reseed: "+objection)
		return nil
	}
	request := volume.Request{
		By: "the sidecar of " + r.member, Reason: s.Action.Reason, At: now.UTC().Truncate(time.Second),
		Automatic: true, Errant: s.Facts.Source.Errant, State: s.Reason,
	}
	if err := volume.WriteRequest(r.root, request); err != nil {
		return err
	}
	r.log.Warn("reseed requested", "reason", request.Reason, "errant", request.Errant)
	r.event(true, ReasonReseedRequested, "reseed requested: "+request.Reason)
	return r.leave(ctx, request, now)
}

// objection says why the member must not be reseeded automatically; empty where it may be.
func (r *Reseeder) objection(ctx context.Context, s replicate.Status, last *volume.Request, now time.Time) string {
	switch said := s.Facts.Source; {
	case s.Primary || r.first:
		return "it is the primary"
	case s.Parted != "":
		return "the primary lost transactions of its own (" + s.Parted + "), which may exist nowhere else"
	case said == nil:
		return "what the primary lacks is not known: it does not answer, or this member does not replicate by GTID"
	case said.Errant != "" && !said.OnlyOurs && !s.Judged:
		return "the primary lacks transactions that were not written on this member (" + said.Errant + "): the primary may have lost them"
	case last != nil && r.since(last.At, now) < reseedEvery:
		return "the last reseed was requested at " + last.At.Format(time.RFC3339) + ", and the limit is one an hour"
	}
	m, err := r.source(ctx)
	switch {
	case err != nil:
		return fmt.Sprintf("the primary cannot be asked: %v", err)
	case m.Role != wire.Primary || m.Phase != string(volume.Attached) || !m.Ready:
		return fmt.Sprintf("its source %s is not a ready primary (%s, %s): %s", m.Name, m.Role, m.Phase, m.Reason)
	case m.Offer == nil:
		return ""
	}
	free, err := r.volume.Free()
	if need := clone.OfferNeed(m); err == nil && need.NeededBytes > free.Bytes {
		return fmt.Sprintf("the new data need about %d MiB beside the old ones, and the volume has %d MiB free", need.NeededBytes>>20, free.Bytes>>20)
	}
	return ""
}

// since is how long ago something was, at least. If the clock was set back, at may lie in the
// future; it then counts from the start of this process.
func (r *Reseeder) since(at, now time.Time) time.Duration {
	if at.After(now) {
		return now.Sub(r.begun)
	}
	return now.Sub(at)
}

// leave evicts the pod, so that init reseeds the member.
func (r *Reseeder) leave(ctx context.Context, request volume.Request, now time.Time) error {
	evicted, err := r.makeRoom(ctx, now, evicting{
		waits: ReasonReseedWaits, what: "waiting for the reseed", why: request.Reason,
	})
	if evicted {
		r.log.Info("the pod is evicted; init reseeds the member", "by", request.By, "reason", request.Reason)
		r.event(false, ReasonEvicted, "evicted for a reseed: "+request.Reason)
	}
	return err
}

// startOver evicts the pod, so that init moves aside what an interrupted image has left.
func (r *Reseeder) startOver(ctx context.Context, reason string, now time.Time) error {
	evicted, err := r.makeRoom(ctx, now, evicting{
		waits: ReasonImageInterrupted, what: "waiting for the server's image to start over", why: reason,
	})
	if evicted {
		r.log.Warn("the pod is evicted; the server's image starts over", "reason", reason)
		r.event(true, ReasonImageInterrupted, "evicted: "+reason)
	}
	return err
}

// evicting is the purpose of an eviction: the reason and text of the Event while it waits, and why.
type evicting struct{ waits, what, why string }

// makeRoom evicts the pod, so that init runs. It is true once that was done.
func (r *Reseeder) makeRoom(ctx context.Context, now time.Time, e evicting) (bool, error) {
	if r.evict == nil {
		r.say(ctx, slog.LevelError, e.waits, fmt.Sprintf("%s: stop the server and the sidecar, run init, and start them again (%s)", e.what, e.why))
		return false, nil
	}
	if now.Sub(r.evicted) < EvictEvery {
		return false, nil
	}
	r.evicted = now
	err := r.evict(ctx)
	switch {
	case errors.Is(err, k8s.ErrBudget), errors.Is(err, k8s.ErrAway):
		r.say(ctx, slog.LevelWarn, e.waits, fmt.Sprintf("%s; the eviction is tried again every %v: %v", e.what, EvictEvery, err))
		return false, nil
	case err != nil:
		return false, err
	}
	r.said = ""
	return true, nil
}

// say logs a text and makes an Event of it, unless it was the last one said.
func (r *Reseeder) say(ctx context.Context, level slog.Level, reason, text string) {
	if r.said == text {
		return
	}
	r.said = text
	r.log.Log(ctx, level, "reseed", "reason", text)
	r.event(level >= slog.LevelWarn, reason, text)
}
