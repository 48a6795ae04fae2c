package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"understudy/e2e/process"
	"understudy/e2e/set"
	"understudy/e2e/testserver"

	"golang.org/x/sys/unix"
)

type bench struct {
	options

	install testserver.Installation
	set     *set.Set
	member  *set.Member
	work    string
}

// sample is one run.
type sample struct {
	wall time.Duration
	// donor and joiner are what stands between the tool and the disk; tool is the backup tool.
	donor, joiner, tool time.Duration
	// donorRSS, joinerRSS and toolRSS are in bytes.
	donorRSS, joinerRSS, toolRSS int64
	bytes                        int64
	// commits are the latencies of a writer's commits on the donor meanwhile, sorted; none without one.
	commits []time.Duration
}

// variant is one way to copy. The variants' order is that of the table.
type variant struct {
	name string
	// prepare starts the donor, which is not measured.
	prepare func(ctx context.Context) (donor, error)
	// joiner is the command line that fills the empty directory dir.
	joiner func(dir string) []string
	// do fills dir where no program does.
	do func(ctx context.Context, dir string) error
	// start has a server started on the copy, too.
	start bool
}

// donor is what a variant copies from.
type donor struct {
	// pid is the process whose CPU time counts; 0 without one.
	pid int
	// toolTimes is a file with the tool's CPU times, where they cannot be told from the
	// donor's children.
	toolTimes string
	stop      func(context.Context) error
}

// variants are the ways to copy the server, then those of the base, and over distances.
func (b *bench) variants() []variant {
	all := b.mariadbVariants()
	if b.install.Flavor == testserver.MySQL {
		all = b.mysqlVariants()
	}
	tls := all[variantTLS]
	if b.base != "" {
		all = append(all, b.ofBase(tls))
	}
	return append(all, b.connected(tls)...)
}

// baseName is the name of the variant that clones with the base.
const baseName = "(a) of the base"

// ofBase is v with the program of the base on both sides.
func (b *bench) ofBase(v variant) variant {
	return variant{
		name: baseName,
		prepare: func(ctx context.Context) (donor, error) {
			b.set.UseBinary(b.base)
			defer b.set.UseBinary(b.binary)
			return v.prepare(ctx)
		},
		joiner: func(dir string) []string {
			argv := v.joiner(dir)
			argv[0] = b.base
			return argv
		},
	}
}

func (b *bench) mariadbVariants() []variant {
	from := func(more ...string) func(string) []string {
		return func(dir string) []string {
			return append([]string{b.binary, "clone-from", b.member.Host, "--to", dir, "--log-level=warn"}, more...)
		}
	}
	secret := []string{"--set=db", "--secret-file=" + b.set.SecretFile()}
	return []variant{
		{name: "(a) understudy, TLS", prepare: b.sidecar(), joiner: from(secret...)},
		{name: "(b) understudy, `--insecure`", prepare: b.sidecar("--secret-file=", "--insecure"), joiner: from("--insecure")},
		{name: "(c) understudy, TLS and zstd", prepare: b.sidecar(), joiner: from(append(secret, "--compress=zstd")...)},
		{name: "(d) the tutorial: `ncat \\| mbstream -x`", prepare: b.ncat, joiner: func(dir string) []string {
			line := fmt.Sprintf("set -o pipefail; ncat --recv-only %s %d | mbstream -x -C %s", b.member.Host, ncatPort, dir)
			return []string{"bash", "-c", line}
		}},
		{name: "(e) `mariadb-backup` to a local directory", prepare: b.nobody, joiner: func(dir string) []string { return b.tool(b.parallel, "--target-dir="+dir) }},
	}
}

func (b *bench) tool(parallel int, more ...string) []string {
	return append([]string{
		"mariadb-backup", "--defaults-file=" + filepath.Join(b.work, "client.cnf"), "--backup", "--slave-info",
		"--host=" + b.member.Host, "--port=3306", "--user=root", fmt.Sprintf("--parallel=%d", parallel),
	}, more...)
}

func (b *bench) sidecar(flags ...string) func(context.Context) (donor, error) {
	return func(ctx context.Context) (donor, error) {
		// It looks at the server as often as in a pod.
		if err := b.member.StartSidecar(append([]string{"--interval=2s", fmt.Sprintf("--parallel=%d", b.parallel)}, flags...)...); err != nil {
			return donor{}, err
		}
		return donor{pid: b.member.Sidecar().Pid(), stop: func(stop context.Context) error {
			if ctx.Err() != nil {
				b.member.KillSidecar() // it would wait for the joiner to come back
			}
			return b.member.StopSidecar(stop)
		}}, b.member.AwaitReady(ctx)
	}
}

// ncatPort is where the tutorial's donor listens.
const ncatPort = 3317

// ncat is the tutorial's donor.
func (b *bench) ncat(ctx context.Context) (donor, error) {
	times, script := filepath.Join(b.work, "times"), filepath.Join(b.work, "donor.sh")
	work := filepath.Join(b.work, "ncat-work")
	text := fmt.Sprintf("#!/bin/bash\nTIMEFORMAT='%%U %%S'\n{ time %s 2>/dev/null; } 2>%s\n", strings.Join(b.tool(1, "--stream=xbstream", "--target-dir="+work), " "), times)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // it has to be executable
		return donor{}, fmt.Errorf("write the donor's script: %w", err)
	}
	cmd := exec.Command("ncat", "--listen", "--keep-open", "--send-only", "--max-conns=1", b.member.Host, strconv.Itoa(ncatPort), "-c", script) //nolint:noctx // stop ends it
	p, err := process.Start(cmd, false)
	if err != nil {
		return donor{}, err
	}
	return donor{pid: p.Pid(), toolTimes: times, stop: func(context.Context) error {
		killGroup(p)
		<-p.Exited()
		return os.RemoveAll(work)
	}}, awaitListener(ctx, p, b.member.Host, ncatPort)
}

