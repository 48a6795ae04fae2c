package k8s

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/apiserver"

	"k8s.io/client-go/rest"
)

func newTerms(t *testing.T, rc *rest.Config, timeout time.Duration) *Terms {
	t.Helper()
	terms, err := NewTermsFromConfig(Config{
		Namespace: "default", Pod: testPod, PodUID: testUID, Set: "db", Log: slog.New(slog.DiscardHandler),
	}, rc, timeout)
	if err != nil {
		t.Fatal(err)
	}
	return terms
}

// On a real API server: of several writes from what was read once, one lands; a write whose answer
// did not come may land later, unless another has landed from the same.
func TestTerms(t *testing.T) {
	s, err := apiserver.Start(t.Context(), t.TempDir())
	if errors.Is(err, apiserver.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	const path = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
	terms := newTerms(t, &rest.Config{
		Host: "https://" + s.Host + ":6443", BearerToken: s.Token, TLSClientConfig: rest.TLSClientConfig{CAFile: s.CAFile},
	}, 2*time.Second)
	if _, err := terms.Read(t.Context()); !errors.Is(err, ErrNoLease) {
		t.Fatalf("without a Lease: %v", err)
	}
	if _, err := s.Do(t.Context(), http.MethodPost, path, "application/json",
		`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"db","annotations":{"understudy/initialized":"yes"}}}`); err != nil {
		t.Fatal(err)
	}
	read := func() Observed {
		t.Helper()
		o, err := terms.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	begin := read()
	var wg sync.WaitGroup
	var landed, lost atomic.Int64
	for range 10 {
		wg.Go(func() {
			switch _, err := terms.Write(t.Context(), begin, "one", "db-1"); {
			case err == nil:
				landed.Add(1)
			case errors.Is(err, ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if landed.Load() != 1 || lost.Load() != 9 {
		t.Errorf("%d of ten writes landed, %d were told of a conflict", landed.Load(), lost.Load())
	}
	one := read()
	if one.Record() != "one" || *one.lease.Spec.HolderIdentity != "db-1" || one.lease.Annotations[AnnotationInitialized] != "yes" {
		t.Errorf("the Lease is %+v", one.lease)
	}
	again, err := terms.Write(t.Context(), one, "one", "db-1")
	if err != nil {
		t.Fatal(err)
	}
	if again.Beat() == one.Beat() || again.Record() != one.Record() || again.Beat() != read().Beat() {
		t.Errorf("a renewal: from %q to %q", one.Beat(), again.Beat())
	}
	if _, err := s.Do(t.Context(), http.MethodPatch, path+"/db", "application/merge-patch+json", `{"metadata":{"annotations":{"understudy/members":"db-0"}}}`); err != nil {
		t.Fatal(err)
	}
	if got := read().Beat(); got != again.Beat() {
		t.Errorf("what another annotation says counts as a renewal: %q", got)
	}

	s.Signal(syscall.SIGSTOP)
	before := again
	_, err = terms.Write(t.Context(), before, "two", "db-1")
	if !errors.Is(err, ErrUnknown) {
		t.Errorf("a silent API server: %v", err)
	}
	if _, err := terms.Read(t.Context()); !errors.Is(err, ErrAway) {
		t.Errorf("a silent API server: %v", err)
	}
	s.Signal(syscall.SIGCONT)
	now := read()
	if _, err := terms.Write(t.Context(), now, "three", "db-2"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // the late write, if it is still on its way
	if got := read().Record(); got != "three" {
		t.Errorf("the Lease says %q", got)
	}
}

func TestTermsUndone(t *testing.T) {
	for _, tt := range []struct {
		name string
		code int
		body string
		want error
	}{
		{"conflict", http.StatusConflict, `{"kind":"Status","apiVersion":"v1","reason":"Conflict","code":409}`, ErrConflict},
		{"forbidden", http.StatusForbidden, `{"kind":"Status","apiVersion":"v1","reason":"Forbidden","code":403}`, ErrForbidden},
		{"gone", http.StatusNotFound, `{"kind":"Status","apiVersion":"v1","reason":"NotFound","code":404}`, ErrNoLease},
		{"it may have landed", http.StatusGatewayTimeout, `{"kind":"Status","apiVersion":"v1","reason":"Timeout","code":504}`, ErrUnknown},
		{"no status", http.StatusOK, `x`, ErrUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if r.Method == http.MethodGet {
					_, _ = io.WriteString(w, `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"db","resourceVersion":"7"}}`)
					return
				}
				w.WriteHeader(tt.code)
				_, _ = io.WriteString(w, tt.body)
			}))
			t.Cleanup(s.Close)
			terms := newTerms(t, &rest.Config{Host: s.URL}, time.Second)
			o, err := terms.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if o, err = terms.Write(t.Context(), o, "x", "db-1"); !errors.Is(err, tt.want) || o.lease != nil {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}
