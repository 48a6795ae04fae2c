package main

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"understudy/cmd/understudy/internal/member"
)

// otherPort patches the server's port, in the one place that there is.
const otherPort = `patches:
- target: {kind: StatefulSet, name: db}
  patch: |-
    - op: replace
      path: /spec/template/spec/containers/0/ports/0/containerPort
      value: 3316
`

// Whatever users call the set, and whichever port its server has, all places that name them follow.
func TestManifestsFollow(t *testing.T) {
	for _, tt := range []struct {
		name     string
		overlays []string
		set      string
		port     int32
	}{
		{"as it is", []string{""}, "db", serverPort},
		{"prefix", []string{"namePrefix: my-\n"}, "my-db", serverPort},
		{"prefix and suffix, twice", []string{"namePrefix: my-\n", "namePrefix: a-\nnameSuffix: -z-1\n"}, "a-my-db-z-1", serverPort},
		{"port", []string{otherPort}, "db", 3316},
		{"port below a prefix", []string{otherPort, "namePrefix: my-\nnamespace: shop\n"}, "my-db", 3316},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := layered(t, tt.overlays...)
			p := podOf(t, all)
			id := p.sidecarVerb.member.id
			if p.set.Name != tt.set || id.Set != tt.set || p.set.Spec.ServiceName != id.Service {
				t.Errorf("the set is %s with the service %s; members take it for %s, and the service for %s", p.set.Name, p.set.Spec.ServiceName, id.Set, id.Service)
			}
			find[*corev1.Service](t, all, id.Service)
			find[*coordinationv1.Lease](t, all, id.Set)
			followsRights(t, find[*rbacv1.Role](t, all, "").Rules, id)
			followsPort(t, all, p, tt.port)
			for _, o := range all {
				if s, ok := o.(*corev1.Service); ok && s.Spec.Selector[appsv1.StatefulSetPodNameLabel] != "" && s.Spec.Selector[appsv1.StatefulSetPodNameLabel] != id.NameOf(0) {
					t.Errorf("%s selects %v", s.Name, s.Spec.Selector)
				}
			}
		})
	}
}

func followsRights(t *testing.T, rules []rbacv1.PolicyRule, id member.Identity) {
	t.Helper()
	var members []string
	for i := range 10 {
		members = append(members, id.NameOf(i))
	}
	for _, rule := range rules {
		want := map[string][]string{"pods": members, "pods/eviction": members, "events": nil}
		names, known := want[rule.Resources[0]]
		if !known {
			names = []string{id.Set}
		}
		if rule.Resources[0] == "pods/eviction" && !slices.Contains(rule.ResourceNames, id.NameOf(0)) {
			names = members[1:]
		}
		if !slices.Equal(rule.ResourceNames, names) {
			t.Errorf("%s: %q", rule.Resources[0], rule.ResourceNames)
		}
	}
}

func followsPort(t *testing.T, all rendered, p *pod, port int32) {
	t.Helper()
	if p.server.Ports[0].ContainerPort != port || p.sidecarVerb.sourcePort != int(port) || p.sidecarVerb.server != net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))) {
		t.Errorf("the server has the port %d, the sidecar asks %s, and replicas port %d", p.server.Ports[0].ContainerPort, p.sidecarVerb.server, p.sidecarVerb.sourcePort)
	}
	policy := find[*networkingv1.NetworkPolicy](t, all, "")
	if got := fmt.Sprint(policy.Spec.Ingress[0].Ports[0].Port); got != strconv.Itoa(int(port)) {
		t.Errorf("the NetworkPolicy lets port %s through", got)
	}
	for _, o := range all {
		if s, ok := o.(*corev1.Service); ok && (s.Spec.Ports[0].Name != "mysql" || s.Spec.Ports[0].TargetPort.String() != "mysql") {
			t.Errorf("%s leads to %v", s.Name, s.Spec.Ports[0])
		}
	}
}
