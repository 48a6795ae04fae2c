package main

import (
	"path/filepath"
	"regexp"
	"testing"

	"understudy/cmd/understudy/internal/member"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"understudy/clone/wire"
	"understudy/replicate"
	"understudy/replicate/failover"
	"understudy/replicate/lead"
)

// The kinds of the Prometheus operator, as much of them as the manifests use.
type (
	meta struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	}
	podMonitor struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   meta   `json:"metadata"`
		Spec       struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			Endpoints []struct {
				Port     string `json:"port"`
				Path     string `json:"path"`
				Interval string `json:"interval"`
			} `json:"podMetricsEndpoints"`
		} `json:"spec"`
	}
	prometheusRule struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   meta   `json:"metadata"`
		Spec       struct {
			Groups []struct {
				Name  string `json:"name"`
				Rules []struct {
					Alert       string            `json:"alert"`
					Expr        string            `json:"expr"`
					For         string            `json:"for"`
					Labels      map[string]string `json:"labels"`
					Annotations map[string]string `json:"annotations"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
)

// leadsTwo is what the leader of two members knows.
func leadsTwo() lead.Status {
	return lead.Status{Part: "leader", Record: failover.Record{Members: []string{"db-0", "db-1"}}}
}

func TestManifestMonitoring(t *testing.T) {
	p := podOf(t, render(t, "mariadb"))
	var monitor podMonitor
	if err := yaml.UnmarshalStrict(read(t, filepath.Join(manifests, "monitoring/podmonitor.yaml")), &monitor); err != nil {
		t.Fatal(err)
	}
	if e := monitor.Spec.Endpoints; len(e) != 1 || e[0].Port != "health" || e[0].Path != "/metrics" ||
		monitor.Spec.Selector.MatchLabels["app"] != p.set.Spec.Template.Labels["app"] {
		t.Errorf("monitor: %v", monitor.Spec)
	}

	registry := prometheus.NewRegistry()
	health := member.NewHealth(registry, "v1")
	health.Watch(func() replicate.Status { return replicate.Status{} }, func() string { return "" }, wire.NewServer(nil, wire.ServerConfig{Slots: 1}))
	health.WatchLead(leadsTwo, nil)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for _, f := range families {
		exported[f.GetName()] = true
	}
	var rule prometheusRule
	if err := yaml.UnmarshalStrict(read(t, filepath.Join(manifests, "monitoring/alerts.yaml")), &rule); err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`understudy_\w+`)
	for _, r := range rule.Spec.Groups[0].Rules {
		for _, name := range metric.FindAllString(r.Expr, -1) {
			if !exported[name] {
				t.Errorf("%s asks for %s, which nobody exports", r.Alert, name)
			}
		}
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s says too little", r.Alert)
		}
	}
}
