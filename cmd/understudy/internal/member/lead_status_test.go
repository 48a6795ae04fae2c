package member

import (
	"testing"

	"understudy/replicate/failover"
	"understudy/replicate/lead"

	"github.com/prometheus/client_golang/prometheus"
)

// What only the leader knows is exported by the leader only, so that an alert sees one value.
func TestLeadMetrics(t *testing.T) {
	names := []string{"db-0", "db-1"}
	acknowledgers := []failover.Acknowledger{{Member: "db-1", Receipt: "r"}}
	for _, tt := range []struct {
		name string
		s    lead.Status
		want map[string]float64 // -1: it is not exported
	}{
		{
			"the leader",
			lead.Status{
				Part: "leader", Record: failover.Record{Term: 3, Members: names, Acknowledgers: acknowledgers}, Lacking: map[string]string{"db-1": "it was restarted"},
				Forecast: &failover.Forecast{Possible: true, Heir: "db-1"}, Counts: lead.Counts{Elected: 2},
			},
			map[string]float64{
				"understudy_lease_term": 3, "understudy_lease_leader": 1, "understudy_failover_possible": 1, "understudy_lease_degraded": 0,
				"understudy_lease_acknowledgers_named": 1, "understudy_lease_acknowledgers_valid": 0, "understudy_elections_total": 2,
			},
		},
		{
			"a follower",
			lead.Status{Part: "follower", Record: failover.Record{Term: 3, Members: names}},
			map[string]float64{"understudy_lease_term": 3, "understudy_lease_leader": 0, "understudy_failover_possible": -1, "understudy_lease_degraded": -1, "understudy_lease_acknowledgers_named": -1},
		},
		{
			"a set of one",
			lead.Status{Part: "leader", Record: failover.Record{Term: 1, Members: names[:1]}, Forecast: &failover.Forecast{}},
			map[string]float64{"understudy_lease_leader": 1, "understudy_failover_possible": -1},
		},
	} {
		registry := prometheus.NewRegistry()
		NewHealth(registry, "v1").WatchLead(func() lead.Status { return tt.s }, nil)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
		for name, want := range tt.want {
			value, exported := got[name]
			if exported != (want >= 0) || exported && value != want {
				t.Errorf("%s: %s is %v (exported %v), want %v", tt.name, name, value, exported, want)
			}
		}
	}
}
