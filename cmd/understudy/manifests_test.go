package main

import (
	"encoding/base64"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"understudy/cmd/understudy/internal/member"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"understudy/clone/trust"
	"understudy/clone/wire"
	"understudy/k8s"
)

// tokenDir is where client-go looks for a token.
const tokenDir = "/var/run/secrets/kubernetes.io/serviceaccount" //nolint:gosec // the place, not the token

func TestManifestMounts(t *testing.T) {
	for name, of := range renderings {
		t.Run(name, func(t *testing.T) {
			all := of(t, "mariadb")
			p := podOf(t, all)
			const datadir = "/var/lib/mysql"
			for _, c := range []struct {
				*corev1.Container

				volume string
			}{{p.init, p.initVerb.volume}, {p.sidecar, p.sidecarVerb.volume}} {
				if m, _ := p.mount(t, c.Container, c.volume); m.Name != p.set.Spec.VolumeClaimTemplates[0].Name || m.SubPath != "" || m.ReadOnly {
					t.Errorf("%s does not have the whole volume at %s", c.Name, c.volume)
				}
			}
			for _, c := range []*corev1.Container{p.sidecar, p.server} {
				if m, _ := p.mount(t, c, datadir); m.Name != p.set.Spec.VolumeClaimTemplates[0].Name || m.SubPath != "mysql" {
					t.Errorf("%s does not have the data directory at %s", c.Name, datadir)
				}
			}
			p.configured(t, "/etc/mysql/conf.d")
			_, from := p.mount(t, p.init, p.initVerb.configFrom)
			cm := find[*corev1.ConfigMap](t, all, from.ConfigMap.Name)
			for _, name := range []string{"common.cnf", "primary.cnf", "replica.cnf"} {
				if !strings.Contains(cm.Data[name], "[mysqld]") {
					t.Errorf("the ConfigMap's %s is %q", name, cm.Data[name])
				}
			}
			for _, c := range []*corev1.Container{p.init, p.sidecar, p.server} {
				p.mount(t, c, "/tmp")
			}
			p.mount(t, p.server, "/run/mysqld")
		})
	}
}

// Our scripts are the first and the last ones among a user's; the image's shell reads them, and
// does not run them, since only that knows where the data are.
func TestManifestImage(t *testing.T) {
	for name, of := range renderings {
		t.Run(name, func(t *testing.T) {
			all := of(t, "mariadb")
			_, v := podOf(t, all).mount(t, podOf(t, all).server, "/docker-entrypoint-initdb.d")
			if v.Projected == nil || len(v.Projected.Sources) != 2 {
				t.Fatalf("%+v", v)
			}
			ours, theirs := v.Projected.Sources[0].ConfigMap, v.Projected.Sources[1].ConfigMap
			if theirs == nil || theirs.Name != "db-initdb" || theirs.Optional == nil || !*theirs.Optional || len(theirs.Items) > 0 {
				t.Errorf("the user's: %+v", theirs)
			}
			if mode := v.Projected.DefaultMode; mode != nil && *mode&0o111 != 0 {
				t.Errorf("mode %o", *mode)
			}
			cm := find[*corev1.ConfigMap](t, all, ours.Name)
			if len(ours.Items) != 2 || len(cm.Data) != 2 {
				t.Fatalf("%+v", ours)
			}
			for i, mark := range []string{".understudy-begun", ".understudy-ended"} {
				if !strings.Contains(cm.Data[ours.Items[i].Key], "/"+mark+`"`) {
					t.Errorf("%s leaves no mark %s", ours.Items[i].Path, mark)
				}
			}
			first, last := ours.Items[0].Path, ours.Items[1].Path
			for _, key := range []string{"00-a.sql", "000.sh", "A.sh", "_.sh", "init.sql", "zz.sql", "zzz-last.sql"} {
				if key < first || key > last {
					t.Errorf("%s does not come between %s and %s", key, first, last)
				}
			}
		})
	}
}

