package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"understudy/e2e/testserver"
)

// outcome are the figures of the last line; zeros were not measured.
type outcome struct {
	// local and instance are the wall times with MySQL as shares of those of CLONE LOCAL, and of CLONE
	// INSTANCE with the starts that it needs; tutorial and floor those with MariaDB, as shares of the
	// tutorial's pipe and of the tool's own copy to a local directory.
	local, instance, tutorial, floor float64
	// donor and joiner are what the two processes themselves take of the CPU with TLS, and open is the
	// larger of both without, in seconds for each GiB.
	donor, joiner, open float64
	// rss is the most that one of the two had in memory, in MiB.
	rss float64
	// base is the wall time with TLS as a share of that of the base, an earlier version.
	base float64
}

// goals are the figures that are wished for.
var goals = outcome{local: 1.40, instance: 0.60, tutorial: 0.46, floor: 1.05, donor: 0.60, joiner: 0.60, open: 0.35, rss: 96}

const (
	// regression is how much slower than the base a clone may be.
	regression = 1.15
	// moreRounds is how often all rounds are made again while it is slower.
	moreRounds = 2
	gib        = 1 << 30
)

// The places of the variants.
const (
	variantTLS  = 0
	variantOpen = 1
	variantZstd = 2

	variantLocal   = 4 // of MySQL
	variantFirst   = 5
	variantInstead = 6

	variantTutorial = 3 // of MariaDB
	variantFloor    = 4
)

var errRegression = errors.New("a clone takes longer than with the base")

// middle and best are the statistics by which figures are made of samples: what is measured, and
// what other work on the machine has disturbed least.
func middle(all []sample, f func(sample) float64) float64 {
	mid, _, _ := median(all, f)
	return mid
}

func best(all []sample, f func(sample) float64) float64 {
	_, least, _ := median(all, f)
	return least
}

// outcome makes the figures of samples.
func (b *bench) outcome(all map[string][]sample, statistic func([]sample, func(sample) float64) float64) outcome {
	variants := b.variants()
	of := func(variant int, f func(sample) float64) float64 { return statistic(all[variants[variant].name], f) }
	perGiB := func(cpu func(sample) time.Duration) func(sample) float64 {
		return func(s sample) float64 { return cpu(s).Seconds() / (float64(s.bytes) / gib) }
	}
	donor, joiner := perGiB(func(s sample) time.Duration { return s.donor }), perGiB(func(s sample) time.Duration { return s.joiner })
	o := outcome{donor: of(variantTLS, donor), joiner: of(variantTLS, joiner), open: max(of(variantOpen, donor), of(variantOpen, joiner))}
	for _, v := range variants[:variantZstd+1] {
		for _, s := range all[v.name] {
			o.rss = max(o.rss, float64(max(s.donorRSS, s.joinerRSS))/(1<<20))
		}
	}
	if b.install.Flavor == testserver.MySQL {
		o.local, o.instance = of(variantTLS, wall)/of(variantLocal, wall), of(variantFirst, wall)/of(variantInstead, wall)
	} else {
		o.tutorial, o.floor = of(variantTLS, wall)/of(variantTutorial, wall), of(variantTLS, wall)/of(variantFloor, wall)
	}
	if b.base != "" {
		o.base = of(variantTLS, wall) / statistic(all[baseName], wall)
	}
	return o
}

// with are the figures of two servers together; of those that both have the larger ones.
func (o outcome) with(other outcome) outcome {
	return outcome{
		local: max(o.local, other.local), instance: max(o.instance, other.instance),
		tutorial: max(o.tutorial, other.tutorial), floor: max(o.floor, other.floor),
		donor: max(o.donor, other.donor), joiner: max(o.joiner, other.joiner), open: max(o.open, other.open), rss: max(o.rss, other.rss), base: max(o.base, other.base),
	}
}

// check fails when a clone takes longer than with the base.
func (o outcome) check() error {
	if o.base > regression {
		return fmt.Errorf("%w: %.2f times as long, and %.2f is the limit", errRegression, o.base, regression)
	}
	return nil
}

// line says what was measured.
func (o outcome) line() string {
	var servers []string
	if o.local > 0 {
		servers = append(servers, fmt.Sprintf("mysql understudy/CLONE LOCAL = %.2f, understudy/CLONE INSTANCE = %.2f", o.local, o.instance))
	}
	if o.tutorial > 0 {
		servers = append(servers, fmt.Sprintf("mariadb understudy/tutorial = %.2f, understudy/floor = %.2f", o.tutorial, o.floor))
	}
	return fmt.Sprintf("bench-clone: %s; own CPU donor %.2f s/GiB, joiner %.2f s/GiB", strings.Join(servers, "; "), o.donor, o.joiner)
}

// goals writes which goals are met.
func (r *report) goals(o outcome) {
	_, _ = r.WriteString("\n| goal | measured | |\n|---|---|---|\n")
	for _, g := range []struct {
		text           string
		measured, most float64
	}{
		{"wall time (a)/(e)", o.local, goals.local},
		{"wall time (f)/(g)", o.instance, goals.instance},
		{"wall time (a)/(d)", o.tutorial, goals.tutorial},
		{"wall time (a)/(e)", o.floor, goals.floor},
		{"own CPU of the donor in (a), s/GiB", o.donor, goals.donor},
		{"own CPU of the joiner in (a), s/GiB", o.joiner, goals.joiner},
		{"own CPU in (b), the larger of both, s/GiB", o.open, goals.open},
		{"own RSS, the largest, MiB", o.rss, goals.rss},
		{"wall time (a)/(a) of the base", o.base, regression},
	} {
		if g.measured == 0 { // with the other server
			continue
		}
		verdict := "met"
		if g.measured > g.most {
			verdict = "**missed**"
		}
		fmt.Fprintf(r, "| %s ≤ %.2f | %.2f | %s |\n", g.text, g.most, g.measured, verdict)
	}
}
