package k8s

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Role is what a member is to the set, as the label LabelRole says it.
type Role string

const (
	// Primary accepts writes.
	Primary Role = "primary"
	// Replica follows the primary.
	Replica Role = "replica"
)

// roleTrust is for how long the label is taken to be as we left it.
const roleTrust = time.Minute

// SetRole makes the label of our own pod say role. It may be called at every turn of a loop: a
// label that is right costs at most one request a minute, and none is written. The error is
// ErrAway, ErrForbidden or ErrReplaced where it is one of them.
func (c *Client) SetRole(ctx context.Context, role Role) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.role == role && time.Since(c.roleAt) < roleTrust {
		return nil
	}
	pod, err := c.pod(ctx)
	if err != nil {
		return fmt.Errorf("read the pod's role: %w", err)
	}
	if pod.UID != c.uid() {
		return fmt.Errorf("read the pod's role: %w", ErrReplaced)
	}
	if pod.Labels[LabelRole] != string(role) {
		if err := c.patchRole(ctx, role); err != nil {
			return fmt.Errorf("label the pod as %s: %w", role, err)
		}
	}
	c.role, c.roleAt = role, time.Now()
	return nil
}

// patchRole changes our pod, and no other of the same name: the UID cannot change, so the API
// server calls a patch with another one invalid.
func (c *Client) patchRole(ctx context.Context, role Role) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": c.cfg.PodUID, "labels": map[string]string{LabelRole: string(role)},
	}})
	if err != nil {
		return fmt.Errorf("write the patch: %w", err)
	}
	_, err = request(ctx, c.podRule("patch"), func(ctx context.Context) (*corev1.Pod, error) {
		return c.api.CoreV1().Pods(c.cfg.Namespace).Patch(ctx, c.cfg.Pod, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: Component})
	})
	if apierrors.IsInvalid(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	return err
}

// BeingDeleted says whether our own pod is on its way out: marked as deleted, or gone already, or
// replaced. A container that is only restarted has a pod that stays. A pod that the kubelet itself
// ends, evicting it or as its node shuts down, is not marked.
func (c *Client) BeingDeleted(ctx context.Context) (bool, error) {
	pod, err := c.pod(ctx)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("check whether the pod is being deleted: %w", err)
	}
	return pod.UID != c.uid() || pod.DeletionTimestamp != nil, nil
}

// ErrNoContainer is returned where the pod has no container of the name that was asked for, or
// where nothing is known of it yet.
var ErrNoContainer = errors.New("the pod does not show the container")

// Container is what the API server knows of a container of our own pod. That is what the kubelet
// said last, which may be some seconds ago.
type Container struct {
	// Restarts is how often it was started again.
	Restarts int
	// End says how it ended last: why, and the last lines of its log, where its
	// terminationMessagePolicy keeps them. Empty: it has not ended.
	End string
	// Failed says that it ended by an error.
	Failed bool
	// Waits is why it does not run now, as in CrashLoopBackOff or ImagePullBackOff; else empty.
	Waits string
}

// Container looks at a container that is neither an init container nor a sidecar. Where the pod has
// one only, that is meant, whatever its name. The error is ErrNoContainer, ErrAway, ErrForbidden or
// ErrReplaced where it is one of them.
func (c *Client) Container(ctx context.Context, name string) (Container, error) {
	pod, err := c.pod(ctx)
	if err != nil {
		return Container{}, fmt.Errorf("read the container %s: %w", name, err)
	}
	if pod.UID != c.uid() {
		return Container{}, fmt.Errorf("read the container %s: %w", name, ErrReplaced)
	}
	if len(pod.Spec.Containers) == 1 {
		name = pod.Spec.Containers[0].Name
	}
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == name {
			return describe(s), nil
		}
	}
	return Container{}, fmt.Errorf("%w %s", ErrNoContainer, name)
}

func describe(s corev1.ContainerStatus) Container {
	c := Container{Restarts: int(s.RestartCount)}
	if w := s.State.Waiting; w != nil {
		c.Waits = w.Reason
		if w.Reason != "CrashLoopBackOff" && w.Message != "" { // whose message says no more than the reason
			c.Waits += ": " + lastWords(w.Message)
		}
	}
	t := s.State.Terminated
	if t == nil {
		t = s.LastTerminationState.Terminated
	}
	if t == nil {
		return c
	}
	c.End, c.Failed = fmt.Sprintf("%s, exit code %d", t.Reason, t.ExitCode), t.ExitCode != 0
	if said := lastWords(t.Message); said != "" {
		c.End += ": " + said
	}
	return c
}

const (
	// endLines and endBytes bound what is quoted from a container's log.
	endLines = 3
	endBytes = 600
)

// lastWords are the last lines of a log, or those of them that tell of an error. The image may
// print a password that it has made, which is left out.
func lastWords(log string) string {
	var all, errs []string
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if line == "" || strings.Contains(line, "PASSWORD:") {
			continue
		}
		all = append(all, line)
		if strings.Contains(line, "ERROR") || strings.Contains(line, "FATAL") {
			errs = append(errs, line)
		}
	}
	if len(errs) > 0 {
		all = errs
	}
	text := strings.Join(all[max(0, len(all)-endLines):], " | ")
	if len(text) > endBytes {
		text = "…" + strings.ToValidUTF8(text[len(text)-endBytes:], "")
	}
	return text
}

func (c *Client) pod(ctx context.Context) (*corev1.Pod, error) {
	return request(ctx, c.podRule("get"), func(ctx context.Context) (*corev1.Pod, error) {
		return c.api.CoreV1().Pods(c.cfg.Namespace).Get(ctx, c.cfg.Pod, metav1.GetOptions{})
	})
}

func (c *Client) podRule(verb string) string {
	return fmt.Sprintf("%q on pods named %q", verb, c.cfg.Pod)
}

// Unseat makes the label of another member's pod say that it is a replica, if it says that it is
// the primary: its own sidecar may not be able to. unseated says that it did. The pod of that name
// may be another one by now; that is no primary either. It may be called at every turn of a loop: a
// label that is right costs one request, and none is written.
func (c *Client) Unseat(ctx context.Context, pod string) (unseated bool, err error) {
	seen, err := request(ctx, fmt.Sprintf("%q on pods named %q", "get", pod), func(ctx context.Context) (*corev1.Pod, error) {
		return c.api.CoreV1().Pods(c.cfg.Namespace).Get(ctx, pod, metav1.GetOptions{})
	})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read the label of the pod %s: %w", pod, err)
	case seen.Labels[LabelRole] != string(Primary):
		return false, nil
	}
	rule := fmt.Sprintf("%q on pods named %q", "patch", pod)
	patch := fmt.Sprintf(`[{"op":"test","path":"/metadata/labels/%s","value":%q},{"op":"replace","path":"/metadata/labels/%[1]s","value":%[3]q}]`,
		strings.ReplaceAll(LabelRole, "/", "~1"), Primary, Replica)
	_, err = request(ctx, rule, func(ctx context.Context) (*corev1.Pod, error) {
		return c.api.CoreV1().Pods(c.cfg.Namespace).Patch(ctx, pod, types.JSONPatchType, []byte(patch), metav1.PatchOptions{FieldManager: Component})
	})
	if apierrors.IsInvalid(err) || apierrors.IsNotFound(err) { // it does not say so any more, or there is none
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("label the pod %s as %s: %w", pod, Replica, err)
	}
	return true, nil
}
