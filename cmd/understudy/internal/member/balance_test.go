package member

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"understudy/clone/wire"
	"understudy/replicate"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHealthForLoadBalancers(t *testing.T) {
	seen := func(ago time.Duration, s replicate.Status) replicate.Status {
		s.Facts.Seen = time.Now().Add(-ago)
		return s
	}
	behind := func(lag int64) *replicate.Channel { return &replicate.Channel{SQLRunning: true, Lag: &lag} }
	replica := func(c *replicate.Channel) replicate.Status {
		return seen(0, replicate.Status{Facts: replicate.Facts{Channel: c}, Attached: true, Ready: true, Reason: "the applier runs"})
	}
	open := replicate.Status{Primary: true, Attached: true, Ready: true, Reason: "open for writes"}
	next := seen(40*time.Second, open)
	next.Next = time.Now().Add(-10 * time.Second)
	tests := []struct {
		name   string
		status replicate.Status
		path   string
		code   int
		body   string
	}{
		{"the primary is ready", seen(0, open), "/readyz", 200, "open for writes"},
		{"the primary", seen(0, open), "/primary", 200, "open for writes"},
		{"the primary as a replica", seen(0, open), "/replica", 503, "this member is the primary"},
		{"the primary as a replica that is level", seen(0, open), "/replica?lag=5s", 503, "this member is the primary"},
		{"a primary that is read-only", seen(0, replicate.Status{Primary: true, Reason: "the primary is read-only: it waits"}), "/primary", 503, "the primary is read-only: it waits"},
		{"a primary that was not looked at", seen(20*time.Second, open), "/primary", 503, "the server was not looked at for 20s"},
		{"a primary that was not to be looked at", next, "/primary", 200, "open for writes"},
		{"a replica as the primary", replica(behind(0)), "/primary", 503, "this member is a replica"},
		{"a replica", replica(behind(7)), "/replica", 200, "the applier runs"},
		{"a replica that is within the bound", replica(behind(5)), "/replica?lag=5s", 200, "the replica is 5 s behind: the applier runs"},
		{"a replica that is beyond the bound", replica(behind(6)), "/replica?lag=5s", 503, "the replica is 6 s behind, more than 5s"},
		{"a replica far beyond the bound", replica(behind(1 << 40)), "/replica?lag=5s", 503, "the replica is 1099511627776 s behind, more than 5s"},
		{"a bound below a second", replica(behind(1)), "/replica?lag=1500ms", 200, "the replica is 1 s behind: the applier runs"},
		{"no second behind", replica(behind(0)), "/replica?lag=0s", 200, "the replica is 0 s behind: the applier runs"},
		{"an unknown lag and no bound", replica(&replicate.Channel{SQLRunning: true}), "/replica", 200, "the applier runs"},
		{"an unknown lag", replica(&replicate.Channel{SQLRunning: true}), "/replica?lag=5s", 503, "how far the replica is behind is not known: the applier runs"},
		{"a replica whose applier stopped", seen(0, replicate.Status{Attached: true, Reason: "the applier does not run: error 1062"}), "/replica?lag=5s", 503, "the applier does not run: error 1062"},
		{"a replica that was not looked at", seen(time.Minute, replica(behind(0))), "/replica", 503, "the server was not looked at for 1m0s"},
		{"no unit", replica(behind(0)), "/replica?lag=5", 400, "lag=5: it must be a time that is not negative, such as 5s"},
		{"no number", replica(behind(0)), "/replica?lag=", 400, "lag=: it must be a time that is not negative, such as 5s"},
		{"a negative bound", replica(behind(0)), "/replica?lag=-1s", 400, "lag=-1s: it must be a time that is not negative, such as 5s"},
		{"two bounds", replica(behind(0)), "/replica?lag=5s&lag=6s", 400, "lag is given 2 times"},
		{"a misspelt bound", replica(behind(0)), "/replica?lags=5s", 400, `there is no parameter "lags"`},
		{"a bound of the primary", seen(0, open), "/primary?lag=5s", 400, `there is no parameter "lag"`},
		{"no query", seen(0, open), "/primary?%zz", 400, `read the parameters: invalid URL escape "%zz"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := NewHealth(prometheus.NewRegistry(), "v1")
			h.Watch(func() replicate.Status { return tt.status }, func() string { return "" }, wire.NewServer(nil, wire.ServerConfig{}))
			server := httptest.NewServer(h.Server(slog.New(slog.DiscardHandler)).Handler)
			defer server.Close()
			asks(t, http.MethodGet, server.URL+tt.path, tt.code, tt.body+"\n")
			asks(t, http.MethodHead, server.URL+tt.path, tt.code, "")
		})
	}
}

// init, and a sidecar that waits for the volume, say so.
func TestHealthBeforeTheVolume(t *testing.T) {
	server := httptest.NewServer(NewHealth(prometheus.NewRegistry(), "v1").Server(slog.New(slog.DiscardHandler)).Handler)
	defer server.Close()
	for _, path := range []string{"/readyz", "/primary", "/replica?lag=5s"} {
		asks(t, http.MethodGet, server.URL+path, 503, "waiting for the volume\n")
	}
}

func asks(t *testing.T, method, address string, code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != code || string(text) != body {
		t.Errorf("%s %s: %d %q, %v; want %d %q", method, address, res.StatusCode, text, err, code, body)
	}
}
