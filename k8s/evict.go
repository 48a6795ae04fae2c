package k8s

import (
	"context"
	"errors"
	"fmt"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ErrBudget is returned when a PodDisruptionBudget does not allow an eviction now: another member
// is away. Ask again later.
var ErrBudget = errors.New("a PodDisruptionBudget does not allow the eviction now")

// Evict has our own pod deleted, and no other of the same name, as a drain of its node would: the
// StatefulSet creates it again, on its volume. The error is ErrBudget, ErrAway, ErrForbidden or
// ErrReplaced where it is one of them. A pod that is on its way out already is no error.
//
// https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
func (c *Client) Evict(ctx context.Context) error {
	uid := c.uid()
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: c.cfg.Namespace, Name: c.cfg.Pod},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	}
	rule := fmt.Sprintf("%q on pods/eviction named %q", "create", c.cfg.Pod)
	_, err := request(ctx, rule, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.api.CoreV1().Pods(c.cfg.Namespace).EvictV1(ctx, eviction)
	})
	switch {
	case err == nil:
		c.cfg.Log.InfoContext(ctx, "the pod is evicted")
		return nil
	case apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		return fmt.Errorf("evict the pod: %w: %w", ErrBudget, err)
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return fmt.Errorf("evict the pod: %w: %w", ErrReplaced, err)
	}
	return fmt.Errorf("evict the pod: %w", err)
}
