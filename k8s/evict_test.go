package k8s

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clienttesting "k8s.io/client-go/testing"
)

// overBudget is what the API server says when a PodDisruptionBudget stands in the way.
func overBudget() error {
	err := apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 10)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: "needs 2 healthy pods and has 2 currently"}}
	return err
}

func TestEvict(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want error
	}{
		{"allowed", nil, nil},
		{"another member is away", overBudget(), ErrBudget},
		{"too many requests", apierrors.NewTooManyRequests("slow down", 1), ErrAway},
		{"no connection", errRefused, ErrAway},
		{"no rule", apierrors.NewForbidden(pods, testPod, nil), ErrForbidden},
		{"gone", apierrors.NewNotFound(pods, testPod), ErrReplaced},
		{"a successor", apierrors.NewConflict(pods, testPod, nil), ErrReplaced},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, api, _ := newFake(t, newPod())
			failing(api, "create", "pods/eviction", func() error { return tt.err })
			if err := c.Evict(t.Context()); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			} else if errors.Is(err, ErrForbidden) && !strings.Contains(err.Error(), `"create" on pods/eviction named "db-1"`) {
				t.Errorf("error %v does not name the rule", err)
			}
			actions := api.Actions()
			if len(actions) != 1 || actions[0].GetSubresource() != "eviction" {
				t.Fatalf("actions %v", actions)
			}
			eviction, ok := actions[0].(clienttesting.CreateAction).GetObject().(*policyv1.Eviction)
			if !ok || eviction.Name != testPod || *eviction.DeleteOptions.Preconditions.UID != testUID {
				t.Errorf("eviction %+v", eviction)
			}
		})
	}
}

// What goes over the wire, and what comes back when the budget is used up.
func TestEvictOverTheWire(t *testing.T) {
	var sent policyv1.Eviction
	var path string
	c, _ := newOver(t, func(r *http.Request) (*http.Response, error) {
		path = r.Method + " " + r.URL.Path
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &sent); err != nil {
			return nil, err
		}
		var status apierrors.APIStatus
		errors.As(overBudget(), &status)
		answer := status.Status()
		answer.Kind, answer.APIVersion = "Status", "v1"
		answer.Details.RetryAfterSeconds = 0 // with it, client-go would wait and ask again
		body, err := json.Marshal(answer)
		return &http.Response{
			StatusCode: http.StatusTooManyRequests, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(string(body))), Request: r,
		}, err
	})
	err := c.Evict(t.Context())
	if !errors.Is(err, ErrBudget) || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("error %v", err)
	}
	if path != "POST /api/v1/namespaces/database/pods/db-1/eviction" || sent.Kind != "Eviction" || sent.APIVersion != "policy/v1" {
		t.Errorf("%s with %+v", path, sent)
	}
}
