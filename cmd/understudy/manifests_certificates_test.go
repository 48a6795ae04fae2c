package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"understudy/cmd/understudy/internal/member"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"understudy/clone/trust"
	"understudy/replicate/hostcheck"
)

// certificateKind is cert-manager's, as much of it as the manifests use.
type certificateKind struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   meta   `json:"metadata"`
	Spec       struct {
		SecretName string   `json:"secretName"`
		DNSNames   []string `json:"dnsNames"`
		Usages     []string `json:"usages"`
		PrivateKey struct {
			Algorithm      string `json:"algorithm"`
			Size           int    `json:"size"`
			RotationPolicy string `json:"rotationPolicy"`
		} `json:"privateKey"`
		IssuerRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"issuerRef"`
	} `json:"spec"`
}

// withComponent are the ways to render an overlay with a component: as we and as kustomize do it.
func withComponent(overlay, component string) map[string]func(t *testing.T) rendered {
	return map[string]func(t *testing.T) rendered{
		"by hand": func(t *testing.T) rendered {
			t.Helper()
			all := render(t, overlay)
			dir := filepath.Join(manifests, component)
			for i, object := range all {
				set, ok := object.(*appsv1.StatefulSet)
				if !ok {
					continue
				}
				set.APIVersion, set.Kind = "apps/v1", "StatefulSet" // decoding loses them
				document, err := yaml.Marshal(set)
				if err != nil {
					t.Fatal(err)
				}
				all[i] = decode(t, patched(t, dir, readKustomization(t, dir), document))
			}
			return all
		},
		"kustomize": func(t *testing.T) rendered {
			t.Helper()
			dir, root := t.TempDir(), ""
			if full, err := filepath.Abs(manifests); err != nil {
				t.Fatal(err)
			} else if root, err = filepath.Rel(dir, full); err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("resources: [%s/%s]\ncomponents: [%s/%s]\n", root, overlay, root, component)
			if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var all rendered
			for _, document := range kubectlKustomize(t, dir) {
				if !bytes.Contains(document, []byte("kind: Certificate\n")) {
					all = append(all, decode(t, document))
				}
			}
			return all
		},
	}
}

// Members with certificates need no secret, and what cert-manager issues is what they
// ask of one another.
func TestManifestCertificates(t *testing.T) {
	var cert certificateKind
	if err := yaml.UnmarshalStrict(read(t, filepath.Join(manifests, "certificates/certificate.yaml")), &cert); err != nil {
		t.Fatal(err)
	}
	for name, of := range withComponent("mariadb", "certificates") {
		t.Run(name, func(t *testing.T) {
			p := podOf(t, of(t))
			for _, c := range []struct {
				*corev1.Container

				trust trustFlags
			}{{p.init, p.initVerb.trust}, {p.sidecar, p.sidecarVerb.trust}} {
				files := c.trust.certificate
				if want := (trust.CertificateFiles{Cert: "/certificate/tls.crt", Key: "/certificate/tls.key", CA: "/certificate/ca.crt"}); files != want {
					t.Errorf("%s: %v", c.Name, files)
				}
				if m, v := p.mount(t, c.Container, path.Dir(files.Cert)); v.Secret == nil || v.Secret.SecretName != cert.Spec.SecretName || !m.ReadOnly {
					t.Errorf("%s: the certificate is not in %s", c.Name, cert.Spec.SecretName)
				}
			}
			for _, v := range p.Volumes {
				for _, source := range secretsIn(v) {
					if slices.ContainsFunc(source.Items, func(i corev1.KeyToPath) bool { return i.Key == "secret" || i.Key == "secret-previous" }) {
						t.Errorf("the volume %s has the set's secret still", v.Name)
					}
				}
			}
			if got, _ := p.key(t, p.sidecar, p.sidecarVerb.admin.passwordFile); got != "root-password" {
				t.Errorf("the sidecar's root password is the key %q", got)
			}
			if got, optional := p.key(t, p.sidecar, p.sidecarVerb.replicationPasswordFilePrevious); got != "replication-password-previous" || !optional {
				t.Errorf("the previous replication password is the key %q (optional: %v)", got, optional)
			}
			if got, optional := p.key(t, p.sidecar, p.sidecarVerb.admin.passwordFilePrevious); got != "root-password-previous" || !optional {
				t.Errorf("the previous root password is the key %q (optional: %v)", got, optional)
			}
			for file, want := range map[string]string{p.sidecarVerb.own.passwordFile: "sidecar-password", p.sidecarVerb.clone.passwordFile: "clone-password"} {
				if got, optional := p.key(t, p.sidecar, file); got != want || !optional {
					t.Errorf("%s is the key %q (optional: %v)", file, got, optional)
				}
			}
			id := p.sidecarVerb.member.id
			want := []string{p.initVerb.trust.fill(id.Namespace, id.Set)}
			if diff := cmp.Diff(want, cert.Spec.DNSNames); diff != "" {
				t.Errorf("names of the certificate (-want +got):\n%s", diff)
			}
			for _, verb := range []member.Identity{p.initVerb.member.id, id} {
				if err := hostcheck.Check(&x509.Certificate{DNSNames: cert.Spec.DNSNames}, verb.HostOf(7)); err != nil {
					t.Errorf("a server that follows member 7: %v", err)
				}
			}
			if !slices.Contains(cert.Spec.Usages, "server auth") || !slices.Contains(cert.Spec.Usages, "client auth") {
				t.Errorf("usages %q", cert.Spec.Usages)
			}
			restricted(t, p)
		})
	}
}
