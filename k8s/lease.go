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
// AnnotationInitialized. since is the annotation's value, such as
// "2026-11-22T10:00:00Z db-0".
//
//	annotation absent   the first ordinal may start empty
//	annotation present  it may never; removing the annotation is the operator's consent
//	an error            nobody knows: wait and ask again
//
// The error is ErrAway, ErrForbidden or ErrNoLease where it is one of them.
func (c *Client) Initialized(ctx context.Context) (since string, ok bool, err error) {
	lease, err := c.lease(ctx)
	if err != nil {
		return "", false, fmt.Errorf("see whether the set was initialised: %w", err)
	}
	since, ok = lease.Annotations[AnnotationInitialized]
	return since, ok, nil
}

// MarkInitialized makes the Lease say that the set has data, and since when and by
// whom; who is a member's name. It must succeed before the first ordinal opens for
// writes. An annotation that is there already stays as it is, so it can be called
// again. It does not retry but after a conflict, which another writer's success
// causes, until ctx ends. The error is ErrAway, ErrForbidden or ErrNoLease where it
// is one of them.
func (c *Client) MarkInitialized(ctx context.Context, who string) error {
	err := retry.Do(ctx, retry.Policy{First: conflictWait}, func(ctx context.Context) error {
		err := c.mark(ctx, who)
		if err == nil || apierrors.IsConflict(err) {
			return err
		}
		return retry.Permanent(err)
	})
	if err != nil {
		return fmt.Errorf("record that the set is initialised: %w", err)
	}
	return nil
}

func (c *Client) mark(ctx context.Context, who string) error {
	lease, err := c.lease(ctx)
	if err != nil {
		return err
	}
	if _, ok := lease.Annotations[AnnotationInitialized]; ok {
		return nil
	}
	value := time.Now().UTC().Format(time.RFC3339) + " " + who
	metav1.SetMetaDataAnnotation(&lease.ObjectMeta, AnnotationInitialized, value)
	// The Lease still has the resourceVersion that was read: a change in between is a conflict.
	_, err = request(ctx, c.leaseRule("update"), func(ctx context.Context) (*coordinationv1.Lease, error) {
		return c.api.CoordinationV1().Leases(c.cfg.Namespace).Update(ctx, lease, metav1.UpdateOptions{FieldManager: Component})
	})
	if err != nil {
		return c.explain(err)
	}
	c.cfg.Log.InfoContext(ctx, "the Lease says that the set is initialised", "lease", c.cfg.Lease, "since", value)
	return nil
}

func (c *Client) lease(ctx context.Context) (*coordinationv1.Lease, error) {
	lease, err := request(ctx, c.leaseRule("get"), func(ctx context.Context) (*coordinationv1.Lease, error) {
		return c.api.CoordinationV1().Leases(c.cfg.Namespace).Get(ctx, c.cfg.Lease, metav1.GetOptions{})
	})
	return lease, c.explain(err)
}

func (c *Client) explain(err error) error {
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: apply the Lease %q of the manifests (manifests/base/lease.yaml) to the namespace %q: %w",
			ErrNoLease, c.cfg.Lease, c.cfg.Namespace, err)
	}
	return err
}

func (c *Client) leaseRule(verb string) string {
	return fmt.Sprintf("%q on leases.coordination.k8s.io named %q", verb, c.cfg.Lease)
}
