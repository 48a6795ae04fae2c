package wire

import (
	"context"
	"io"
	"syscall"
	"testing"
	"time"
)

// BenchmarkClone moves 1 GiB a turn from donor to joiner over loopback: cpu-s/GiB is the CPU time
// of both together.
func BenchmarkClone(b *testing.B) {
	const size = 1 << 30
	for _, tr := range transports {
		b.Run(tr.name, func(b *testing.B) {
			id := identity(b, 'a')
			ts := &tapes{more: make(chan *tape, 1000), play: func(context.Context, int) (io.Reader, func() error) {
				return io.LimitReader(readerFunc(func(p []byte) (int, error) { return len(p), nil }), size), wholly
			}}
			c := NewClient(ClientConfig{
				Addr: start(b, ts.donor(), ServerConfig{}, tr.server(id)).addr, TLS: tr.client(id), Member: "db-1", Stall: soon, Grace: soon,
			})
			defer c.Close()
			b.SetBytes(size)
			begun := cpu()
			for b.Loop() {
				s, err := c.Clone(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Finish(); err != nil {
					b.Fatal(err)
				}
				_ = s.Close()
			}
			b.ReportMetric((cpu()-begun).Seconds()/float64(b.N), "cpu-s/GiB")
		})
	}
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // never fails for ourselves
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
