package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/retry"
)

// Kube is a member's connection to Kubernetes. Without Kubernetes its client is nil, and it does
// nothing.
type Kube struct {
	id     Identity
	client *k8s.Client
	lease  string
	log    *slog.Logger
	// stopping admits one preStop request at a time: every client in the cluster reaches that port.
	stopping sync.Mutex
	pods     podNotes
	order    inOrder
	// container is the name of the server's container.
	container string

	asking sync.Mutex
	// known is the last roster; nil before the first.
	known *Roster
	// said are the warnings that have been logged.
	said sync.Map
}

// KubeConfig says how a member talks to Kubernetes.
type KubeConfig struct {
	// Client is nil without Kubernetes.
	Client *k8s.Client
	// Lease is the name of the set's Lease.
	Lease string
	// Container is the name of the server's container, for the sidecar only.
	Container string
}

// NewKube makes the connection of a member to Kubernetes.
func NewKube(id Identity, c KubeConfig, log *slog.Logger) *Kube {
	return &Kube{id: id, client: c.Client, lease: c.Lease, container: c.Container, log: log}
}

// Present says whether there is Kubernetes.
func (k *Kube) Present() bool { return k.client != nil }

// Start sends Events in the background. The function it returns waits, a few seconds at
// most, until the last ones are sent.
func (k *Kube) Start(ctx context.Context) (stop func()) {
	if k.client == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { k.client.Run(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// Tell makes an Event of a milestone.
func (k *Kube) Tell(m clone.Milestone) { k.Event(m.Failed, m.Reason, m.Text) }

// Event makes an Event of the member's pod.
func (k *Kube) Event(warning bool, reason, text string) {
	if k.client == nil {
		return
	}
	kind := k8s.Normal
	if warning {
		kind = k8s.Warning
	}
	k.client.Event(kind, reason, text)
}

// MayStartEmpty says whether the set never had data. It asks until Kubernetes answers or patience
// ends.
func (k *Kube) MayStartEmpty(ctx context.Context, patience time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var since string
	told := ""
	err := retry.Do(ctx, retry.Policy{Max: 10 * time.Second}, func(ctx context.Context) error {
		var err error
		since, err = k.initialized(ctx)
		if err != nil && err.Error() != told {
			told = err.Error()
			k.log.Warn("waiting for Kubernetes to say whether the set has had data", "reason", err)
			k.Event(true, ReasonEmptyVolume, told)
		}
		return err
	})
	return err == nil && since == "", err
}

// initialized says since when the set has had data; empty if it never had.
func (k *Kube) initialized(ctx context.Context) (since string, err error) {
	since, initialized, err := k.client.Initialized(ctx)
	switch {
	case errors.Is(err, k8s.ErrForbidden) || errors.Is(err, k8s.ErrNoLease):
		return "", retry.Permanent(err)
	case err == nil && initialized && since == "":
		since = "an unknown time"
	}
	return since, err
}

// attach runs before a member is recorded as attached: the primary must not open for writes before
// the Lease says that the set has data. The member's registration may fail: KeepRole tries again.
func (k *Kube) attach(ctx context.Context) error {
	if k.client == nil {
		return nil
	}
	if k.id.IsFirst() {
		if err := k.client.MarkInitialized(ctx, k.id.Name); err != nil {
			return err
		}
	}
	if err := k.client.Register(ctx, k.id.Name); err != nil {
		k.log.Warn("the member is not listed in the Lease yet", "error", err)
	}
	return nil
}

// record writes again what attach has written: it is missing in the Lease of a set that began
// without Kubernetes or with an older version, and in a Lease that was deleted and created again.
func (k *Kube) record(ctx context.Context) error {
	if k.id.IsFirst() {
		if err := k.client.MarkInitialized(ctx, k.id.Name); err != nil {
			return err
		}
	}
	return k.client.Register(ctx, k.id.Name)
}

// recordEvery is the time between two calls of record after a success.
const recordEvery = time.Minute

// noSource is the time without a source after which a replica looks at the first ordinal's pod.
const noSource = 30 * time.Second

// KeepRole keeps the pod's role label and the member's entry in the Lease true, and looks at the
// pods that the member waits for, until ctx ends. leaderless says that nobody leads; nil where the first
// ordinal is the primary.
func (k *Kube) KeepRole(ctx context.Context, phase func() volume.Phase, status func() replicate.Status, leaderless func() bool, interval time.Duration) {
	if k.client == nil {
		return
	}
	var kept roleKeeper
	var looked time.Time // at the first ordinal's pod
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		s := status()
		if leaderless != nil {
			k.lookForNext(ctx, leaderless())
		}
		if phase() == volume.Attached && k.next() == "" {
			kept.turn(ctx, k, Role(s.Primary))
		}
		k.lookAtContainer(ctx, s.Facts.Answers)
		if time.Since(looked) >= PrimaryEvery || s.Without == 0 {
			looked = time.Now()
			k.LookAtPrimary(ctx, s.Without >= noSource)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// roleKeeper remembers what KeepRole has done.
type roleKeeper struct {
	role     wire.Role // of the label
	recorded time.Time
}

func (r *roleKeeper) turn(ctx context.Context, k *Kube, role wire.Role) {
	err := k.client.SetRole(ctx, k8s.Role(role))
	k.labelled(err)
	if err != nil && ctx.Err() == nil {
		k.log.Debug("role label not set", "error", err)
	} else if r.role != role {
		k.log.Info("role label set", "role", role)
		k.Event(false, ReasonRoleSet, fmt.Sprintf("%s is %s", k.id.Name, role))
		r.role = role
	}
	if time.Since(r.recorded) < recordEvery {
		return
	}
	if err := k.record(ctx); err == nil {
		r.recorded = time.Now()
	} else if ctx.Err() == nil {
		k.sayOnce("the Lease does not list this member yet", err)
	}
}

// PreStop answers the server container's hook: while the pod is being deleted, it waits for drain,
// so that what it waits for ends before the server. drain must be safe to call again.
func (k *Kube) PreStop(drain func(context.Context)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k.stopping.Lock()
		defer k.stopping.Unlock()
		// A drain goes on even if the client does not wait for the answer.
		ctx := context.WithoutCancel(r.Context())
		if k.BeingDeleted(ctx) {
			k.log.Info("the pod is being deleted: no new clones")
			drain(ctx)
		}
		_, _ = fmt.Fprintln(w, "ok")
	}
}

// BeingDeleted says that the pod is being deleted. It is false where that is not known: clones go on
// then.
func (k *Kube) BeingDeleted(ctx context.Context) bool {
	if k.client == nil {
		return false
	}
	deleted, err := k.client.BeingDeleted(ctx)
	if err != nil {
		k.log.Warn("whether the pod is being deleted is not known; clones go on", "error", err)
	}
	return deleted && err == nil
}