func (b *bench) nobody(context.Context) (donor, error) {
	return donor{stop: func(context.Context) error { return nil }}, nil
}

// samples are those of all rounds, by the variants' names.
func (b *bench) samples(ctx context.Context) (map[string][]sample, error) {
	all := map[string][]sample{}
	if err := b.rounds(ctx, b.variants(), all); err != nil {
		return nil, err
	}
	for range moreRounds { // what else the machine did may be the reason
		err := b.outcome(all, best).check()
		if err == nil {
			break
		}
		fmt.Printf("%v: %d more rounds\n", err, b.runs)
		if err := b.rounds(ctx, b.variants(), all); err != nil {
			return nil, err
		}
	}
	if b.tables == 0 {
		return all, nil
	}
	if err := b.makeTables(ctx); err != nil {
		return nil, err
	}
	return all, b.rounds(ctx, b.withTables(), all)
}

// rounds runs every variant once in each round, so that whatever else the machine does
// hits all of them, and adds the samples to those of the variants' names.
func (b *bench) rounds(ctx context.Context, variants []variant, all map[string][]sample) error {
	options := fmt.Sprintf("[client]\npassword=%s\n", b.set.RootPassword())
	if err := os.WriteFile(filepath.Join(b.work, "client.cnf"), []byte(options), 0o600); err != nil {
		return fmt.Errorf("write the tool's option file: %w", err)
	}
	for round := range b.runs {
		for i := range variants {
			v := variants[(i+round)%len(variants)] // no variant always comes first
			s, err := b.once(ctx, v)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			all[v.name] = append(all[v.name], s)
			fmt.Printf("round %d of %d: %-42s %6.2f s\n", round+1, b.runs, v.name, s.wall.Seconds())
		}
	}
	return nil
}

func (b *bench) once(ctx context.Context, v variant) (s sample, err error) {
	dir := filepath.Join(b.work, "copy")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return s, fmt.Errorf("make the copy's directory: %w", err)
	}
	d, err := v.prepare(ctx)
	if d.stop != nil {
		defer func() { err = errors.Join(err, d.stop(context.WithoutCancel(ctx))) }()
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(dir+".partial")) }()
	if err != nil {
		return s, err
	}
	unix.Sync()
	before := usageOf(d.pid)
	donors := watchPeaks(d.pid)
	written := func() ([]time.Duration, error) { return nil, nil }
	if b.writes() {
		written = writeAlong(ctx, b.member.Server.DB())
	}
	begun := time.Now()
	used, peak, stop, err := b.copy(ctx, v, dir)
	s.wall = time.Since(begun)
	stop()
	donor := donors()
	var writeErr error
	s.commits, writeErr = written()
	if err = errors.Join(err, writeErr); err != nil {
		return s, err
	}
	s.donorRSS, s.joinerRSS, s.toolRSS = donor.own, peak.own, max(donor.tool, peak.tool)
	if s.bytes, err = sizeOf(dir); err != nil {
		return s, err
	}
	if d.pid == 0 {
		s.tool = used
		return s, nil
	}
	s.joiner = used
	return s, b.charge(&s, d, before)
}

// copy fills dir. Call stop afterwards, also after an error.
func (b *bench) copy(ctx context.Context, v variant, dir string) (used time.Duration, peak peaks, stop func(), err error) {
	stop = func() {}
	if v.do != nil {
		err = v.do(ctx, dir)
	} else {
		used, peak, err = call(ctx, v.joiner(dir))
	}
	if err == nil {
		err = syncFS(dir)
	}
	if err == nil && v.start {
		var kill func()
		if kill, err = b.startOn(ctx, dir); err == nil {
			stop = kill
		}
	}
	return used, peak, stop, err
}

// charge finds out what the donor used, once its tool has been waited for.
func (b *bench) charge(s *sample, d donor, before usage) error {
	after := usageOf(d.pid)
	if b.install.Flavor == testserver.MySQL { // there is no tool
		s.donor = after.own - before.own
		return nil
	}
	for deadline := time.Now().Add(5 * time.Second); after.children == before.children && time.Now().Before(deadline); after = usageOf(d.pid) {
		time.Sleep(10 * time.Millisecond)
	}
	s.donor, s.tool = after.own-before.own, after.children-before.children
	if d.toolTimes == "" {
		return nil
	}
	text, err := os.ReadFile(d.toolTimes)
	if err != nil {
		return fmt.Errorf("read the tool's times: %w", err)
	}
	all := s.donor + s.tool
	s.tool = 0
	for field := range strings.FieldsSeq(string(text)) {
		seconds, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return fmt.Errorf("read the tool's times: %w", err)
		}
		s.tool += time.Duration(seconds * float64(time.Second))
	}
	s.donor = max(all-s.tool, 0)
	return nil
}

// median is that of f over all samples, and the least and the largest value.
func median(all []sample, f func(sample) float64) (mid, least, most float64) {
	var values []float64
	for _, s := range all {
		values = append(values, f(s))
	}
	slices.Sort(values)
	n := len(values)
	return (values[n/2] + values[(n-1)/2]) / 2, values[0], values[n-1]
}
