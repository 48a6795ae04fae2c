package k8s

import (
	"errors"
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
