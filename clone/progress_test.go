package clone

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMeter(t *testing.T) {
	tests := []struct {
		name  string
		total int64
		bytes int
		after time.Duration
		want  Progress
	}{
		{"at once", 100, 0, 0, Progress{Total: 100}},
		{"nothing yet", 100, 0, time.Minute, Progress{Total: 100}},
		{"a quarter", 400, 100, 10 * time.Second, Progress{Bytes: 100, Total: 400, BytesPerSecond: 10, ETA: 30 * time.Second}},
		{"rounded", 300, 100, 3 * time.Second, Progress{Bytes: 100, Total: 300, BytesPerSecond: 100. / 3, ETA: 6 * time.Second}},
		{"all", 100, 100, 10 * time.Second, Progress{Bytes: 100, Total: 100, BytesPerSecond: 10}},
		{"beyond the estimate", 100, 150, 10 * time.Second, Progress{Bytes: 150, Total: 100, BytesPerSecond: 15}},
		{"no estimate", 0, 100, 10 * time.Second, Progress{Bytes: 100, BytesPerSecond: 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMeter(tt.total)
				if _, err := io.Copy(io.Discard, m.Reader(strings.NewReader(strings.Repeat("x", tt.bytes)))); err != nil {
					t.Fatal(err)
				}
				time.Sleep(tt.after)
				if d := cmp.Diff(tt.want, m.Now()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestWatch(t *testing.T) {
	for _, end := range []string{"stop", "context"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				begun := time.Now()
				var said []time.Duration
				stop := NewMeter(0).Watch(ctx, 10*time.Second, func(Progress) { said = append(said, time.Since(begun)) })
				time.Sleep(35 * time.Second)
				if end == "stop" {
					stop()
				} else {
					cancel()
				}
				time.Sleep(time.Minute)
				stop() // may be called again
				want := []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second}
				if d := cmp.Diff(want, said); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestProgressInALog(t *testing.T) {
	tests := []struct {
		name string
		p    Progress
		want string
	}{
		{"half", Progress{Bytes: 50, Total: 100, BytesPerSecond: 3 << 19, ETA: time.Minute}, "p.bytes=50 p.mib_per_second=1.5 p.percent=50 p.eta=1m0s"},
		{"no estimate", Progress{Bytes: 50}, "p.bytes=50 p.mib_per_second=0"},
		{"never more than is true", Progress{Bytes: 200, Total: 100}, "p.bytes=200 p.mib_per_second=0 p.percent=99 p.eta=0s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
				if len(groups) == 0 && a.Key != "p" {
					return slog.Attr{} // time, level and message
				}
				return a
			}})
			slog.New(h).Info("x", "p", tt.p)
			if got := strings.TrimSpace(b.String()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// The wait for a donor is said at an even pace, and at once when its reason is new.
func TestWaitLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		waited := newWait(t.Context(), time.Minute)
		defer waited.end()
		waited.run()
		w := newWaitLog(slog.New(slog.NewTextHandler(&b, nil)), waited)
		lines := func() int { return strings.Count(b.String(), "\n") }
		stop := every(t.Context(), sayEvery, w.say)
		time.Sleep(sayEvery + time.Second)
		synctest.Wait()
		if lines() != 1 || !strings.Contains(b.String(), "no answer yet") {
			t.Errorf("%s", b.String())
		}
		for range 3 {
			w.failed(context.DeadlineExceeded, time.Second)
		}
		if lines() != 2 {
			t.Errorf("%s", b.String())
		}
		w.failed(io.EOF, time.Second)
		if lines() != 3 || !strings.Contains(b.String(), "reason=EOF") || !strings.Contains(b.String(), "waited=11s at_most=1m0s") {
			t.Errorf("%s", b.String())
		}
		stop()
	})
}