func TestManifestSecrets(t *testing.T) {
	for name, of := range renderings {
		t.Run(name, func(t *testing.T) {
			all := of(t, "mariadb")
			p := podOf(t, all)
			root := ""
			for _, e := range p.server.Env {
				if e.Name == "MARIADB_ROOT_PASSWORD_FILE" {
					root = e.Value
				}
			}
			for _, tt := range []struct {
				c        *corev1.Container
				file     string
				want     string
				optional bool
			}{
				{p.init, p.initVerb.trust.secretFile, "secret", false},
				{p.init, p.initVerb.trust.secretFilePrevious, "secret-previous", true},
				{p.sidecar, p.sidecarVerb.trust.secretFile, "secret", false},
				{p.sidecar, p.sidecarVerb.trust.secretFilePrevious, "secret-previous", true},
				{p.sidecar, p.sidecarVerb.admin.passwordFile, "root-password", false},
				{p.sidecar, p.sidecarVerb.replicationPasswordFile, "replication-password", false},
				{p.sidecar, p.sidecarVerb.admin.passwordFilePrevious, "root-password-previous", true},
				{p.sidecar, p.sidecarVerb.replicationPasswordFilePrevious, "replication-password-previous", true},
				{p.sidecar, p.sidecarVerb.own.passwordFile, "sidecar-password", true},
				{p.sidecar, p.sidecarVerb.own.passwordFilePrevious, "sidecar-password-previous", true},
				{p.sidecar, p.sidecarVerb.clone.passwordFile, "clone-password", true},
				{p.sidecar, p.sidecarVerb.clone.passwordFilePrevious, "clone-password-previous", true},
				{p.server, root, "root-password", false},
			} {
				if got, optional := p.key(t, tt.c, tt.file); got != tt.want || optional != tt.optional {
					t.Errorf("%s: %s is the key %q (optional: %v), want %q", tt.c.Name, tt.file, got, optional, tt.want)
				}
			}
			for _, v := range p.Volumes {
				if v.Name == "secret-server" && (len(secretsIn(v)) != 1 || len(secretsIn(v)[0].Items) != 1) {
					t.Error("the server sees more than its root password")
				}
			}
			for _, o := range all {
				if _, ok := o.(*corev1.Secret); ok {
					t.Error("a Secret in git")
				}
			}
			if p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken {
				t.Error("every container gets a token")
			}
			for _, c := range []*corev1.Container{p.init, p.sidecar} {
				if _, v := p.mount(t, c, tokenDir); v.Projected == nil {
					t.Errorf("%s has no token", c.Name)
				}
			}
			if slices.ContainsFunc(p.server.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenDir }) {
				t.Error("the server has a token")
			}
		})
	}
	// The command that makes the Secret is in a comment.
	text := string(read(t, filepath.Join(manifests, "base/statefulset.yaml")))
	for _, want := range []string{"for key in secret root-password replication-password sidecar-password clone-password; do", "create secret generic db-secrets"} {
		if !strings.Contains(text, want) {
			t.Errorf("the comment does not say %q", want)
		}
	}
	random := regexp.MustCompile(`head -c (\d+) /dev/urandom \| base64`).FindStringSubmatch(text)
	if random == nil {
		t.Fatal("the comment does not say how to make a secret")
	}
	n, _ := strconv.Atoi(random[1])
	// MySQL takes no longer password for a replica's account:
	// https://dev.mysql.com/doc/refman/8.4/en/change-replication-source-to.html
	if size := base64.StdEncoding.EncodedLen(n); size < trust.MinSecret || size > 32 {
		t.Errorf("secret and passwords would have %d bytes", size)
	}
}

