package clone

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Progress is the state of a transfer.
type Progress struct {
	// Bytes is what has arrived; Total is the donor's estimate, 0 when unknown.
	Bytes, Total int64
	// BytesPerSecond is the mean since the start.
	BytesPerSecond float64
	// ETA is the time left at that rate; 0 when unknown.
	ETA time.Duration
}

// Meter counts the bytes of one transfer. Its methods may be called from any goroutine.
type Meter struct {
	bytes atomic.Int64
	total int64
	begun time.Time
}

// NewMeter starts counting a transfer of about total bytes.
func NewMeter(total int64) *Meter { return &Meter{total: total, begun: time.Now()} }

// Reader wraps r and counts its bytes.
func (m *Meter) Reader(r io.Reader) io.Reader { return meteredReader{r, m} }

type meteredReader struct {
	r io.Reader
	m *Meter
}

func (r meteredReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.bytes.Add(int64(n))
	return n, err
}

// Now is the progress at this moment.
func (m *Meter) Now() Progress {
	p := Progress{Bytes: m.bytes.Load(), Total: m.total}
	if seconds := time.Since(m.begun).Seconds(); seconds > 0 {
		p.BytesPerSecond = float64(p.Bytes) / seconds
	}
	if p.Total > p.Bytes && p.BytesPerSecond > 0 {
		p.ETA = time.Duration(float64(p.Total-p.Bytes) / p.BytesPerSecond * float64(time.Second)).Round(time.Second)
	}
	return p
}

// Percent is at most 99, because the estimate may be too low; 0 when unknown.
func (p Progress) Percent() int64 {
	if p.Total <= 0 {
		return 0
	}
	return min(p.Bytes*100/p.Total, 99)
}

// LogValue makes a Progress one attribute of a log line.
func (p Progress) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.Int64("bytes", p.Bytes),
		slog.Float64("mib_per_second", float64(int64(p.BytesPerSecond/(1<<20)*10))/10),
	}
	if p.Total > 0 {
		attrs = append(attrs, slog.Int64("percent", p.Percent()), slog.Duration("eta", p.ETA))
	}
	return slog.GroupValue(attrs...)
}

// Watch calls say at each interval until ctx ends or stop is called. After stop has returned, say
// is not called again. stop may be called more than once.
func (m *Meter) Watch(ctx context.Context, interval time.Duration, say func(Progress)) (stop func()) {
	return every(ctx, interval, func() { say(m.Now()) })
}

// every calls say at each interval, as Watch does.
func every(ctx context.Context, interval time.Duration, say func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				say()
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}
