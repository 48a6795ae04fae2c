package k8s

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func label(t *testing.T, api *fake.Clientset) string {
	t.Helper()
	pod, err := api.CoreV1().Pods(testNamespace).Get(t.Context(), testPod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod.Labels[LabelRole]
}

func requests(api *fake.Clientset, verb string) int {
	n := 0
	for _, a := range api.Actions() {
		if a.GetVerb() == verb {
			n++
		}
	}
	return n
}

func TestSetRole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, _ := newFake(t, newPod())
		for range 10 {
			if err := c.SetRole(t.Context(), Replica); err != nil {
				t.Fatal(err)
			}
		}
		if gets, patches := requests(api, "get"), requests(api, "patch"); gets != 1 || patches != 1 {
			t.Errorf("%d gets and %d patches for ten calls", gets, patches)
		}
		if got := label(t, api); got != "replica" {
			t.Errorf("label %q", got)
		}

		if err := c.SetRole(t.Context(), Primary); err != nil {
			t.Fatal(err)
		}
		if got := label(t, api); got != "primary" {
			t.Errorf("label after a change %q", got)
		}

		pod := newPod()
		if _, err := api.CoreV1().Pods(testNamespace).Update(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(roleTrust)
		if err := c.SetRole(t.Context(), Primary); err != nil {
			t.Fatal(err)
		}
		if got := label(t, api); got != "primary" {
			t.Errorf("label that somebody took away: %q", got)
		}
	})
}

func TestSetRoleLeavesARightLabel(t *testing.T) {
	pod := newPod()
	pod.Labels = map[string]string{LabelRole: "primary"}
	c, api, _ := newFake(t, pod)
	if err := c.SetRole(t.Context(), Primary); err != nil {
		t.Fatal(err)
	}
	if n := requests(api, "patch"); n != 0 {
		t.Errorf("%d patches", n)
	}
}

func TestSetRoleTriesAgainAfterFailure(t *testing.T) {
	c, api, _ := newFake(t, newPod())
	err := errRefused
	failing(api, "patch", "pods", func() error { return err })
	if got := c.SetRole(t.Context(), Replica); !errors.Is(got, ErrAway) {
		t.Errorf("error %v", got)
	}
	err = nil
	if got := c.SetRole(t.Context(), Replica); got != nil || label(t, api) != "replica" {
		t.Errorf("error %v, label %q", got, label(t, api))
	}
}

func TestSetRoleOfASuccessor(t *testing.T) {
	successor := newPod()
	successor.UID = "another"
	c, api, _ := newFake(t, successor)
	if err := c.SetRole(t.Context(), Primary); !errors.Is(err, ErrReplaced) || label(t, api) != "" {
		t.Errorf("seen before the patch: error %v, label %q", err, label(t, api))
	}

	// Between our look and our patch.
	c, api, _ = newFake(t, newPod())
	failing(api, "patch", "pods", func() error {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Pod").GroupKind(), testPod, nil)
	})
	if err := c.SetRole(t.Context(), Primary); !errors.Is(err, ErrReplaced) {
		t.Errorf("seen by the API server: error %v", err)
	}
}

// A pod that wrongly bears the label of the primary loses it, also one that gets it again; others
// are looked at only.
func TestUnseat(t *testing.T) {
	labelled := func(role string) *corev1.Pod {
		p := newPod()
		p.Name, p.Labels = "db-7", map[string]string{LabelRole: role}
		return p
	}
	for _, tt := range []struct {
		name, role, want string
		patches          int
	}{
		{"a former primary", "primary", "replica", 1},
		{"a replica", "replica", "replica", 0},
	} {
		c, api, _ := newFake(t, newPod(), labelled(tt.role))
		unseated, err := c.Unseat(t.Context(), "db-7")
		if err != nil || unseated != (tt.patches == 1) {
			t.Errorf("%s: %v, %v", tt.name, unseated, err)
		}
		pod, err := api.CoreV1().Pods(testNamespace).Get(t.Context(), "db-7", metav1.GetOptions{})
		if err != nil || pod.Labels[LabelRole] != tt.want || requests(api, "patch") != tt.patches {
			t.Errorf("%s: %v, %v, %d patches", tt.name, pod.Labels, err, requests(api, "patch"))
		}
	}
	c, api, _ := newFake(t, newPod())
	if unseated, err := c.Unseat(t.Context(), "db-7"); err != nil || unseated {
		t.Errorf("no pod: %v, %v", unseated, err)
	}
	failing(api, "get", "pods", func() error { return errRefused })
	if _, err := c.Unseat(t.Context(), "db-7"); !errors.Is(err, ErrAway) {
		t.Errorf("away: %v", err)
	}
}

