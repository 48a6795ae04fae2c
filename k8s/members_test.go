package k8s

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestRegistry(t *testing.T) {
	const since = "2026-11-22T10:00:00Z db-0"
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		want        Registry
	}{
		{"a new Lease", nil, Registry{}},
		{"of a version before", map[string]string{AnnotationInitialized: since}, Registry{Initialized: true, Since: since}},
		{
			"two members",
			map[string]string{AnnotationInitialized: since, AnnotationMembers: "db-0,db-11"},
			Registry{Initialized: true, Since: since, Listed: true, Members: []string{"db-0", "db-11"}},
		},
		{"written by hand", map[string]string{AnnotationMembers: " db-1, db-0,,\n"}, Registry{Listed: true, Members: []string{"db-1", "db-0"}}},
		{"emptied by hand", map[string]string{AnnotationMembers: ""}, Registry{Listed: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, _ := newFake(t, newLease(tt.annotations))
			got, err := c.Registry(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Members) == 0 {
				got.Members = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNobodyKnowsTheMembers(t *testing.T) {
	c, api, _ := newFake(t)
	if _, err := c.Registry(t.Context()); !errors.Is(err, ErrNoLease) {
		t.Errorf("without a Lease: %v", err)
	}
	if err := c.Register(t.Context(), "db-1"); !errors.Is(err, ErrNoLease) || requests(api, "create") != 0 {
		t.Errorf("without a Lease: %v", err)
	}
	failing(api, "get", "leases", func() error { return errRefused })
	if _, err := c.Registry(t.Context()); !errors.Is(err, ErrAway) {
		t.Errorf("without an API server: %v", err)
	}
}

// All members may register at once, and none takes another's name out.
func TestRegisterByMany(t *testing.T) {
	s := &leaseServer{}
	_, client := s.start(t)
	var want []string
	var wg sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("db-%d", i)
		want = append(want, name)
		c := client(name)
		wg.Go(func() {
			for range 2 {
				if err := c.Register(t.Context(), name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := registered(s.lease.Annotations[AnnotationMembers])
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if s.version != 1+len(want) || s.lease.Annotations["team"] != "db" {
		t.Errorf("the Lease was written %d times, annotations %v", s.version-1, s.lease.Annotations)
	}
}

// What somebody else wrote between our reading and our writing stays.
func TestRegisterOverwritesNobody(t *testing.T) {
	s := &leaseServer{}
	_, client := s.start(t)
	c := client("db-1")
	s.between = func(l *coordinationv1.Lease) { l.Annotations[AnnotationMembers] = "db-0,db-9" }
	if err := c.Register(t.Context(), "db-1"); err != nil {
		t.Fatal(err)
	}
	if got := s.lease.Annotations[AnnotationMembers]; got != "db-0,db-9,db-1" || s.conflicts != 1 {
		t.Errorf("members %q after %d conflicts", got, s.conflicts)
	}
}

func TestRegisterIsBounded(t *testing.T) {
	names := make([]string, maxRegistered)
	for i := range names {
		names[i] = fmt.Sprintf("db-%d", i)
	}
	c, api, _ := newFake(t, newLease(map[string]string{AnnotationMembers: strings.Join(names, ",")}))
	if err := c.Register(t.Context(), "db-7"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	if err := c.Register(t.Context(), "db-5000"); !errors.Is(err, ErrTooMany) || requests(api, "update") != 0 {
		t.Errorf("one more: %v", err)
	}
}

func TestScale(t *testing.T) {
	three := int32(3)
	set := func(spec appsv1.StatefulSetSpec) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "db"}, Spec: spec}
	}
	for _, tt := range []struct {
		name string
		spec appsv1.StatefulSetSpec
		want Scale
	}{
		{"as it is by default", appsv1.StatefulSetSpec{}, Scale{Members: 1}},
		{"three at once", appsv1.StatefulSetSpec{Replicas: &three, PodManagementPolicy: appsv1.ParallelPodManagement}, Scale{Members: 3, Parallel: true}},
		{"others from five on", appsv1.StatefulSetSpec{Replicas: &three, Ordinals: &appsv1.StatefulSetOrdinals{Start: 5}}, Scale{First: 5, Members: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, _ := newFake(t, set(tt.spec))
			if got, err := c.Scale(t.Context()); err != nil || got != tt.want {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	c, api, _ := newFake(t)
	failing(api, "get", "statefulsets", func() error {
		return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "statefulsets"}, "db", nil)
	})
	if _, err := c.Scale(context.WithoutCancel(t.Context())); !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), `"get" on statefulsets.apps named "db"`) {
		t.Errorf("with a Role of before: %v", err)
	}
}
