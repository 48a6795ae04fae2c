package k8s

import (
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestPeer(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	made := func(p *corev1.Pod, at time.Time, revision string) {
		p.CreationTimestamp = metav1.NewTime(at)
		p.Labels = map[string]string{appsv1.ControllerRevisionHashLabelKey: revision}
	}
	peer := func(change func(*corev1.Pod)) *corev1.Pod {
		p := newPod()
		p.Name, p.UID = "db-9", "another"
		made(p, noon.Add(-time.Hour), "one")
		change(p)
		return p
	}
	condition := func(of corev1.PodConditionType, status corev1.ConditionStatus, message string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: of, Status: status, Message: message}}
		}
	}
	waits := func(reason, message string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: "server", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
			}}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*corev1.Pod)
		want   Peer
	}{
		{"ready", condition(corev1.PodReady, corev1.ConditionTrue, ""), Peer{Ready: true, Before: true}},
		{"of the same template", func(p *corev1.Pod) { made(p, noon.Add(-time.Hour), "two") }, Peer{}},
		{"of a later template", func(p *corev1.Pod) { made(p, noon.Add(time.Hour), "three") }, Peer{}},
		{"unscheduled", condition(corev1.PodScheduled, corev1.ConditionFalse, "0/3 nodes are available"), Peer{Before: true, Unscheduled: "0/3 nodes are available"}},
		{"gone", func(p *corev1.Pod) { p.Name = "db-8" }, Peer{Absent: true}},
		{"starting", waits("PodInitializing", ""), Peer{Before: true}},
		{"without an image", waits("ErrImagePull", "no such image"), Peer{Before: true, Trouble: "its container server does not start: ErrImagePull: no such image"}},
		{"init fails", func(p *corev1.Pod) {
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
				Name: "init", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 2, Message: "unknown flag: --memebers\n"}},
			}}
		}, Peer{Before: true, Trouble: "its container init last ended with Error, exit code 2: unknown flag: --memebers"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			own := newPod()
			made(own, noon, "two")
			c, _, _ := newFake(t, own, peer(tt.change))
			if got, err := c.Peer(t.Context(), "db-9"); got != tt.want || err != nil {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	c, api, _ := newFake(t, newPod())
	failing(api, "get", "pods", func() error { return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "db-9", nil) })
	if _, err := c.Peer(t.Context(), "db-9"); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), `"get" on pods named "db-9"`) {
		t.Errorf("error %v", err)
	}
}