func TestBeingDeleted(t *testing.T) {
	now := metav1.Now()
	for _, tt := range []struct {
		name   string
		change func(*corev1.Pod)
		want   bool
	}{
		{"stays", func(*corev1.Pod) {}, false},
		{"marked", func(p *corev1.Pod) { p.DeletionTimestamp, p.Finalizers = &now, []string{"test/keep"} }, true},
		{"replaced", func(p *corev1.Pod) { p.UID = "another" }, true},
		{"gone", func(p *corev1.Pod) { p.Name = "db-9" }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := newPod()
			tt.change(pod)
			c, _, _ := newFake(t, pod)
			if got, err := c.BeingDeleted(t.Context()); got != tt.want || err != nil {
				t.Errorf("BeingDeleted = %v, %v", got, err)
			}
		})
	}
	t.Run("away", func(t *testing.T) {
		c, api, _ := newFake(t, newPod())
		failing(api, "get", "pods", func() error { return errRefused })
		if got, err := c.BeingDeleted(t.Context()); got || !errors.Is(err, ErrAway) {
			t.Errorf("BeingDeleted = %v, %v", got, err)
		}
	})
}

func TestContainer(t *testing.T) {
	named := func(names ...string) *corev1.Pod {
		p := newPod()
		p.Spec.Containers = nil
		for i, name := range names {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name})
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, RestartCount: int32(i)})
		}
		return p
	}
	other := named("server")
	other.UID = "another"
	killed := named("server")
	killed.Status.ContainerStatuses[0].RestartCount = 3
	killed.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
		Reason: "Error", ExitCode: 1, Message: "GENERATED ROOT PASSWORD: abc\nnoise\nERROR 1064 (42000) at line 3: syntax\nmore noise\n",
	}
	killed.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s restarting"}
	pulling := named("server")
	pulling.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want Container
		err  error
	}{
		{"by its name", named("exporter", "server"), Container{Restarts: 1}, nil},
		{"the only one", named("mysqld"), Container{}, nil},
		{"none of the name", named("a", "b"), Container{}, ErrNoContainer},
		{"nothing is known yet", newPod(), Container{}, ErrNoContainer},
		{"another pod", other, Container{}, ErrReplaced},
		{"it ended", killed, Container{Restarts: 3, End: "Error, exit code 1: ERROR 1064 (42000) at line 3: syntax", Failed: true, Waits: "CrashLoopBackOff"}, nil},
		{"it has no image", pulling, Container{Waits: "ImagePullBackOff: no such image"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, _ := newFake(t, tt.pod)
			got, err := c.Container(t.Context(), "server")
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestLastWords(t *testing.T) {
	for _, tt := range []struct{ name, log, want string }{
		{"nothing", "", ""},
		{"the end", "1\n2\n3\n\n4\n", "2 | 3 | 4"},
		{"errors", "[ERROR] a\nx\ny\nz\n", "[ERROR] a"},
		{"a password that the image has made", "x [Note] [Entrypoint]: GENERATED ROOT PASSWORD: abc\n", ""},
		{"long", strings.Repeat("x", 1000), "…" + strings.Repeat("x", endBytes)},
	} {
		if got := lastWords(tt.log); got != tt.want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}
