package member

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"understudy/replicate"
	"understudy/replicate/failover"
	"understudy/replicate/lead"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// db-1 has no leader, and Kubernetes makes db-2 only when it is ready.
func TestReadyInOrder(t *testing.T) {
	led := lead.Status{Record: failover.Record{Term: 3, Phase: failover.Opened, Holder: "db-0"}}
	for _, tt := range []struct {
		name   string
		policy appsv1.PodManagementPolicyType
		pods   []string // beside db-1
		leader lead.Status
		change func(*replicate.Status)
		ready  bool
	}{
		{"the next is missing", appsv1.OrderedReadyPodManagement, []string{"db-0"}, lead.Status{}, nil, true},
		{"one above the next is missing", appsv1.OrderedReadyPodManagement, []string{"db-0", "db-2"}, lead.Status{}, nil, true},
		{"all are there", appsv1.OrderedReadyPodManagement, []string{"db-0", "db-2", "db-3"}, lead.Status{}, nil, false},
		{"a lower one is missing", appsv1.OrderedReadyPodManagement, []string{"db-2", "db-3"}, lead.Status{}, nil, false},
		{"pods do not wait for one another", appsv1.ParallelPodManagement, []string{"db-0"}, lead.Status{}, nil, false},
		{"somebody leads", appsv1.OrderedReadyPodManagement, []string{"db-0"}, led, nil, false},
		{"its server does not answer", appsv1.OrderedReadyPodManagement, []string{"db-0"}, lead.Status{}, func(s *replicate.Status) { s.Facts.Answers = false }, false},
		{"it is not attached", appsv1.OrderedReadyPodManagement, []string{"db-0"}, lead.Status{}, func(s *replicate.Status) { s.Attached = false }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, api := inPod(t, corev1.ContainerStatus{})
			wanted := int32(4)
			set := &appsv1.StatefulSet{
				ObjectMeta: metav1.ObjectMeta{Namespace: "database", Name: "db"},
				Spec:       appsv1.StatefulSetSpec{Replicas: &wanted, PodManagementPolicy: tt.policy},
			}
			if _, err := api.AppsV1().StatefulSets("database").Create(t.Context(), set, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			for _, name := range tt.pods {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "database", Name: name}}
				if _, err := api.CoreV1().Pods("database").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			s := replicate.Status{Attached: true, Facts: replicate.Facts{Answers: true}, Reason: "no leader"}
			if tt.change != nil {
				tt.change(&s)
			}
			h := NewHealth(prometheus.NewRegistry(), "v1")
			h.status, h.note = func() replicate.Status { return s }, func() string { return "" }
			h.WatchLead(func() lead.Status { return tt.leader }, k)
			k.lookForNext(t.Context(), tt.leader.Leader() == "")
			answer := httptest.NewRecorder()
			h.Server(k.log).Handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", http.NoBody))
			text := answer.Body.String()
			if ready := answer.Code == http.StatusOK; ready != tt.ready || !strings.Contains(text, "no leader") || strings.Contains(text, "OrderedReady") != tt.ready {
				t.Errorf("%d %s", answer.Code, text)
			}
		})
	}
}
