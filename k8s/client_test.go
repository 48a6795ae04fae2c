package k8s

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testNamespace = "database"
	testPod       = "db-1"
	testUID       = "6f0c2f4e-5d2b-4c57-9a0e-0f6f4b1d7a11"
)

// journal is a log that several goroutines write and a test reads.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(message string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), message)
}

func testConfig(w *journal) Config {
	return Config{
		Namespace: testNamespace, Pod: testPod, PodUID: testUID, Set: "db", Version: "v1.2.3",
		Log: slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

// newFake returns a member's client of an API server that holds objects.
func newFake(t *testing.T, objects ...runtime.Object) (*Client, *fake.Clientset, *journal) {
	t.Helper()
	api := fake.NewClientset(objects...)
	log := &journal{}
	c, err := NewFromInterface(testConfig(log), api)
	if err != nil {
		t.Fatal(err)
	}
	return c, api, log
}

// failing makes the API server answer with what next returns, unless that is nil.
func failing(api *fake.Clientset, verb, resource string, next func() error) {
	api.PrependReactor(verb, resource, func(clienttesting.Action) (bool, runtime.Object, error) {
		err := next()
		return err != nil, nil, err
	})
}

// roundTripper is an API server in a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// silent takes requests and never answers them.
func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func newOver(t *testing.T, transport roundTripper) (*Client, *journal) {
	t.Helper()
	log := &journal{}
	c, err := NewFromConfig(testConfig(log), &rest.Config{Host: "http://api.invalid", Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c, log
}

var (
	errRefused = errors.New("dial tcp 10.96.0.1:443: connect: connection refused")
	pods       = schema.GroupResource{Resource: "pods"}
)

func TestClassify(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want error // nil: the error as it is
	}{
		{"no connection", errRefused, ErrAway},
		{"our own deadline", context.DeadlineExceeded, ErrAway},
		{"overloaded", apierrors.NewTooManyRequests("slow down", 1), ErrAway},
		{"etcd away", apierrors.NewInternalError(errors.New("etcdserver: no leader")), ErrAway},
		{"starting", apierrors.NewServiceUnavailable("not yet"), ErrAway},
		{"timed out there", apierrors.NewTimeoutError("etcd", 1), ErrAway},
		{"a proxy's page", apierrors.NewGenericServerResponse(http.StatusBadGateway, "get", pods, testPod, "<html>", 0, true), ErrAway},
		{"no rule", apierrors.NewForbidden(pods, testPod, nil), ErrForbidden},
		{"bad token", apierrors.NewUnauthorized("expired"), ErrForbidden},
		{"not found", apierrors.NewNotFound(pods, testPod), nil},
		{"conflict", apierrors.NewConflict(pods, testPod, nil), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := classify(t.Context(), tt.err, `"get" on pods`)
			if !errors.Is(got, tt.err) {
				t.Errorf("classify lost the cause: %v", got)
			}
			for _, sentinel := range []error{ErrAway, ErrForbidden} {
				if is := errors.Is(got, sentinel); is != errors.Is(tt.want, sentinel) {
					t.Errorf("classify(%v) = %v: is %q: %v", tt.err, got, sentinel, is)
				}
			}
		})
	}
}

func TestForbiddenNamesTheRule(t *testing.T) {
	c, api, _ := newFake(t)
	failing(api, "get", "pods", func() error { return apierrors.NewForbidden(pods, testPod, nil) })
	failing(api, "get", "leases", func() error { return apierrors.NewForbidden(pods, "db", nil) })
	_, podErr := c.BeingDeleted(t.Context())
	_, _, leaseErr := c.Initialized(t.Context())
	for _, tt := range []struct {
		err  error
		want string
	}{
		{podErr, `"get" on pods named "db-1"`},
		{leaseErr, `"get" on leases.coordination.k8s.io named "db"`},
	} {
		if !errors.Is(tt.err, ErrForbidden) || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("error %v does not name %s", tt.err, tt.want)
		}
	}
}

func TestSilentServerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newOver(t, silent)
		begin := time.Now()
		if _, ok, err := c.Initialized(t.Context()); !errors.Is(err, ErrAway) || ok {
			t.Errorf("Initialized = %v, %v", ok, err)
		}
		if took := time.Since(begin); took != requestTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newOver(t, silent)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.BeingDeleted(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrAway) {
			t.Errorf("error %v", err)
		}
	})
}

func TestUserAgent(t *testing.T) {
	var agent string
	c, _ := newOver(t, func(r *http.Request) (*http.Response, error) {
		agent = r.Header.Get("User-Agent")
		return nil, errRefused
	})
	_, _ = c.BeingDeleted(t.Context())
	if agent != "understudy/v1.2.3" {
		t.Errorf("user agent %q", agent)
	}
}

func TestNewOutsideACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := New(testConfig(&journal{})); !errors.Is(err, ErrOutside) {
		t.Errorf("no cluster: %v", err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := New(testConfig(&journal{})); !errors.Is(err, ErrOutside) {
		t.Errorf("no token: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	cfg := testConfig(&journal{})
	cfg.Namespace, cfg.PodUID = "", ""
	_, err := NewFromInterface(cfg, fake.NewClientset())
	if err == nil || !strings.Contains(err.Error(), "Namespace") || !strings.Contains(err.Error(), "PodUID") {
		t.Errorf("error %v", err)
	}
}

func newPod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: testPod, UID: testUID}}
}
