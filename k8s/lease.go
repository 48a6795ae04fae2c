package k8s

import (
	"context"
	"fmt"
	"time"

	"understudy/replicate/retry"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// conflictWait is the first wait after somebody else has changed the Lease.
const conflictWait = 50 * time.Millisecond

// Initialized says whether the set has, or had, data: whether its Lease carries
// AnnotationInitialized. since is the annotation's value, such as "2026-11-22T10:00:00Z db-0".
//
//	annotation absent   the first ordinal may start empty
//	annotation present  it may never; removing the annotation is the operator's consent
//	an error            nobody knows: wait and ask again
//
// The error is ErrAway, ErrForbidden or ErrNoLease where it is one of them.
func (c *Client) Initialized(ctx context.Context) (since string, ok bool, err error) {
	lease, err := c.lease(ctx)
	if err != nil {
		return "", false, fmt.Errorf("check whether the set was initialised: %w", err)
	}
	since, ok = lease.Annotations[AnnotationInitialized]
	return since, ok, nil
}

// MarkInitialized makes the Lease say that the set has data, and since when and by whom; who is a
// member's name. It must succeed before the first ordinal opens for writes. An annotation that is
// there already stays as it is, so it can be called again. It does not retry but after a conflict,
// which another writer's success causes, until ctx ends. The error is ErrAway, ErrForbidden or
// ErrNoLease where it is one of them.
func (c *Client) MarkInitialized(ctx context.Context, who string) error {
	value := ""
	err := c.changeLease(ctx, func(annotations map[string]string) (bool, error) {
		if _, ok := annotations[AnnotationInitialized]; ok {
			return false, nil
		}
		value = time.Now().UTC().Format(time.RFC3339) + " " + who
		annotations[AnnotationInitialized] = value
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("record that the set is initialised: %w", err)
	}
	if value != "" {
		c.cfg.Log.InfoContext(ctx, "the Lease says that the set is initialised", "lease", c.cfg.Lease, "since", value)
	}
	return nil
}

// changeLease lets change alter the Lease's annotations, and writes them where it returns true.
// After a conflict, which another writer's success causes, it reads the Lease and calls change
// again, until ctx ends. It retries nothing else.
func (c *Client) changeLease(ctx context.Context, change func(annotations map[string]string) (bool, error)) error {
	return retry.Do(ctx, retry.Policy{First: conflictWait}, func(ctx context.Context) error {
		err := c.tryChange(ctx, change)
		if err == nil || apierrors.IsConflict(err) {
			return err
		}
		return retry.Permanent(err)
	})
}

func (c *Client) tryChange(ctx context.Context, change func(annotations map[string]string) (bool, error)) error {
	lease, err := c.lease(ctx)
	if err != nil {
		return err
	}
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	if changed, err := change(lease.Annotations); err != nil || !changed {
		return err
	}
	// The Lease still has the resourceVersion that was read: a change in between is a conflict.
	_, err = request(ctx, c.leaseRule("update"), func(ctx context.Context) (*coordinationv1.Lease, error) {
		return c.api.CoordinationV1().Leases(c.cfg.Namespace).Update(ctx, lease, metav1.UpdateOptions{FieldManager: Component})
	})
	return c.explainMissing(err)
}

func (c *Client) lease(ctx context.Context) (*coordinationv1.Lease, error) {
	lease, err := request(ctx, c.leaseRule("get"), func(ctx context.Context) (*coordinationv1.Lease, error) {
		return c.api.CoordinationV1().Leases(c.cfg.Namespace).Get(ctx, c.cfg.Lease, metav1.GetOptions{})
	})
	return lease, c.explainMissing(err)
}

// explainMissing makes an error of the Lease that does not exist ErrNoLease, with what to do.
func (c *Client) explainMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: apply the Lease %q of the manifests (manifests/base/lease.yaml) to the namespace %q: %w",
			ErrNoLease, c.cfg.Lease, c.cfg.Namespace, err)
	}
	return err
}

func (c *Client) leaseRule(verb string) string {
	return fmt.Sprintf("%q on leases.coordination.k8s.io named %q", verb, c.cfg.Lease)
}