func TestManifestPorts(t *testing.T) {
	for name, of := range renderings {
		t.Run(name, func(t *testing.T) {
			all := of(t, "mariadb")
			p := podOf(t, all)
			want := map[string]int32{"mysql": serverPort, "clone": wire.Port, "health": healthPort}
			got := map[string]int32{}
			for _, c := range []*corev1.Container{p.sidecar, p.server} {
				for _, port := range c.Ports {
					got[port.Name] = port.ContainerPort
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ports of the pod (-want +got):\n%s", diff)
			}
			for _, flag := range []struct {
				addr string
				want int
			}{{p.sidecarVerb.cloneListen, wire.Port}, {p.sidecarVerb.healthListen, healthPort}, {p.sidecarVerb.server, serverPort}} {
				if _, port, _ := net.SplitHostPort(flag.addr); port != strconv.Itoa(flag.want) {
					t.Errorf("the sidecar's flags say %s, the ports %d", flag.addr, flag.want)
				}
			}
			if p.initVerb.clonePort != wire.Port || p.sidecarVerb.sourcePort != serverPort {
				t.Error("init or sidecar look for their peers on other ports")
			}
			services := 0
			for _, o := range all {
				service, ok := o.(*corev1.Service)
				if !ok {
					continue
				}
				services++
				for _, port := range service.Spec.Ports {
					if port.Port != want[port.Name] || port.TargetPort.String() != port.Name {
						t.Errorf("service %s: port %s is %d to %s", service.Name, port.Name, port.Port, port.TargetPort.String())
					}
				}
			}
			if services != 3 {
				t.Errorf("%d services", services)
			}
		})
	}
}

func TestManifestProbes(t *testing.T) {
	for name, of := range renderings {
		t.Run(name, func(t *testing.T) {
			all := of(t, "mariadb")
			p := podOf(t, all)
			mux := member.NewHealth(prometheus.NewRegistry(), "v1").Server(slog.New(slog.DiscardHandler)).Handler
			for name, tt := range map[string]struct {
				probe *corev1.Probe
				path  string
			}{
				"startup": {p.sidecar.StartupProbe, "/livez"}, "liveness": {p.sidecar.LivenessProbe, "/livez"},
				"readiness": {p.sidecar.ReadinessProbe, "/readyz"},
			} {
				get := tt.probe.HTTPGet
				if get == nil || get.Path != tt.path || get.Port.String() != "health" {
					t.Errorf("%s probe of the sidecar: %v", name, get)
					continue
				}
				w := httptest.NewRecorder()
				mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, get.Path, nil))
				if w.Code == http.StatusNotFound {
					t.Errorf("nothing serves %s", get.Path)
				}
			}
			for name, probe := range map[string]*corev1.Probe{"startup": p.server.StartupProbe, "liveness": p.server.LivenessProbe} {
				if probe.TCPSocket == nil || probe.TCPSocket.Port.String() != "mysql" {
					t.Errorf("%s probe of the server: %v", name, probe)
				}
			}
			if s := p.server.StartupProbe; s.PeriodSeconds*s.FailureThreshold < 7*24*60*60 {
				t.Error("a long crash recovery would be killed")
			}
			hook := p.server.Lifecycle.PreStop.HTTPGet
			if hook == nil || hook.Path != k8s.PathPreStop || hook.Port.IntValue() != healthPort {
				t.Errorf("the server's preStop hook: %v", hook)
			}
			if grace := time.Duration(*p.TerminationGracePeriodSeconds) * time.Second; p.sidecarVerb.drainTime > grace/2 {
				t.Errorf("a drain of %v leaves the server too little of %v", p.sidecarVerb.drainTime, grace)
			}
			if r := p.sidecar.RestartPolicy; r == nil || *r != corev1.ContainerRestartPolicyAlways || p.init.RestartPolicy != nil {
				t.Error("the sidecar is none, or init is one")
			}
		})
	}
}

