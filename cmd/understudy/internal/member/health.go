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

// Health answers the kubelet, load balancers and Prometheus.
type Health struct {
	registry *prometheus.Registry
	clones   *prometheus.CounterVec
	bytes    prometheus.Counter

	mu     sync.Mutex
	status func() replicate.Status
	// note is the problem of the pods, see Kube.Note.
	note func() string
	// also says why a member counts as ready for Kubernetes that is not; empty: it does not.
	also func(replicate.Status) string
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
		also: func(replicate.Status) string { return "" },
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
	h.registry.MustRegister(giving{clones}, prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Name: "understudy_clone_active", Help: "Clones being given now."},
		func() float64 { return float64(clones.Busy()) },
	))
	for _, g := range gauges {
		h.registry.MustRegister(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Name: g.name, Help: g.help}, func() float64 { return g.value(status()) },
		))
	}
}

// look is what the agent saw last, its reason with the note of the pods.
func (h *Health) look() replicate.Status {
	h.mu.Lock()
	status, note := h.status, h.note
	h.mu.Unlock()
	if status == nil {
		return replicate.Status{Reason: "waiting for the volume"}
	}
	s := status()
	s.Reason = withNote(s.Reason, note())
	return s
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

// Server answers /livez, /readyz, /primary, /replica, /metrics and the preStop hook. What answers
// GET answers HEAD.
func (h *Health) Server(log *slog.Logger) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		s := h.look()
		h.mu.Lock()
		also := h.also
		h.mu.Unlock()
		if why := also(s); !s.Ready && why != "" {
			s.Ready, s.Reason = true, s.Reason+"; "+why
		}
		answer(w, s.Ready, s.Reason)
	})
	mux.HandleFunc("GET /primary", h.primary)
	mux.HandleFunc("GET /replica", h.replica)
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

// answer says whether something is true, and why or why not.
func answer(w http.ResponseWriter, is bool, text string) {
	if !is {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprintln(w, text)
}
