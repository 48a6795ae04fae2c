package member

import (
	"testing"

	"understudy/k8s"

	"github.com/google/go-cmp/cmp"
)

func TestRoster(t *testing.T) {
	three := &k8s.Scale{Members: 3, Parallel: true}
	oneByOne := &k8s.Scale{Members: 3}
	listed := func(names ...string) k8s.Registry { return k8s.Registry{Listed: true, Members: names} }
	for _, tt := range []struct {
		name     string
		registry k8s.Registry
		scale    *k8s.Scale
		want     map[int]bool
	}{
		{"a new set", k8s.Registry{}, three, map[int]bool{0: true, 1: true, 2: true}},
		{"a new set, one by one", k8s.Registry{}, oneByOne, map[int]bool{0: false, 1: false, 2: false}},
		{"nothing is known", k8s.Registry{}, nil, map[int]bool{}},
		{"one was never attached", listed("db-0", "db-1"), three, map[int]bool{0: true, 1: true, 2: false}},
		{"all", listed("db-2", "db-0", "db-1"), three, map[int]bool{0: true, 1: true, 2: true}},
		{"two were scaled away", listed("db-0", "db-1", "db-2", "db-3", "db-11"), three, map[int]bool{0: true, 1: true, 2: true, 3: false, 11: false}},
		{"the StatefulSet cannot be read", listed("db-0", "db-11"), nil, map[int]bool{0: true, 11: true}},
		{"names that are nobody's", listed("db-1", "other-1", "db-", "db-01", "db--1", "db-x"), nil, map[int]bool{1: true}},
		{"ordinals that begin later", listed("db-5", "db-0"), &k8s.Scale{First: 5, Members: 2, Parallel: true}, map[int]bool{0: false, 5: true, 6: false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, newRoster(&Identity{Set: "db"}, tt.registry, tt.scale).members); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whom Kubernetes names is asked, whatever --members says.
func TestOrdinals(t *testing.T) {
	r := Roster{members: map[int]bool{11: true, 3: false}}
	for _, tt := range []struct {
		self int
		want []int
	}{{0, []int{1, 3, 11}}, {NoMember, []int{0, 1, 3, 11}}, {5, []int{0, 1, 2, 3, 4, 11}}} {
		if diff := cmp.Diff(tt.want, (&Identity{Asked: 2, Ordinal: tt.self}).Peers(r)); diff != "" {
			t.Errorf("of %d: %s", tt.self, diff)
		}
	}
}
