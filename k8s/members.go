package k8s

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxRegistered bounds the names in AnnotationMembers: with names as long as names can be they take
// a quarter of what all annotations of an object may take (256 KiB).
const maxRegistered = 1000

// ErrTooMany is returned by Register when the Lease names too many members.
var ErrTooMany = errors.New("the Lease names too many members")

// Registry is what the set's Lease says of the set.
type Registry struct {
	// Initialized and Since are as Client.Initialized has them.
	Initialized bool
	Since       string
	// Listed says that the Lease carries AnnotationMembers. It does not before the first member of
	// this version has registered, nor when the Lease was lost and made again: then nothing is
	// known of who the members are.
	Listed bool
	// Members are the names of those that were ever attached, in the order of the annotation. A
	// name leaves the list only by hand: "kubectl annotate lease NAME understudy/members=db-0,db-1
	// --overwrite".
	Members []string
}

// Registry reads the set's Lease. The error is ErrAway, ErrForbidden or ErrNoLease where it is one
// of them: then nobody knows.
func (c *Client) Registry(ctx context.Context) (Registry, error) {
	lease, err := c.lease(ctx)
	if err != nil {
		return Registry{}, fmt.Errorf("read the list of members: %w", err)
	}
	var r Registry
	r.Since, r.Initialized = lease.Annotations[AnnotationInitialized]
	text, listed := lease.Annotations[AnnotationMembers]
	r.Listed, r.Members = listed, registered(text)
	return r, nil
}

// registered reads the annotation's value, which people may have written, too.
func registered(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
}

// Register makes the Lease name who, a member's name, as one that was attached. A name that is
// there already stays, so that it can be called again. It retries after conflicts only, until ctx
// ends. The error is ErrAway, ErrForbidden, ErrNoLease or ErrTooMany where it is one of them.
func (c *Client) Register(ctx context.Context, who string) error {
	added := false
	err := c.changeLease(ctx, func(annotations map[string]string) (bool, error) {
		names := registered(annotations[AnnotationMembers])
		if added = !slices.Contains(names, who); !added {
			return false, nil
		}
		if len(names) >= maxRegistered {
			return false, fmt.Errorf("%w: %d; remove those that are gone for good from its annotation %s", ErrTooMany, len(names), AnnotationMembers)
		}
		annotations[AnnotationMembers] = strings.Join(append(names, who), ",")
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("register %s as a member: %w", who, err)
	}
	if added {
		c.cfg.Log.InfoContext(ctx, "the Lease names this member", "lease", c.cfg.Lease, "name", who)
	}
	return nil
}

// Scale is which members the StatefulSet has pods for.
type Scale struct {
	// First is the lowest ordinal, Members the number of replicas that are wanted.
	First, Members int
	// Parallel says that all pods are made at once: none waits for an earlier one to be ready.
	Parallel bool
}

// Scale reads the StatefulSet of the same name as the set. The error is ErrAway or ErrForbidden
// where it is one of them; a Role of an earlier version does not allow it.
func (c *Client) Scale(ctx context.Context) (Scale, error) {
	rule := fmt.Sprintf("%q on statefulsets.apps named %q", "get", c.cfg.Set)
	set, err := request(ctx, rule, func(ctx context.Context) (*appsv1.StatefulSet, error) {
		return c.api.AppsV1().StatefulSets(c.cfg.Namespace).Get(ctx, c.cfg.Set, metav1.GetOptions{})
	})
	if err != nil {
		return Scale{}, fmt.Errorf("read the scale of the StatefulSet: %w", err)
	}
	s := Scale{Members: 1, Parallel: set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement}
	if set.Spec.Replicas != nil {
		s.Members = int(*set.Spec.Replicas)
	}
	if set.Spec.Ordinals != nil {
		s.First = int(set.Spec.Ordinals.Start)
	}
	return s, nil
}
