package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"understudy/k8s"
	"understudy/replicate"
)

// With the component, init and sidecar go by the Lease, the sidecar has the fence and heals by
// itself, and the Service for writes follows the label, which any member may change on any pod.
func TestManifestLease(t *testing.T) {
	for _, overlay := range []string{"mysql-clone", "mariadb"} {
		for name, of := range withComponent(overlay, "lease") {
			if name == "by hand" {
				continue // components of components, and patches of Services, are kustomize's
			}
			for _, prefix := range []string{"", "namePrefix: my-\n"} {
				t.Run(overlay+" "+name+" "+prefix, func(t *testing.T) {
					all := of(t)
					if prefix != "" {
						all = layeredOn(t, overlay, prefix+"components: [COMPONENTS/lease]\n")
					}
					p := podOf(t, all)
					if i := p.initVerb; !i.lead.byLease() || i.sync.mode != replicate.SemiSyncPreferred || i.install == "" {
						t.Errorf("init: %+v, %+v, program at %q", i.lead, i.sync, i.install)
					}
					s := p.sidecarVerb
					if !s.lead.byLease() || s.lead.fence != fenceRun || s.sync.mode != replicate.SemiSyncPreferred || s.reseed.mode != reseedAuto {
						t.Errorf("sidecar: %+v, %+v, %+v", s.lead, s.sync, s.reseed)
					}
					if len(p.server.Command) == 0 || p.server.Command[1] != "run" || p.server.LivenessProbe != nil {
						t.Errorf("the server's container runs %q, probed by %v", p.server.Command, p.server.LivenessProbe)
					}
					if hook := p.server.Lifecycle.PreStop.HTTPGet; hook == nil || hook.Path != k8s.PathPreStop {
						t.Errorf("nobody tells the leader that its pod ends: %v", hook)
					}
					var primary *corev1.Service
					for _, o := range all {
						if service, ok := o.(*corev1.Service); ok && service.Spec.Selector[k8s.LabelRole] == string(k8s.Primary) {
							primary = service
						}
					}
					if primary == nil {
						t.Fatal("no Service follows the leader")
					}
					want := map[string]string{"app": p.set.Spec.Template.Labels["app"], k8s.LabelRole: string(k8s.Primary)}
					if d := cmp.Diff(want, primary.Spec.Selector); d != "" || !primary.Spec.PublishNotReadyAddresses {
						t.Errorf("%s selects (-want +got):\n%s", primary.Name, d)
					}
					followsRights(t, find[*rbacv1.Role](t, all, "").Rules, s.member.id)
					restricted(t, p)
				})
			}
		}
	}
}
