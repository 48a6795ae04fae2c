package main

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
			if diff := cmp.Diff(tt.want, newRoster(&setFlags{set: "db"}, tt.registry, tt.scale).members); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whom Kubernetes names is asked, whatever --members says.
func TestOrdinals(t *testing.T) {
	r := roster{members: map[int]bool{11: true, 3: false}}
	for _, tt := range []struct {
		self int
		want []int
	}{{0, []int{1, 3, 11}}, {noMember, []int{0, 1, 3, 11}}, {5, []int{0, 1, 2, 3, 4, 11}}} {
		if diff := cmp.Diff(tt.want, (&setFlags{members: 2}).ordinals(r, tt.self)); diff != "" {
			t.Errorf("of %d: %s", tt.self, diff)
		}
	}
}

func TestAbsoluteNames(t *testing.T) {
	const pod = "nameserver 10.96.0.10\nsearch database.svc.cluster.local svc.cluster.local cluster.local example.com\noptions ndots:5\n"
	for _, tt := range []struct{ name, conf, host, want string }{
		{"as members are named", pod, "db-1.db", "db-1.db.database.svc.cluster.local."},
		{"with the namespace", pod, "db-1.db.database", "db-1.db.database.svc.cluster.local."},
		{"with svc", pod, "db-1.db.database.svc", "db-1.db.database.svc.cluster.local."},
		{"whole", pod, "db-1.db.database.svc.cluster.local", "db-1.db.database.svc.cluster.local."},
		{"absolute already", pod, "db-1.db.database.svc.cluster.local.", "db-1.db.database.svc.cluster.local."},
		{"of another service", pod, "db-1.other", "db-1.other"},
		{"of another namespace", pod, "db-1.db.other", "db-1.db.other"},
		{"elsewhere", pod, "db-1.example.com", "db-1.example.com"},
		{"an address", pod, "127.0.0.1", "127.0.0.1"},
		{"another domain", "search database.svc.k8s.example.\n", "db-1.db", "db-1.db.database.svc.k8s.example."},
		{"the last list counts", pod + "search example.com\n", "db-1.db", "db-1.db"},
		{"another namespace's pod", "search other.svc.cluster.local\n", "db-1.db", "db-1.db"},
		{"no cluster", "search example.com\n", "db-1.db", "db-1.db"},
		{"nothing", "", "db-1.db", "db-1.db"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := setFlags{service: "db", namespace: "database"}
			s.domain = clusterDomain(tt.conf, s.namespace)
			if got := s.absolute(tt.host); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if dial := s.dial(); (dial == nil) != (s.domain == "") || dial != nil && dial(tt.host+":3307") != tt.want+":3307" {
				t.Error("it dials something else")
			}
		})
	}
}
