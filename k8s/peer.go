package k8s

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Peer is what the API server knows of another member's pod; what the member says of its data is a
// replicate.Peer. It is for people to read, and nothing is decided by it: the kubelet may have said
// it some seconds ago, and one that is away says nothing more.
type Peer struct {
	// Absent says that there is no such pod; then the rest says nothing.
	Absent bool
	Ready  bool
	// Unscheduled is why it has no node; empty: it has.
	Unscheduled string
	// Before says that it was made from an earlier template of the StatefulSet than our own pod: a
	// rolling update has yet to come to it.
	Before bool
	// Trouble is the first of its containers that fails, or cannot start, and why; empty: none.
	Trouble string
}

// Peer looks at the pod of another member. The error is ErrAway or ErrForbidden where it is one of
// them.
func (c *Client) Peer(ctx context.Context, name string) (Peer, error) {
	rule := fmt.Sprintf("%q on pods named %q", "get", name)
	pod, err := request(ctx, rule, func(ctx context.Context) (*corev1.Pod, error) {
		return c.api.CoreV1().Pods(c.cfg.Namespace).Get(ctx, name, metav1.GetOptions{})
	})
	if apierrors.IsNotFound(err) {
		return Peer{Absent: true}, nil
	}
	if err != nil {
		return Peer{}, fmt.Errorf("read the pod %s: %w", name, err)
	}
	own, err := c.pod(ctx)
	if err != nil {
		return Peer{}, fmt.Errorf("read the own pod: %w", err)
	}
	p := Peer{
		Before: own.Labels[appsv1.ControllerRevisionHashLabelKey] != pod.Labels[appsv1.ControllerRevisionHashLabelKey] &&
			pod.CreationTimestamp.Before(&own.CreationTimestamp),
	}
	for _, condition := range pod.Status.Conditions {
		switch {
		case condition.Type == corev1.PodReady:
			p.Ready = condition.Status == corev1.ConditionTrue
		case condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse:
			p.Unscheduled = condition.Message
		}
	}
	for _, all := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range all {
			if p.Trouble == "" {
				p.Trouble = stuck(s)
			}
		}
	}
	return p, nil
}

// starting are reasons for which a container waits that is about to start.
var starting = map[string]bool{"": true, "ContainerCreating": true, "PodInitializing": true}

func stuck(s corev1.ContainerStatus) string {
	c := describe(s)
	waits, _, _ := strings.Cut(c.Waits, ":")
	switch {
	case c.Failed && !s.Ready:
		return fmt.Sprintf("its container %s last ended with %s", s.Name, c.End)
	case !starting[waits]:
		return fmt.Sprintf("its container %s does not start: %s", s.Name, c.Waits)
	}
	return ""
}
