package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"understudy/clone/wire"
	"understudy/replicate"
	"understudy/replicate/lead"

	"github.com/prometheus/client_golang/prometheus"
)

// DescribeLead is what the member says to its peers of who leads.
func (m *Member) DescribeLead(s lead.Status) *wire.Lead {
	r := s.Record
	l := &wire.Lead{
		Term: r.Term, Phase: string(r.Phase), Leader: s.Leader(), Holder: r.Holder, Part: s.Part, Mode: string(r.Mode),
		LeaseAgeSeconds: s.Age.Seconds(), Away: s.Away, Degraded: s.Degraded, WaitingCommits: s.Held, PermissionSeconds: s.Permission.Seconds(),
		Forbidden: r.NoFailover, Note: s.Note(m.Name),
	}
	for _, a := range r.Acknowledgers {
		l.Acknowledgers = append(l.Acknowledgers, wire.Acknowledger{Member: a.Member, Trouble: s.Lacking[a.Member]})
	}
	if f := s.Forecast; f != nil {
		l.Failover = &wire.Failover{Possible: f.Possible, To: f.Heir, Reason: f.Reason, Text: f.String()}
	}
	return l
}

// leadGauges are the metrics of who leads. Those that only the leader knows are not exported
// elsewhere.
var leadGauges = []struct {
	name, help string
	leader     bool
	value      func(lead.Status) float64
}{
	{
		"understudy_lease_term", "The term that the Lease says; 0: none.", false,
		func(s lead.Status) float64 { return float64(s.Record.Term) },
	},
	{
		"understudy_lease_leader", "Whether the member is the leader.", false,
		func(s lead.Status) float64 { return flag(s.Leads()) },
	},
	{
		"understudy_lease_age_seconds", "Time since the member has seen a renewal of the Lease.", false,
		func(s lead.Status) float64 { return s.Age.Seconds() },
	},
	{
		"understudy_lease_permission_seconds", "How much longer the leader may take writes; 0: it does not lead.", false,
		func(s lead.Status) float64 { return s.Permission.Seconds() },
	},
	{
		"understudy_lease_acknowledgers_named", "Replicas that the Lease names: their acknowledgement ends a commit's wait.", true,
		func(s lead.Status) float64 { return float64(len(s.Record.Acknowledgers)) },
	},
	{
		"understudy_lease_acknowledgers_valid", "Those of them that acknowledge now.", true,
		func(s lead.Status) float64 { return float64(len(s.Record.Acknowledgers) - len(s.Lacking)) },
	},
	{
		"understudy_lease_commits_waiting", "Commits that wait for a replica now.", true,
		func(s lead.Status) float64 { return float64(s.Held) },
	},
	{
		"understudy_lease_degraded", "Whether commits wait for no replica though --semi-sync=preferred would have them wait.", true,
		func(s lead.Status) float64 { return flag(s.Degraded) },
	},
	{
		"understudy_failover_possible", "Whether an election would find a leader now, without this one; status says why not. Not exported in a set of one.", true,
		func(s lead.Status) float64 { return flag(s.Forecast != nil && s.Forecast.Possible) },
	},
	{
		"understudy_switchover_seconds", "How long the last planned change took in which this member gave the Lease away, from the block of writes; 0: none.", false,
		func(s lead.Status) float64 { return s.Switched.Seconds() },
	},
}

var electionsTotal = describeMetric("understudy_elections_total", "Elections that this member has held, by result.", "result")

// leadCollector exports what a controller knows.
type leadCollector struct{ status func() lead.Status }

// WatchLead adds the metrics of who leads, and has a member that has no leader count as ready where
// pods are made in order.
func (h *Health) WatchLead(status func() lead.Status, k *Kube) {
	h.mu.Lock()
	h.also = func(s replicate.Status) string { return k.readyInOrder(s, status()) }
	h.mu.Unlock()
	h.registry.MustRegister(leadCollector{status})
}

// Describe implements prometheus.Collector.
func (leadCollector) Describe(to chan<- *prometheus.Desc) {
	to <- electionsTotal
	for _, g := range leadGauges {
		to <- describeMetric(g.name, g.help)
	}
}

// Collect implements prometheus.Collector.
func (c leadCollector) Collect(to chan<- prometheus.Metric) {
	s := c.status()
	for result, n := range map[string]uint64{"elected": s.Elected, "failed": s.Failed} {
		to <- prometheus.MustNewConstMetric(electionsTotal, prometheus.CounterValue, float64(n), result)
	}
	for _, g := range leadGauges {
		if g.leader && (!s.Leads() || g.name == "understudy_failover_possible" && len(s.Record.Members) < 2) {
			continue
		}
		to <- prometheus.MustNewConstMetric(describeMetric(g.name, g.help), prometheus.GaugeValue, g.value(s))
	}
}

// labelsEvery is the time between two looks of a leader at the other pods' labels.
const labelsEvery = 10 * time.Second

// KeepLabels takes the label of the primary off all pods but the leader's, while this member leads:
// their own sidecars may not be able to, and one that wakes late may set it again.
func (m *Member) KeepLabels(ctx context.Context, status func() lead.Status) {
	if m.Kube.client == nil {
		return
	}
	tick := time.NewTicker(labelsEvery)
	defer tick.Stop()
	for {
		for _, name := range status().Record.Members {
			if name == m.Name || status().Permission <= 0 { // another may lead by now
				continue
			}
			m.unseat(ctx, name)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// unseat takes the label of the primary off another member's pod.
func (m *Member) unseat(ctx context.Context, name string) {
	switch unseated, err := m.Kube.client.Unseat(ctx, name); {
	case err != nil && ctx.Err() == nil:
		m.Log.Warn("the pod of another member may bear the label of the primary", "member", name, "error", err)
	case unseated:
		m.Log.Info("the label of the primary was taken off the pod of another member", "member", name)
	}
}

// pathPermit is below wire.PathLead.
const pathPermit = "permit"

// errNoLeads is returned where no member can be asked who leads.
var errNoLeads = errors.New("no member that answers knows of a term: --primary=lease does not rule here, or its sidecars are down")

// Permit has the Lease say whether failover is allowed; forbid is empty, or says who forbids it and
// why. The leader writes it, or where there is none, any member that answers. It returns who did.
func (m *Member) Permit(ctx context.Context, all []Answer, forbid string, timeout time.Duration) (string, error) {
	var names []string
	for _, a := range all {
		switch {
		case a.Err != nil || a.Said.Lead == nil || a.Said.Lead.Term == 0:
		case a.Said.Lead.Leader == a.Name:
			names = slices.Insert(names, 0, a.Name)
		default:
			names = append(names, a.Name)
		}
	}
	err := errNoLeads
	for _, name := range names {
		l := &leads{member: m, stall: 2 * timeout, clients: map[string]*wire.Client{}}
		a, asked := exchange[lead.Answer](ctx, l, name, pathPermit, lead.Permit{To: name, Forbid: forbid})
		if asked == nil {
			return a.Member, nil
		}
		if errors.Is(err, errNoLeads) {
			err = fmt.Errorf("ask %s: %w", name, asked) // the leader's, if there is one
		}
	}
	return "", err
}
