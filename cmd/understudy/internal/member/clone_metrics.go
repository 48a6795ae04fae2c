package member

import (
	"understudy/clone"
	"understudy/clone/wire"

	"github.com/prometheus/client_golang/prometheus"
)

func describeMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	takingBytes   = describeMetric("understudy_clone_taking_bytes", "Bytes of the clone under way that have arrived.", "donor")
	takingTotal   = describeMetric("understudy_clone_taking_expected_bytes", "Its expected size; 0 when unknown.", "donor")
	takingRate    = describeMetric("understudy_clone_taking_bytes_per_second", "Its mean rate.", "donor")
	takingETA     = describeMetric("understudy_clone_taking_eta_seconds", "The time left of the transfer at that rate; 0 when unknown.", "donor")
	takingResumed = describeMetric("understudy_clone_taking_resumed", "Connections of it that broke and were made again.", "donor")

	givingBytes     = describeMetric("understudy_clone_giving_bytes", "Bytes of a clone that have been made for a joiner.", "joiner")
	givingTotal     = describeMetric("understudy_clone_giving_expected_bytes", "Its expected size; 0 when unknown.", "joiner")
	givingRate      = describeMetric("understudy_clone_giving_bytes_per_second", "Its mean rate.", "joiner")
	givingConnected = describeMetric("understudy_clone_giving_connected", "Whether the joiner is connected.", "joiner")
)

// gaugeOf sends one sample. It cannot fail, because the labels are ours.
func gaugeOf(to chan<- prometheus.Metric, d *prometheus.Desc, value float64, label string) {
	to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, label)
}

// Taking shows the clone that a joiner takes.
type Taking struct{ *clone.Tracker }

// Describe implements prometheus.Collector.
func (Taking) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{takingBytes, takingTotal, takingRate, takingETA, takingResumed} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (t Taking) Collect(to chan<- prometheus.Metric) {
	c := t.Now()
	if c == nil {
		return
	}
	gaugeOf(to, takingBytes, float64(c.Bytes), c.Donor)
	gaugeOf(to, takingTotal, float64(c.Total), c.Donor)
	gaugeOf(to, takingRate, c.BytesPerSecond, c.Donor)
	gaugeOf(to, takingETA, float64(c.ETASeconds), c.Donor)
	gaugeOf(to, takingResumed, float64(c.Resumed), c.Donor)
}

// giving shows the clones that a donor gives.
type giving struct{ *wire.Server }

// Describe implements prometheus.Collector.
func (giving) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{givingBytes, givingTotal, givingRate, givingConnected} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g giving) Collect(to chan<- prometheus.Metric) {
	seen := map[string]bool{}
	for _, c := range g.Giving() {
		if seen[c.Joiner] { // the stream is being replaced
			continue
		}
		seen[c.Joiner] = true
		gaugeOf(to, givingBytes, float64(c.Bytes), c.Joiner)
		gaugeOf(to, givingTotal, float64(c.Total), c.Joiner)
		gaugeOf(to, givingRate, c.BytesPerSecond, c.Joiner)
		connected := 0.0
		if c.Connected {
			connected = 1
		}
		gaugeOf(to, givingConnected, connected, c.Joiner)
	}
}
