package member

import (
	"context"
	"fmt"
	"sync"

	"understudy/replicate"
	"understudy/replicate/lead"
)

// A StatefulSet of the policy OrderedReady, which is Kubernetes' default, makes no pod before those of
// all lower ordinals are ready. Where the Lease names the primary, that may be a member whose pod is
// still to be made, or nobody can be elected without it: the lower ones would wait for it, and it for
// them. So a member that has no leader counts as ready while the pod of a higher ordinal is missing. It
// gets no role label meanwhile: what it has may be old, or dropped later, and is not to be read.

// inOrder is what is known of the pods of higher ordinals.
type inOrder struct {
	mu sync.Mutex
	// next is the first of them that is missing, and is made when this member is ready; empty: none.
	next string
}

// lookForNext looks for such a pod while waits is true.
func (k *Kube) lookForNext(ctx context.Context, waits bool) {
	next := ""
	if waits {
		var err error
		if next, err = k.missing(ctx); err != nil {
			k.log.DebugContext(ctx, "whether a pod waits for this one is not known", "error", err)
		}
	}
	k.order.mu.Lock()
	before := k.order.next
	k.order.next = next
	k.order.mu.Unlock()
	if next != "" && before == "" {
		text := madeInOrder(next)
		k.log.Warn("no leader, and a pod is missing", "reason", text)
		k.Event(true, ReasonPodMissing, text)
	}
}

// missing is the first pod of a higher ordinal that Kubernetes makes only when this member is ready,
// and has not made; empty: there is none, or it is not known.
func (k *Kube) missing(ctx context.Context) (string, error) {
	scale, err := k.client.Scale(ctx)
	if err != nil || scale.Parallel {
		return "", err
	}
	for ordinal := k.id.Ordinal + 1; ordinal < scale.First+scale.Members; ordinal++ {
		name := k.id.NameOf(ordinal)
		if p, err := k.client.Peer(ctx, name); err != nil {
			return "", err
		} else if p.Absent {
			return name, nil
		}
	}
	return "", nil
}

func madeInOrder(next string) string {
	return fmt.Sprintf("the pod %s is missing, and Kubernetes makes it only when all lower ordinals are ready (podManagementPolicy OrderedReady): "+
		"so this member counts as ready, without a leader. With podManagementPolicy Parallel, which the manifests have, none waits for another", next)
}

// next is the pod that is made when this member is ready; empty: none that is known.
func (k *Kube) next() string {
	k.order.mu.Lock()
	defer k.order.mu.Unlock()
	return k.order.next
}

// readyInOrder says why a member counts as ready that has no leader; empty: it does not.
func (k *Kube) readyInOrder(s replicate.Status, leader lead.Status) string {
	next := k.next()
	if next == "" || leader.Leader() != "" || !s.Facts.Answers || s.Facts.Trouble != "" || !s.Attached {
		return ""
	}
	return madeInOrder(next)
}
