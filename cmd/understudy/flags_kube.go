package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"k8s.io/klog/v2"

	"understudy/cmd/understudy/internal/member"
	"understudy/k8s"
)

// kubeFlags say whether and how a verb talks to Kubernetes.
type kubeFlags struct {
	mode, lease, podUID string
}

const (
	kubeAuto = "auto"
	kubeOn   = "on"
	kubeOff  = "off"
)

func (k *kubeFlags) define(f *flagSet) {
	f.StringVar(&k.mode, "kube", kubeAuto, "`mode`: on, off, or auto: on in a pod that has a service account token")
	f.StringVar(&k.lease, "lease", "", "`name` of the set's Lease, which records that the set has data; empty: the set's name")
	f.StringVar(&k.podUID, "pod-uid", "", "`uid` of this pod, for its Events")
	f.alsoFrom("pod-uid", "POD_UID")
}

func (k *kubeFlags) validate() error {
	switch k.mode {
	case kubeAuto, kubeOn, kubeOff:
		return nil
	}
	return fmt.Errorf("--kube=%s: it must be on, off or auto", k.mode)
}

func (k *kubeFlags) config(id member.Identity, log *slog.Logger) k8s.Config {
	return k8s.Config{Namespace: id.Namespace, Pod: id.Name, PodUID: k.podUID, Set: id.Set, Lease: k.lease, Version: version, Log: log}
}

// terms makes the line to the Lease by which a leader is elected.
func (k *kubeFlags) terms(id member.Identity, timeout time.Duration, log *slog.Logger) (*k8s.Terms, error) {
	terms, err := k8s.NewTerms(k.config(id, log), timeout)
	if err != nil {
		return nil, fmt.Errorf("connect to Kubernetes: %w", err)
	}
	return terms, nil
}

// client is nil without Kubernetes.
func (k *kubeFlags) client(id member.Identity, log *slog.Logger) (*k8s.Client, error) {
	if k.mode == kubeOff {
		return nil, nil //nolint:nilnil // none is asked for
	}
	client, err := k8s.New(k.config(id, log))
	if errors.Is(err, k8s.ErrOutside) && k.mode == kubeAuto {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Kubernetes: %w", err)
	}
	klog.SetSlogLogger(log.With("from", "client-go"))
	return client, nil
}

// connect makes the member's connection to Kubernetes. container is the name of the server's
// container, for the sidecar only.
func (k *kubeFlags) connect(id member.Identity, container string, log *slog.Logger) (*member.Kube, error) {
	client, err := k.client(id, log)
	if err != nil {
		return nil, err
	}
	return member.NewKube(id, member.KubeConfig{Client: client, Lease: cmp.Or(k.lease, id.Set), Container: container}, log), nil
}
