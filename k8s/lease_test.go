package k8s

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
)

var leases = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

func newLease(annotations map[string]string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		TypeMeta:   metav1.TypeMeta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"},
		ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "db", Annotations: annotations},
	}
}

func annotation(t *testing.T, api *fake.Clientset) (string, bool) {
	t.Helper()
	lease, err := api.CoordinationV1().Leases(testNamespace).Get(t.Context(), "db", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	value, ok := lease.Annotations[AnnotationInitialized]
	return value, ok
}

func TestInitialized(t *testing.T) {
	const since = "2026-11-22T10:00:00Z db-0"
	for _, tt := range []struct {
		name  string
		lease *coordinationv1.Lease
		since string
		ok    bool
	}{
		{"never", newLease(nil), "", false},
		{"other annotations", newLease(map[string]string{"team": "db"}), "", false},
		{"since", newLease(map[string]string{AnnotationInitialized: since}), since, true},
		{"emptied by hand", newLease(map[string]string{AnnotationInitialized: ""}), "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, _ := newFake(t, tt.lease)
			got, ok, err := c.Initialized(t.Context())
			if got != tt.since || ok != tt.ok || err != nil {
				t.Errorf("Initialized = %q, %v, %v", got, ok, err)
			}
		})
	}
}

func TestNoLease(t *testing.T) {
	c, api, _ := newFake(t)
	_, _, readErr := c.Initialized(t.Context())
	for _, err := range []error{readErr, c.MarkInitialized(t.Context(), "db-0")} {
		if !errors.Is(err, ErrNoLease) || errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "manifests/base/lease.yaml") {
			t.Errorf("error %v", err)
		}
	}
	if n := requests(api, "create"); n != 0 {
		t.Error("a Lease was made: it would mean consent")
	}
}

func TestMarkInitialized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, _ := newFake(t, newLease(nil))
		want := time.Now().UTC().Format(time.RFC3339) + " db-0"
		for _, who := range []string{"db-0", "db-7"} { // the first word stays
			if err := c.MarkInitialized(t.Context(), who); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if got, ok := annotation(t, api); !ok || got != want {
			t.Errorf("annotation %q, want %q", got, want)
		}
		if n := requests(api, "update"); n != 1 {
			t.Errorf("%d updates", n)
		}
	})
}

func TestMarkInitializedAfterConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, api, _ := newFake(t, newLease(nil))
		conflicts := 7
		failing(api, "update", "leases", func() error {
			if conflicts--; conflicts >= 0 {
				return apierrors.NewConflict(leases, "db", nil)
			}
			return nil
		})
		if err := c.MarkInitialized(t.Context(), "db-0"); err != nil {
			t.Fatal(err)
		}
		if _, ok := annotation(t, api); !ok {
			t.Error("no annotation")
		}
	})
}

func TestMarkInitializedFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"away", errRefused, ErrAway},
		{"read-only role", apierrors.NewForbidden(leases, "db", nil), ErrForbidden},
		{"deleted meanwhile", apierrors.NewNotFound(leases, "db"), ErrNoLease},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, api, _ := newFake(t, newLease(nil))
			failing(api, "update", "leases", func() error { return tt.err })
			if err := c.MarkInitialized(t.Context(), "db-0"); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if n := requests(api, "update"); n != 1 {
				t.Errorf("%d updates: the caller decides when to try again", n)
			}
		})
	}
}

// leaseServer is an API server that holds one Lease and, unlike client-go's fake, refuses an update
// that was not made from the version it holds.
type leaseServer struct {
	mu        sync.Mutex
	lease     *coordinationv1.Lease
	version   int
	conflicts int
	// between, when set, is called once after the next read was answered.
	between func(*coordinationv1.Lease)
	// lose makes the answer to an update get lost.
	lose bool
}

func (s *leaseServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path != "/apis/coordination.k8s.io/v1/namespaces/database/leases/db" {
		http.NotFound(w, r)
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.answer(w, http.StatusOK, s.lease)
		if s.between != nil {
			s.between(s.lease)
			s.between = nil
			s.bump()
		}
	case http.MethodPut:
		var update coordinationv1.Lease
		if err := json.NewDecoder(r.Body).Decode(&update); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if update.ResourceVersion != s.lease.ResourceVersion {
			s.conflicts++
			s.answer(w, http.StatusConflict, apierrors.NewConflict(leases, "db", errors.New("the object has been modified")).Status())
			return
		}
		s.lease = &update
		s.bump()
		if s.lose {
			panic(http.ErrAbortHandler)
		}
		s.answer(w, http.StatusOK, s.lease)
	default:
		http.Error(w, r.Method, http.StatusMethodNotAllowed)
	}
}

func (s *leaseServer) bump() {
	s.version++
	s.lease.ResourceVersion = strconv.Itoa(s.version)
}

func (s *leaseServer) answer(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object) // the client sees it
}

// start serves until the test ends and returns a client for each name.
func (s *leaseServer) start(t *testing.T) (*httptest.Server, func(pod string) *Client) {
	t.Helper()
	s.lease = newLease(map[string]string{"team": "db"})
	s.bump()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server, func(pod string) *Client {
		cfg := testConfig(&journal{})
		cfg.Pod = pod
		json := rest.ContentConfig{ContentType: runtime.ContentTypeJSON}
		c, err := NewFromConfig(cfg, &rest.Config{Host: server.URL, ContentConfig: json})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func TestMarkInitializedOverwritesNobody(t *testing.T) {
	s := &leaseServer{between: func(l *coordinationv1.Lease) { l.Annotations["other"] = "kept" }}
	_, client := s.start(t)
	if err := client("db-0").MarkInitialized(t.Context(), "db-0"); err != nil {
		t.Fatal(err)
	}
	if s.conflicts != 1 || s.lease.Annotations["other"] != "kept" || s.lease.Annotations["team"] != "db" ||
		!strings.HasSuffix(s.lease.Annotations[AnnotationInitialized], " db-0") {
		t.Errorf("%d conflicts, annotations %v", s.conflicts, s.lease.Annotations)
	}
}

func TestMarkInitializedByMany(t *testing.T) {
	s := &leaseServer{}
	_, client := s.start(t)
	var wg sync.WaitGroup
	for _, pod := range []string{"db-0", "db-1", "db-2", "db-3"} {
		wg.Go(func() {
			if err := client(pod).MarkInitialized(t.Context(), pod); err != nil {
				t.Errorf("%s: %v", pod, err)
			}
		})
	}
	wg.Wait()
	if s.version != 2 {
		t.Errorf("the Lease was written %d times, want once", s.version-1)
	}
}

func TestMarkInitializedAnswerLost(t *testing.T) {
	s := &leaseServer{lose: true}
	_, client := s.start(t)
	c := client("db-0")
	if err := c.MarkInitialized(t.Context(), "db-0"); !errors.Is(err, ErrAway) {
		t.Fatalf("error %v", err)
	}
	if err := c.MarkInitialized(t.Context(), "db-0"); err != nil || s.version != 2 {
		t.Errorf("error %v, written %d times", err, s.version-1)
	}
}

func TestLeaseWhileTheServerIsAway(t *testing.T) {
	s := &leaseServer{}
	server, client := s.start(t)
	c := client("db-0")
	server.Close()
	if _, ok, err := c.Initialized(t.Context()); ok || !errors.Is(err, ErrAway) {
		t.Errorf("Initialized = %v, %v", ok, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok, err := c.Initialized(ctx); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("Initialized of a caller that left = %v, %v", ok, err)
	}
}
