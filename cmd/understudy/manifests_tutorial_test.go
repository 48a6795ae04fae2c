package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/k8s"
)

// What ties a pod of the tutorial to its volume and its peers stays as it is there:
// https://kubernetes.io/docs/tasks/run-application/run-replicated-stateful-application/
func TestManifestsFromTutorial(t *testing.T) {
	all := kustomize(t, "from-tutorial")
	p := podOf(t, all)
	label := map[string]string{"app": "mysql"}
	if p.set.Name != "mysql" || p.set.Spec.ServiceName != "mysql" || p.set.Namespace != "default" {
		t.Errorf("the set is %s/%s with service %s", p.set.Namespace, p.set.Name, p.set.Spec.ServiceName)
	}
	for key, value := range p.set.Spec.Selector.MatchLabels {
		if label[key] != value {
			t.Errorf("the tutorial's pods have no label %s=%s", key, value)
		}
	}
	if c := p.set.Spec.VolumeClaimTemplates; len(c) != 1 || c[0].Name != "data" {
		t.Errorf("claims: %v", c)
	}
	if m, _ := p.mount(t, p.server, "/var/lib/mysql"); m.Name != "data" || m.SubPath != "mysql" {
		t.Errorf("the data are in %s of %s", m.SubPath, m.Name)
	}
	for _, id := range []member.Identity{p.initVerb.member.id, p.sidecarVerb.member.id} {
		if id.ServerID() != 101 || id.HostOf(0) != "mysql-0.mysql" || id.First != 0 {
			t.Errorf("mysql-1 is %d and follows %s", id.ServerID(), id.HostOf(0))
		}
	}
	if p.sidecarVerb.sourcePort != serverPort || p.initVerb.clonePort != wire.Port {
		t.Error("the tutorial's ports are others")
	}
	if u := p.set.Spec.UpdateStrategy.RollingUpdate; u == nil || u.Partition == nil || *u.Partition != *p.set.Spec.Replicas {
		t.Error("the set would restart as soon as it is applied")
	}
	restricted(t, p)
	tutorialServices(t, all, label)
	tutorialRights(t, all)
	tutorialReadme(t, p)
}

func tutorialServices(t *testing.T, all rendered, label map[string]string) {
	t.Helper()
	headless := find[*corev1.Service](t, all, "mysql").Spec
	if headless.ClusterIP != corev1.ClusterIPNone || headless.Selector["app"] != label["app"] || len(headless.Selector) != 1 {
		t.Errorf("headless service: %v", headless)
	}
	primary := find[*corev1.Service](t, all, "mysql-primary").Spec.Selector
	if primary[appsv1.StatefulSetPodNameLabel] != "mysql-0" || primary["app"] != label["app"] {
		t.Errorf("mysql-primary selects %v", primary)
	}
}

func tutorialRights(t *testing.T, all rendered) {
	t.Helper()
	lease := find[*coordinationv1.Lease](t, all, "mysql")
	if lease.Annotations[k8s.AnnotationInitialized] == "" {
		t.Error("the Lease does not say that the set has data")
	}
	role := find[*rbacv1.Role](t, all, "")
	var members []string
	for i := range 10 {
		members = append(members, fmt.Sprintf("mysql-%d", i))
	}
	for _, rule := range role.Rules {
		want := map[string][]string{"pods": members, "pods/eviction": members, "leases": {lease.Name}, "statefulsets": {lease.Name}, "events": nil}[rule.Resources[0]]
		if !slices.Equal(rule.ResourceNames, want) {
			t.Errorf("%s: %q", rule.Resources[0], rule.ResourceNames)
		}
	}
}

// The steps make the accounts that the manifests name.
func tutorialReadme(t *testing.T, p *pod) {
	t.Helper()
	text := string(read(t, filepath.Join(manifests, "from-tutorial/README.md")))
	for _, want := range []string{
		"CREATE USER " + p.sidecarVerb.admin.user + "@127.0.0.1 ", "CREATE USER " + p.sidecarVerb.replicationUser + "@'%' ",
		"kubectl delete statefulset " + p.set.Name + " --cascade=orphan\n", "create secret generic db-secrets ",
		fmt.Sprintf("for n in %d 1 0; do", *p.set.Spec.Replicas-1),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("README.md does not say %q", want)
		}
	}
	if key, _ := p.key(t, p.sidecar, p.sidecarVerb.admin.passwordFile); !strings.Contains(text, "$(password "+key+")") {
		t.Errorf("README.md makes the account with another password than %s", key)
	}
}
