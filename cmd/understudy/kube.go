package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/retry"
)

// kubeFlags say whether and how a verb talks to Kubernetes.
type kubeFlags struct {
	mode, lease, podUID string
}

const (
	kubeAuto = "auto"
	kubeOn   = "on"
	kubeOff  = "off"
)

func (k *kubeFlags) define(f *flagSet) {
	f.StringVar(&k.mode, "kube", kubeAuto, "`mode`: on, off, or auto: on in a pod that has a service account token")
	f.StringVar(&k.lease, "lease", "", "`name` of the set's Lease, which remembers that the set has data; empty: the set's name")
	f.StringVar(&k.podUID, "pod-uid", "", "`uid` of this pod, so that Events show with it")
	f.alsoFrom("pod-uid", "POD_UID")
}

func (k *kubeFlags) validate() error {
	switch k.mode {
	case kubeAuto, kubeOn, kubeOff:
		return nil
	}
	return fmt.Errorf("--kube=%s: it must be on, off or auto", k.mode)
}

// kube is a member's line to Kubernetes. Without Kubernetes its client is nil, and it
// does nothing.
type kube struct {
	client *k8s.Client
	lease  string
	log    *slog.Logger
	// stopping lets one preStop request through at a time: everybody in the cluster
	// reaches that port.
	stopping sync.Mutex
	signs    signs
	// serverContainer is the name of the server's container, see sidecarVerb.
	serverContainer string

	asking sync.Mutex
	// known is the last roster that Kubernetes told; nil before the first.
	known *roster
	// said are the warnings that have been logged.
	said sync.Map
}

func (k *kubeFlags) connect(m *memberFlags, log *slog.Logger) (*kube, error) {
	if k.mode == kubeOff {
		return &kube{log: log}, nil
	}
	client, err := k8s.New(k8s.Config{
		Namespace: m.namespace, Pod: m.podName, PodUID: k.podUID, Set: m.set, Lease: k.lease, Version: version, Log: log,
	})
	if errors.Is(err, k8s.ErrOutside) && k.mode == kubeAuto {
		return &kube{log: log}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Kubernetes: %w", err)
	}
	klog.SetSlogLogger(log.With("from", "client-go"))
	return &kube{client: client, lease: cmp.Or(k.lease, m.set), log: log}, nil
}

// start sends Events in the background. The function it returns waits, a few seconds at
// most, until the last ones are sent.
func (k *kube) start(ctx context.Context) (stop func()) {
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

// tell makes an Event of a milestone.
func (k *kube) tell(m clone.Milestone) { k.event(m.Failed, m.Reason, m.Text) }

func (k *kube) event(warning bool, reason, text string) {
	if k.client == nil {
		return
	}
	kind := k8s.Normal
	if warning {
		kind = k8s.Warning
	}
	k.client.Event(kind, reason, text)
}

// mayStartEmpty says whether the set was never initialised. It asks until Kubernetes answers
// or patience ends.
func (k *kube) mayStartEmpty(ctx context.Context, patience time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var since string
	told := ""
	err := retry.Do(ctx, retry.Policy{Max: 10 * time.Second}, func(ctx context.Context) error {
		var err error
		since, err = k.initialized(ctx)
		if err != nil && err.Error() != told {
			told = err.Error()
			k.log.Warn("waiting to know whether the set has had data", "reason", err)
			k.event(true, "EmptyVolume", told)
		}
		return err
	})
	return err == nil && since == "", err
}

// initialized says since when the set has, or had, data; empty: it never had.
func (k *kube) initialized(ctx context.Context) (since string, err error) {
	since, initialized, err := k.client.Initialized(ctx)
	switch {
	case errors.Is(err, k8s.ErrForbidden) || errors.Is(err, k8s.ErrNoLease):
		return "", retry.Permanent(err)
	case err == nil && initialized && since == "":
		since = "a time that the Lease does not say"
	}
	return since, err
}

// attach runs before a member is recorded as attached: the primary must not open for
// writes before the set is known to have data. That the member is registered nobody waits
// for: follow tries again.
func (k *kube) attach(ctx context.Context, m *memberFlags) error {
	if k.client == nil {
		return nil
	}
	if m.first() {
		if err := k.client.MarkInitialized(ctx, m.podName); err != nil {
			return err
		}
	}
	if err := k.client.Register(ctx, m.podName); err != nil {
		k.log.Warn("the member is not registered yet", "error", err)
	}
	return nil
}

// record says again what attach has said. A set that was begun without Kubernetes, or by a
// version before, has not said it yet, and a Lease that was lost and made again has forgotten it.
func (k *kube) record(ctx context.Context, m *memberFlags) error {
	if m.first() {
		if err := k.client.MarkInitialized(ctx, m.podName); err != nil {
			return err
		}
	}
	return k.client.Register(ctx, m.podName)
}

// recordEvery is how often record is called after it has succeeded.
const recordEvery = time.Minute

// noSource is from when on a replica without a source looks at the first ordinal's pod.
const noSource = 30 * time.Second

// follow keeps the pod's role label true, and tells of what changes, until ctx ends.
func (k *kube) follow(ctx context.Context, m *memberFlags, phase func() volume.Phase, status func() replicate.Status, interval time.Duration) {
	if k.client == nil {
		return
	}
	var last wire.Role
	var recorded time.Time
	var looked time.Time // at the first ordinal's pod
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if phase() == volume.Attached {
			role := role(status().Primary)
			err := k.client.SetRole(ctx, k8s.Role(role))
			k.signs.labelled(k, err)
			if err != nil && ctx.Err() == nil {
				k.log.Debug("role label not set", "error", err)
			} else if last != role {
				k.log.Info("role label set", "role", role)
				k.event(false, "RoleSet", fmt.Sprintf("%s is %s", m.podName, role))
				last = role
			}
			if time.Since(recorded) >= recordEvery {
				if err := k.record(ctx, m); err == nil {
					recorded = time.Now()
				} else if ctx.Err() == nil {
					k.sayOnce("the Lease does not say yet that this member is attached", err)
				}
			}
		}
		s := status()
		k.signs.look(ctx, k, s.Facts.Answers)
		if time.Since(looked) >= primaryEvery || s.Without == 0 {
			looked = time.Now()
			k.signs.lookAtPrimary(ctx, k, m, s.Without >= noSource)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// preStop answers the server container's hook: when the pod is on its way out, the
// running clone ends before the server does. drain must be safe to call again.
func (k *kube) preStop(drain func(context.Context)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k.stopping.Lock()
		defer k.stopping.Unlock()
		// Once begun it goes on, even when whoever asked does not wait for the answer.
		ctx := context.WithoutCancel(r.Context())
		if k.beingDeleted(ctx) {
			k.log.Info("the pod is being deleted: no new clones")
			drain(ctx)
		}
		_, _ = fmt.Fprintln(w, "ok")
	}
}

// beingDeleted is false when nobody knows: clones go on then.
func (k *kube) beingDeleted(ctx context.Context) bool {
	if k.client == nil {
		return false
	}
	deleted, err := k.client.BeingDeleted(ctx)
	if err != nil {
		k.log.Warn("whether the pod is being deleted is not known, so clones go on", "error", err)
	}
	return deleted && err == nil
}