func TestManifestNames(t *testing.T) {
	for name, of := range renderings {
		t.Run(name, func(t *testing.T) {
			all := of(t, "mariadb")
			p := podOf(t, all)
			id := p.sidecarVerb.member.id
			if p.set.Name != id.Set || p.set.Spec.ServiceName != id.Service || id.Service != p.initVerb.member.id.Service {
				t.Errorf("the members take the set for %s, its service for %s", id.Set, id.Service)
			}
			headless := find[*corev1.Service](t, all, id.Service).Spec
			if headless.ClusterIP != corev1.ClusterIPNone || !headless.PublishNotReadyAddresses {
				t.Error("members that are not ready have no names")
			}
			labels := p.set.Spec.Template.Labels
			primary := find[*corev1.Service](t, all, "mysql-primary").Spec
			want := map[string]string{"app": labels["app"], appsv1.StatefulSetPodNameLabel: id.NameOf(id.First)}
			if diff := cmp.Diff(want, primary.Selector); diff != "" || !primary.PublishNotReadyAddresses {
				t.Errorf("mysql-primary selects (-want +got):\n%s", diff)
			}
			replicas := find[*corev1.Service](t, all, "mysql-replicas").Spec
			want = map[string]string{"app": labels["app"], k8s.LabelRole: string(k8s.Replica)}
			if diff := cmp.Diff(want, replicas.Selector); diff != "" || replicas.PublishNotReadyAddresses {
				t.Errorf("mysql-replicas selects (-want +got):\n%s", diff)
			}
			lease := find[*coordinationv1.Lease](t, all, id.Set)
			if _, ok := lease.Annotations[k8s.AnnotationInitialized]; ok {
				t.Error("the Lease says that the set has data")
			}
			text := string(read(t, filepath.Join(manifests, "base/lease.yaml")))
			if !strings.Contains(text, "annotate lease "+lease.Name+" "+k8s.AnnotationInitialized+"-\n") {
				t.Error("the Lease does not say how to consent to an empty start")
			}
			pdb := find[*policyv1.PodDisruptionBudget](t, all, "").Spec
			if pdb.Selector.MatchLabels["app"] != labels["app"] || pdb.MaxUnavailable.IntValue() != 1 ||
				*pdb.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
				t.Errorf("disruption budget: %v", pdb)
			}
		})
	}
}

func TestManifestRights(t *testing.T) {
	for name, of := range renderings {
		t.Run(name, func(t *testing.T) {
			all := of(t, "mariadb")
			p := podOf(t, all)
			var members []string
			for i := range 10 {
				members = append(members, p.sidecarVerb.member.id.NameOf(i))
			}
			want := []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"pods"}, ResourceNames: members, Verbs: []string{"get", "patch"}},
				{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{p.set.Name}, Verbs: []string{"get", "update"}},
				{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, ResourceNames: members, Verbs: []string{"create"}},
				{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create"}},
				{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, ResourceNames: []string{p.set.Name}, Verbs: []string{"get"}},
			}
			role := find[*rbacv1.Role](t, all, "")
			if diff := cmp.Diff(want, role.Rules); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			binding := find[*rbacv1.RoleBinding](t, all, "")
			account := find[*corev1.ServiceAccount](t, all, p.ServiceAccountName)
			if binding.RoleRef.Name != role.Name || len(binding.Subjects) != 1 || binding.Subjects[0].Name != account.Name {
				t.Errorf("binding of %v to %v", binding.RoleRef, binding.Subjects)
			}
			ingress := find[*networkingv1.NetworkPolicy](t, all, "").Spec.Ingress
			for _, rule := range ingress {
				for _, port := range rule.Ports {
					if open := len(rule.From) == 0; open == (port.Port.IntValue() == wire.Port) {
						t.Errorf("port %v is open to all: %v", port.Port, open)
					}
				}
			}
			restricted(t, p)
		})
	}
}

// restricted is what the Pod Security Standard of that name asks for, and a little more.
func restricted(t *testing.T, p *pod) {
	t.Helper()
	restrictedAs(t, p, 999)
}

// restrictedAs is restricted for images whose server has another account.
func restrictedAs(t *testing.T, p *pod, id int64) {
	t.Helper()
	s := p.SecurityContext
	if !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *s.RunAsUser != id || *s.RunAsGroup != id || *s.FSGroup != id {
		t.Errorf("the pod's security context: %v", s)
	}
	for _, c := range []*corev1.Container{p.init, p.sidecar, p.server} {
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.RunAsUser != nil {
			t.Errorf("%s's security context: %v", c.Name, s)
		}
		if memory := c.Resources.Limits.Memory(); memory.IsZero() || !memory.Equal(*c.Resources.Requests.Memory()) {
			t.Errorf("%s: memory that is promised is not memory that is reserved", c.Name)
		}
		if strings.Count(c.Image, ":") != 1 {
			t.Errorf("%s: image %s", c.Name, c.Image)
		}
	}
	namespace := decode(t, read(t, filepath.Join(manifests, "namespace.yaml"))).(*corev1.Namespace)
	if namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" ||
		namespace.Name != readKustomization(t, filepath.Join(manifests, "mariadb")).Namespace {
		t.Errorf("namespace: %v", namespace.ObjectMeta)
	}
}
