package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"understudy/e2e/testserver"
)

// report is the table and what it says about the goals.
type report struct {
	strings.Builder

	variants  []variant
	many      []variant // those with many tables
	distances distances
	all       map[string][]sample
	joins     [][]time.Duration // the parts of each
}

// print writes the report.
func (b *bench) print(ctx context.Context, out io.Writer, all map[string][]sample, joins [][]time.Duration) error {
	r := &report{variants: b.variants(), distances: b.distances, all: all, joins: joins}
	if b.tables > 0 {
		r.many = b.withTables()
	}
	fmt.Fprintf(r, "# A clone, compared\n\n`make bench-clone ENGINE=%s SIZE=%dMiB RUNS=%d`, %s. Medians of %d interleaved runs; wall time with its spread, from the\n",
		b.install.Flavor, b.size>>20, b.runs, time.Now().UTC().Format(time.DateOnly), len(all[r.variants[variantTLS].name]))
	if b.install.Flavor == testserver.MySQL {
		_, _ = r.WriteString(aboutMySQL)
	} else {
		fmt.Fprintf(r, about, b.parallel)
	}
	if len(b.distances) > 0 {
		_, _ = r.WriteString(aboutDistance)
	}
	if b.tables > 0 {
		fmt.Fprintf(r, aboutTables, b.tables)
	}
	fmt.Fprintf(r, "Machine: %s. Server and tools: %s; %s; %s.\n\n", machine(), b.install.Version,
		firstLine(ctx, b.binary, "version"), firstLine(ctx, "ncat", "--version"))
	r.table()
	r.joined()
	r.goals(b.outcome(all, middle))
	r.distanceRatios()
	r.tableRatios(b.tables)
	_, err := io.WriteString(out, r.String())
	return err
}

const about = `start of the joiner to the end of syncfs(2), without the prepare. One disk, loopback. The tool reads
with ` + "`--parallel=%d`" + `, for the tutorial with 1. Server
and tool open the data with O_DIRECT: they come from the disk each time, for all variants alike, and each variant begins with
nothing left to write. The data hardly compress, which is the worst case for (c). CPU is user and system time. "Own" is what
stands between the backup tool and the disk; its memory is the peak of each process, summed up. Nobody writes meanwhile:
a writer adds about a second to every variant with the tool, which looks for redo once a second while it lets no commit through.

`

const aboutDistance = `Rows that are "away" go through a proxy on this machine that delays each byte and lets 4 MiB of a connection be on the way, as Linux
does. It knows no slow start and no losses, and it takes its share of the CPU.

`

const aboutMySQL = `start of the joiner to the end of syncfs(2); (f) and (g) until a server on the copy answers. (a) to (c) end with a directory on
which a server can start, and with the proof that it is whole. One disk, loopback; the server's data come from the disk each time, for
all variants alike. The data hardly compress, which is the worst case for (c). CPU is user and system time; "own" is what the sidecar and
the joiner use, the donor's server not counted. A writer commits to the donor every 5 ms meanwhile.

`

func (r *report) table() {
	_, _ = r.WriteString("| variant | wall, s | MiB/s | own CPU, donor, s | own CPU, joiner, s | tool CPU, s | own RSS, donor, MiB | own RSS, joiner, MiB | tool RSS, MiB | commits p50 / p99 / max, ms |\n")
	_, _ = r.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, v := range slices.Concat(r.variants, r.many) {
		mid, least, most := median(r.all[v.name], wall)
		bytes, _, _ := median(r.all[v.name], func(s sample) float64 { return float64(s.bytes) })
		fmt.Fprintf(r, "| %s | %.2f (%.2f–%.2f) | %.0f |", v.name, mid, least, most, bytes/(1<<20)/mid)
		for _, f := range []func(sample) time.Duration{
			func(s sample) time.Duration { return s.donor },
			func(s sample) time.Duration { return s.joiner },
			func(s sample) time.Duration { return s.tool },
		} {
			mid, _, _ := median(r.all[v.name], func(s sample) float64 { return f(s).Seconds() })
			fmt.Fprintf(r, " %.2f |", mid)
		}
		for _, f := range []func(sample) int64{
			func(s sample) int64 { return s.donorRSS },
			func(s sample) int64 { return s.joinerRSS },
			func(s sample) int64 { return s.toolRSS },
		} {
			mid, _, _ := median(r.all[v.name], func(s sample) float64 { return float64(f(s)) })
			fmt.Fprintf(r, " %.0f |", mid/(1<<20))
		}
		fmt.Fprintf(r, " %s |\n", commits(r.all[v.name]))
	}
}

// median is that of one variant.
func (r *report) median(variant int, f func(sample) float64) float64 {
	mid, _, _ := median(r.all[r.variants[variant].name], f)
	return mid
}

func wall(s sample) float64 { return s.wall.Seconds() }

// firstLine is what a program says of its version.
func firstLine(ctx context.Context, program, arg string) string {
	text, _ := exec.CommandContext(ctx, program, arg).CombinedOutput() // it has just been used
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
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
	control, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control") // it costs CPU, see clone/BENCHMARK.md
	return fmt.Sprintf("%d × %s, Linux %s, TCP %s", runtime.NumCPU(), model, strings.TrimSpace(string(kernel)), strings.TrimSpace(string(control)))
}
