package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// The goals, as ratios of wall time and in bytes.
const (
	goalTutorial = 1.00
	goalFloor    = 1.10
	goalRSS      = 96 << 20
)

// print writes the table and says which goals were met.
func (b *bench) print(ctx context.Context, out io.Writer, server string, all map[string][]sample) error {
	variants := b.variants()
	wall := func(i int) float64 {
		mid, _, _ := median(all[variants[i].name], func(s sample) float64 { return s.wall.Seconds() })
		return mid
	}
	var t strings.Builder
	fmt.Fprintf(&t, "# A clone, compared\n\n`make bench-clone SIZE=%dMiB RUNS=%d`, %s. Medians of %d interleaved runs; wall time with its spread, from the\n",
		b.size>>20, b.runs, time.Now().UTC().Format(time.DateOnly), b.runs)
	t.WriteString("start of the joiner to the end of syncfs(2), without the prepare. One disk, loopback, every tool with `--parallel=1`; the\n")
	t.WriteString("donor's files are in the page cache for all variants alike. CPU is user and system time; \"own\" is what stands between the\nbackup tool and the disk.\n\n")
	fmt.Fprintf(&t, "Machine: %s. Server and tools: %s; %s.\n\n", machine(), server, b.version(ctx))
	t.WriteString("| variant | wall, s | MiB/s | own CPU, donor, s | own CPU, joiner, s | tool CPU, s | peak RSS, donor, MiB | peak RSS, joiner, MiB |\n")
	t.WriteString("|---|---|---|---|---|---|---|---|\n")
	for _, v := range variants {
		samples := all[v.name]
		mid, least, most := median(samples, func(s sample) float64 { return s.wall.Seconds() })
		bytes, _, _ := median(samples, func(s sample) float64 { return float64(s.bytes) })
		fmt.Fprintf(&t, "| %s | %.2f (%.2f–%.2f) | %.0f |", v.name, mid, least, most, bytes/(1<<20)/mid)
		for _, f := range []func(sample) float64{
			func(s sample) float64 { return s.donor.Seconds() },
			func(s sample) float64 { return s.joiner.Seconds() },
			func(s sample) float64 { return s.tool.Seconds() },
		} {
			value, _, _ := median(samples, f)
			fmt.Fprintf(&t, " %.2f |", value)
		}
		donor, _, _ := median(samples, func(s sample) float64 { return float64(s.donorRSS) })
		joiner, _, _ := median(samples, func(s sample) float64 { return float64(s.joinerRSS) })
		fmt.Fprintf(&t, " %.0f | %.0f |\n", donor/(1<<20), joiner/(1<<20))
	}
	t.WriteString("\n| goal | measured | |\n|---|---|---|\n")
	own := func(i int) float64 {
		mid, _, _ := median(all[variants[i].name], func(s sample) float64 { return (s.donor + s.joiner).Seconds() })
		return mid
	}
	rss := 0.0
	for _, v := range variants[:3] {
		for _, s := range all[v.name] {
			rss = max(rss, float64(s.donorRSS), float64(s.joinerRSS))
		}
	}
	tutorial, floor := wall(0)/wall(3), wall(0)/wall(4)
	goal := func(text string, measured, limit float64) {
		verdict := "met"
		if measured > limit {
			verdict = "**missed**"
		}
		fmt.Fprintf(&t, "| %s ≤ %.2f | %.2f | %s |\n", text, limit, measured, verdict)
	}
	goal("wall time (a)/(d)", tutorial, goalTutorial)
	goal("wall time (a)/(e)", floor, goalFloor)
	goal("own CPU (b)/(d)", own(1)/own(3), 1)
	goal("own peak RSS, MiB,", rss/(1<<20), goalRSS>>20)
	fmt.Fprintf(&t, "\nbench-clone: understudy/tutorial = %.2f, understudy/floor = %.2f\n", tutorial, floor)
	_, err := io.WriteString(out, t.String())
	return err
}

func (b *bench) version(ctx context.Context) string {
	text, err := exec.CommandContext(ctx, b.binary, "version").Output()
	if err != nil {
		return "understudy"
	}
	return strings.TrimSpace(string(text))
}

// machine is what the numbers depend on.
func machine() string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, found := strings.Cut(string(text), "model name\t: "); found {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d × %s, Linux %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)))
}
