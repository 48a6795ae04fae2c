package member

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"understudy/k8s"
	"understudy/replicate"
)

// inPod is the line to Kubernetes of a pod whose server's container has this status.
func inPod(t *testing.T, status corev1.ContainerStatus) (*Kube, *fake.Clientset) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "database", Name: "db-1", UID: "6f0c"}}
	status.Name = "server"
	pod.Spec.Containers = []corev1.Container{{Name: "server"}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{status}
	api := fake.NewClientset(pod)
	log := slog.New(slog.DiscardHandler)
	client, err := k8s.NewFromInterface(k8s.Config{Namespace: "database", Pod: "db-1", PodUID: "6f0c", Set: "db", Log: log}, api)
	if err != nil {
		t.Fatal(err)
	}
	return NewKube(Identity{Namespace: "database", Set: "db", Name: "db-1", Ordinal: 1}, KubeConfig{Client: client}, log), api
}

// A server that does not start is reported with its own last words.
func TestSignsOfAServerThatEnds(t *testing.T) {
	k, _ := inPod(t, corev1.ContainerStatus{
		RestartCount: 4, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: "Error", ExitCode: 7, Message: "2026-11-28 [ERROR] mariadbd: unknown variable 'max_conections=500'\n2026-11-28 [ERROR] Aborting\n",
		}},
	})
	known := k.Container("127.0.0.1:3306")
	if c := known(); c != (replicate.Container{}) {
		t.Errorf("before it was asked: %+v", c)
	}
	k.lookAtContainer(t.Context(), false)
	c := known()
	for _, want := range []string{"unknown variable 'max_conections=500'", "exit code 7", "(4 restarts)"} {
		if !strings.Contains(c.State, want) || !c.Failed || c.Restarts != 4 {
			t.Errorf("%+v does not say %q", c, want)
		}
	}
	k.lookAtContainer(t.Context(), true)
	if c := known(); c != (replicate.Container{}) {
		t.Errorf("when the server answers: %+v", c)
	}
}

// A server on another port is reported with that port.
func TestSignsOfAServerElsewhere(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	k, _ := inPod(t, corev1.ContainerStatus{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}})
	k.lookAtContainer(t.Context(), false)
	c := k.Container("127.0.0.1:3306", ":3307", ":9307")()
	if !strings.Contains(c.State, "127.0.0.1:3306 (--server") || !strings.Contains(c.State+",", " "+port+",") || c.Failed {
		t.Errorf("%+v does not say that something listens on %s", c, port)
	}
}

func TestOtherPorts(t *testing.T) {
	dir := t.TempDir()
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for name, text := range map[string]string{
		"tcp": head + "   0: 0100007F:0CF4 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 1 1\n" + // 3316
			"   1: 0100007F:A1B2 0100007F:0CF4 01 00000000:00000000 00:00000000 00000000   999        0 1 1\n", // connected
		"tcp6": head + "   0: 00000000000000000000000000000000:245B 00000000000000000000000000000000:0000 0A 0:0 0:0 0 999 0 1 1\n" + // 9307
			"   1: 00000000000000000000000000000000:0CF4 00000000000000000000000000000000:0000 0A 0:0 0:0 0 999 0 1 1\n" +
			"   2: 00000000000000000000000000000000:8124 00000000000000000000000000000000:0000 0A 0:0 0:0 0 999 0 1 1\n", // 33060
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := otherPorts(dir, []string{":3307", ":9307", "127.0.0.1:3306"}); got != "3316, 33060" {
		t.Errorf("%q", got)
	}
	if got := otherPorts(filepath.Join(dir, "none"), nil); got != "" {
		t.Errorf("%q", got)
	}
}

// A member that the Role does not name says so where people look, and says when that is over.
func TestSignsOfAPodThatTheRoleDoesNotName(t *testing.T) {
	k, api := inPod(t, corev1.ContainerStatus{})
	forbidden := true
	api.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return forbidden, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "db-1", nil)
	})
	label := func() {
		k.labelled(k.client.SetRole(t.Context(), k8s.Replica))
	}
	events := func() (all []string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		k.client.Run(ctx) // which sends what waits, and ends
		for _, a := range api.Actions() {
			if create, ok := a.(clienttesting.CreateAction); ok {
				e := create.GetObject().(*corev1.Event) //nolint:forcetypeassert // nothing else is created
				all = append(all, e.Type+" "+e.Reason+": "+e.Message)
			}
		}
		return all
	}
	label()
	label()
	for _, want := range []string{"no role label", `"get" on pods named "db-1"`, "names/members.yaml"} {
		if !strings.Contains(k.Note(), want) {
			t.Errorf("%q does not say %q", k.Note(), want)
		}
	}
	if all := events(); len(all) != 1 || !strings.HasPrefix(all[0], "Warning Forbidden: the pod has no role label") {
		t.Errorf("Events %q", all)
	}
	forbidden = false
	label()
	if all := events(); k.Note() != "" || len(all) != 2 || !strings.HasPrefix(all[1], "Normal Recovered: ") {
		t.Errorf("%q, Events %q", k.Note(), all)
	}
}

// What is waited for, and for ever: a set that was wrong from the beginning and is corrected by
// "apply" is changed from its last member on, which waits for the first.
func TestSignsOfAFirstOrdinalThatIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    k8s.Peer
		want string
	}{
		{"ready", k8s.Peer{Ready: true, Before: true}, ""},
		{"starting", k8s.Peer{}, ""},
		{"gone", k8s.Peer{Absent: true}, "the pod db-0 does not exist"},
		{"unscheduled", k8s.Peer{Unscheduled: "0/3 nodes are available"}, "the pod db-0 has no node: 0/3 nodes are available"},
		{"wrong", k8s.Peer{Trouble: "its container init ended"}, "the pod db-0 is not ready: its container init ended"},
		{
			"wrong, and corrected",
			k8s.Peer{Before: true, Trouble: "its container server ended last with exit code 7"},
			"exit code 7; it has the StatefulSet's previous template, and the rolling update reaches it only when this pod is ready, " +
				"which waits for db-0: replace it with kubectl -n shop delete pod db-0",
		},
	} {
		if got := ofPrimary(tt.p, "db-0", "shop"); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	k, _ := inPod(t, corev1.ContainerStatus{})
	k.LookAtPrimary(t.Context(), true)
	if got := k.Note(); !strings.HasPrefix(got, "the pod db-0 does not exist") {
		t.Errorf("%q", got)
	}
	if k.LookAtPrimary(t.Context(), false); k.Note() != "" {
		t.Errorf("when it is not waited for: %q", k.Note())
	}
}
