package main

import (
	"path"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// renderings are the overlay as we and as kustomize render it.
var renderings = map[string]func(t *testing.T, overlay string) rendered{"by hand": render, "kustomize": kustomize}

// pod is the StatefulSet's, with what the kubelet would make of it for the second member.
type pod struct {
	corev1.PodSpec

	set                   *appsv1.StatefulSet
	init, sidecar, server *corev1.Container
	initVerb              *initVerb
	sidecarVerb           *sidecarVerb
}

func podOf(t *testing.T, all rendered) *pod {
	t.Helper()
	set := find[*appsv1.StatefulSet](t, all, "")
	p := &pod{PodSpec: set.Spec.Template.Spec, set: set, initVerb: &initVerb{}, sidecarVerb: &sidecarVerb{}}
	if len(p.InitContainers) != 2 || len(p.Containers) != 1 || p.InitContainers[0].Name != "init" || p.InitContainers[1].Name != "sidecar" {
		t.Fatal("the pod is not init, sidecar and server, in this order")
	}
	p.init, p.sidecar, p.server = &p.InitContainers[0], &p.InitContainers[1], &p.Containers[0]
	p.parse(t, p.init, p.initVerb)
	p.parse(t, p.sidecar, p.sidecarVerb)
	return p
}

// parse runs the container's arguments and environment through the verb's own flags.
func (p *pod) parse(t *testing.T, c *corev1.Container, v verb) {
	t.Helper()
	fields := map[string]string{"metadata.name": p.set.Name + "-1", "metadata.namespace": "database", "metadata.uid": "6f0c"}
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
		if e.ValueFrom != nil {
			env[e.Name] = fields[e.ValueFrom.FieldRef.FieldPath]
		}
	}
	if c.Args[0] != c.Name || len(c.Command) > 0 {
		t.Fatalf("%s runs %q %q", c.Name, c.Command, c.Args)
	}
	flags := newFlagSet(c.Name, t.Output())
	v.define(flags)
	if _, err := flags.parse(c.Args[1:], func(name string) (string, bool) { value, ok := env[name]; return value, ok }); err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	for name := range env {
		if flag, ok := strings.CutPrefix(name, envName("")); ok && flags.Lookup(strings.ToLower(strings.ReplaceAll(flag, "_", "-"))) == nil {
			t.Errorf("%s: %s stands for no flag", c.Name, name)
		}
	}
	if env["POD_UID"] != fields["metadata.uid"] {
		t.Errorf("%s does not know its pod's UID", c.Name)
	}
	if err := v.validate(flags.Args()); err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
}

// mount returns the volume that is mounted at path in c.
func (p *pod) mount(t *testing.T, c *corev1.Container, path string) (corev1.VolumeMount, corev1.Volume) {
	t.Helper()
	for _, m := range c.VolumeMounts {
		if m.MountPath != path {
			continue
		}
		for _, v := range p.Volumes {
			if v.Name == m.Name {
				return m, v
			}
		}
		return m, corev1.Volume{Name: m.Name} // of a claim
	}
	t.Fatalf("%s mounts nothing at %s", c.Name, path)
	return corev1.VolumeMount{}, corev1.Volume{}
}

// key is the key of the set's Secret behind a file in c, and whether it may be missing.
func (p *pod) key(t *testing.T, c *corev1.Container, file string) (key string, optional bool) {
	t.Helper()
	_, v := p.mount(t, c, path.Dir(file))
	for _, source := range secretsIn(v) {
		if source.Name != "db-secrets" {
			continue
		}
		for _, item := range source.Items {
			if item.Path == path.Base(file) {
				return item.Key, source.Optional != nil && *source.Optional
			}
		}
	}
	t.Fatalf("%s: the Secret's volume has no %s", c.Name, file)
	return "", false
}

// secretsIn are the Secrets that a volume shows, all of it or in parts.
func secretsIn(v corev1.Volume) []corev1.SecretProjection {
	var all []corev1.SecretProjection
	if s := v.Secret; s != nil {
		all = append(all, corev1.SecretProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: s.SecretName}, Items: s.Items, Optional: s.Optional,
		})
	}
	if v.Projected != nil {
		for _, source := range v.Projected.Sources {
			if source.Secret != nil {
				all = append(all, *source.Secret)
			}
		}
	}
	return all
}

// configured checks that the server reads what init writes, and that it and the sidecar see its
// certificate at the path that it is given.
func (p *pod) configured(t *testing.T, include string) {
	t.Helper()
	conf, _ := p.mount(t, p.init, p.initVerb.configDir)
	for _, path := range []string{include, p.initVerb.configDir} {
		if m, _ := p.mount(t, p.server, path); m.Name != conf.Name || !m.ReadOnly {
			t.Errorf("the server does not read what init writes at %s", path)
		}
	}
	if m, _ := p.mount(t, p.sidecar, p.initVerb.configDir); m.Name != conf.Name || m.ReadOnly || p.sidecarVerb.configDir != p.initVerb.configDir {
		t.Error("the sidecar cannot keep the server's certificate")
	}
}
