package member

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"understudy/clone/wire"
	"understudy/k8s"
	"understudy/replicate"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health answers the kubelet and Prometheus.
type Health struct {
	registry *prometheus.Registry
	clones   *prometheus.CounterVec
	bytes    prometheus.Counter

	mu     sync.Mutex
	status func() replicate.Status
	// note is the problem of the pods, see Kube.Note.
	note func() string
	stop http.HandlerFunc
}

// NewHealth adds the program's own metrics to the registry. version is the program's.
func NewHealth(registry *prometheus.Registry, version string) *Health {
	h := &Health{
		registry: registry,
		clones: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "understudy_clone_given_total", Help: "Clones given to peers, by result.",
		}, []string{"result"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "understudy_clone_given_bytes_total", Help: "Bytes of clones given to peers.",
		}),
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "understudy_build_info", Help: "Always 1; the label names the version.",
	}, []string{"version"})
	info.WithLabelValues(version).Set(1)
	for _, result := range []string{"done", "failed"} {
		h.clones.WithLabelValues(result) // a counter that exists from the start has a rate
	}
	registry.MustRegister(h.clones, h.bytes, info)
	return h
}

// Cloned counts one clone that was given.
func (h *Health) Cloned(o wire.Outcome) {
	result := "done"
	if o.Err != nil {
		result = "failed"
	}
	h.clones.WithLabelValues(result).Inc()
	h.bytes.Add(float64(o.Bytes))
}

// Watch adds the agent's observations. Until it is called, the member is not ready.
func (h *Health) Watch(status func() replicate.Status, note func() string, clones *wire.Server) {
	h.mu.Lock()
	h.status, h.note = status, note
	h.mu.Unlock()
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge := func(name, help string, value func(replicate.Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(status()) })
	}
	h.registry.MustRegister(
		giving{clones},
		prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: "understudy_clone_active", Help: "Clones being given now."},
			func() float64 { return float64(clones.Busy()) },
		),
		gauge("understudy_member_ready", "Whether the member is ready.", func(s replicate.Status) float64 { return flag(s.Ready) }),
		gauge("understudy_member_primary", "Whether the member is the primary.", func(s replicate.Status) float64 { return flag(s.Primary) }),
		gauge("understudy_paused", "Whether the member is paused.", func(s replicate.Status) float64 { return flag(s.Paused != "") }),
		gauge("understudy_member_needs_help", "Whether manual action is required; /readyz and the log say which.",
			func(s replicate.Status) float64 { return flag(s.Trouble.Help) }),
		gauge("understudy_volume_free_bytes", "Bytes of the member's volume that its server can still use; 0 when it is not known.",
			func(s replicate.Status) float64 { return float64(s.Facts.Volume.Free) }),
		gauge("understudy_volume_size_bytes", "Bytes of the member's volume; 0 when it is not known.",
			func(s replicate.Status) float64 { return float64(s.Facts.Volume.Size) }),
		gauge("understudy_replication_without_source_seconds", "For how long nothing has come from the source, not even a heartbeat; 0 while something does.",
			func(s replicate.Status) float64 { return s.Without.Seconds() }),
		gauge("understudy_commits_wait_seconds", "For how long commits have waited for a replica, and none was acknowledged; 0: none waits.",
			func(s replicate.Status) float64 { return s.CommitsWait.Seconds() }),
		gauge("understudy_replication_receiver_running", "Whether the receiver is connected to the source.",
			func(s replicate.Status) float64 { return flag(s.Facts.Channel != nil && s.Facts.Channel.IO == "Yes") }),
		gauge("understudy_replication_applier_running", "Whether the applier runs.",
			func(s replicate.Status) float64 { return flag(s.Facts.Channel != nil && s.Facts.Channel.SQLRunning) }),
		gauge("understudy_semi_sync_active", "Whether commits wait for a replica (primary), or are acknowledged to the primary (replica).",
			func(s replicate.Status) float64 {
				return flag(s.Facts.SemiSync.Active || s.Facts.SemiSync.Acknowledging)
			}),
		gauge("understudy_semi_sync_replicas", "Replicas attached to this member that acknowledge what they receive.",
			func(s replicate.Status) float64 { return float64(s.Facts.SemiSync.Replicas) }),
		gauge("understudy_replication_lag_seconds", "The replication lag that the server reports; -1 when it is not known, and on the primary.",
			func(s replicate.Status) float64 {
				if s.Facts.Channel == nil || s.Facts.Channel.Lag == nil {
					return -1
				}
				return float64(*s.Facts.Channel.Lag)
			}),
	)
}

// ready says whether the member is ready, and why or why not.
func (h *Health) ready() (bool, string) {
	h.mu.Lock()
	status, note := h.status, h.note
	h.mu.Unlock()
	if status == nil {
		return false, "waiting for the volume"
	}
	s := status()
	return s.Ready, withNote(s.Reason, note())
}

func withNote(reason, note string) string {
	if note == "" {
		return reason
	}
	return reason + "; " + note
}

// PreStop sets the handler of the preStop hook. Until then the hook returns at once.
func (h *Health) PreStop(f http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop = f
}

// Server answers /livez, /readyz, /metrics and the preStop hook.
func (h *Health) Server(log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, reason := h.ready()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, reason)
	})
	mux.HandleFunc("GET "+k8s.PathPreStop, func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		stop := h.stop
		h.mu.Unlock()
		if stop != nil {
			stop(w, r)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.registry, promhttp.HandlerOpts{}))
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}
