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
	"syscall"
	"time"

	"understudy/e2e/process"
	"understudy/e2e/set"

	"golang.org/x/sys/unix"
)

type bench struct {
	options

	set    *set.Set
	member *set.Member
	work   string
}

// sample is one run.
type sample struct {
	wall time.Duration
	// donor and joiner are what stands between the tool and the disk; tool is the backup tool.
	donor, joiner, tool time.Duration
	// donorRSS and joinerRSS are in bytes.
	donorRSS, joinerRSS int64
	bytes               int64
}

// variant is one way to copy. The variants' order is that of the table.
type variant struct {
	name string
	// prepare starts the donor, which is not measured.
	prepare func(ctx context.Context) (donor, error)
	// joiner is the command line that makes dir.
	joiner func(dir string) []string
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

func (b *bench) variants() []variant {
	from := func(more ...string) func(string) []string {
		return func(dir string) []string {
			return append([]string{b.binary, "clone-from", b.member.Host, "--to", dir, "--log-level=warn"}, more...)
		}
	}
	secret := []string{"--set=db", "--secret-file=" + b.set.SecretFile()}
	return []variant{
		{"(a) understudy, TLS", b.sidecar(), from(secret...)},
		{"(b) understudy, `--insecure`", b.sidecar("--secret-file=", "--insecure"), from("--insecure")},
		{"(c) understudy, TLS and zstd", b.sidecar(), from(append(secret, "--compress=zstd")...)},
		{"(d) the tutorial: `ncat \\| mbstream -x`", b.ncat, func(dir string) []string {
			line := fmt.Sprintf("set -o pipefail; mkdir %[1]s; ncat --recv-only %[2]s 3317 | mbstream -x -C %[1]s", dir, b.member.Host)
			return []string{"bash", "-c", line}
		}},
		{"(e) `mariadb-backup` to a local directory", b.nobody, func(dir string) []string { return b.tool("--target-dir=" + dir) }},
	}
}

func (b *bench) tool(more ...string) []string {
	return append([]string{
		"mariadb-backup", "--defaults-file=" + filepath.Join(b.work, "client.cnf"), "--backup", "--slave-info",
		"--host=" + b.member.Host, "--port=3306", "--user=root", "--parallel=1",
	}, more...)
}

func (b *bench) sidecar(flags ...string) func(context.Context) (donor, error) {
	return func(ctx context.Context) (donor, error) {
		if err := b.member.StartSidecar(flags...); err != nil {
			return donor{}, err
		}
		return donor{pid: b.member.Sidecar().Pid(), stop: b.member.StopSidecar}, b.member.AwaitReady(ctx)
	}
}

// ncat is the tutorial's donor.
func (b *bench) ncat(context.Context) (donor, error) {
	times, script := filepath.Join(b.work, "times"), filepath.Join(b.work, "donor.sh")
	work := filepath.Join(b.work, "ncat-work")
	text := fmt.Sprintf("#!/bin/bash\nTIMEFORMAT='%%U %%S'\n{ time %s 2>/dev/null; } 2>%s\n", strings.Join(b.tool("--stream=xbstream", "--target-dir="+work), " "), times)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // it has to be executable
		return donor{}, fmt.Errorf("write the donor's script: %w", err)
	}
	cmd := exec.Command("ncat", "--listen", "--keep-open", "--send-only", "--max-conns=1", b.member.Host, "3317", "-c", script) //nolint:noctx // stop ends it
	p, err := process.Start(cmd, false)
	if err != nil {
		return donor{}, err
	}
	time.Sleep(time.Second / 2) // a try would begin a backup
	return donor{pid: p.Pid(), toolTimes: times, stop: func(context.Context) error {
		p.Signal(syscall.SIGTERM)
		<-p.Exited()
		return os.RemoveAll(work)
	}}, nil
}

func (b *bench) nobody(context.Context) (donor, error) {
	return donor{stop: func(context.Context) error { return nil }}, nil
}

// rounds runs every variant once in each round, so that whatever else the machine does
// hits all of them.
func (b *bench) rounds(ctx context.Context) (map[string][]sample, error) {
	options := fmt.Sprintf("[client]\npassword=%s\n", b.set.RootPassword())
	if err := os.WriteFile(filepath.Join(b.work, "client.cnf"), []byte(options), 0o600); err != nil {
		return nil, fmt.Errorf("write the tool's option file: %w", err)
	}
	all := map[string][]sample{}
	variants := b.variants()
	for round := range b.runs {
		for i := range variants {
			v := variants[(i+round)%len(variants)] // nobody always comes first
			s, err := b.once(ctx, v)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			all[v.name] = append(all[v.name], s)
			fmt.Printf("round %d of %d: %-42s %6.2f s\n", round+1, b.runs, v.name, s.wall.Seconds())
		}
	}
	return all, nil
}

func (b *bench) once(ctx context.Context, v variant) (s sample, err error) {
	dir := filepath.Join(b.work, "copy")
	d, err := v.prepare(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, d.stop(context.WithoutCancel(ctx)), os.RemoveAll(dir)) }()
	unix.Sync()
	before := usageOf(d.pid)
	begun := time.Now()
	argv := v.joiner(dir)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, tail(text))
	}
	if err := syncFS(dir); err != nil {
		return s, err
	}
	s.wall = time.Since(begun)
	s.joiner = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.joinerRSS = usage.Maxrss << 10
	}
	if s.bytes, err = sizeOf(dir); err != nil {
		return s, err
	}
	if d.pid == 0 {
		s.tool, s.joiner = s.joiner, 0
		return s, nil
	}
	return s, b.charge(&s, d, before)
}

// charge finds out what the donor used, once its tool has been waited for.
func (b *bench) charge(s *sample, d donor, before usage) error {
	after := usageOf(d.pid)
	for deadline := time.Now().Add(5 * time.Second); after.children == before.children && time.Now().Before(deadline); after = usageOf(d.pid) {
		time.Sleep(10 * time.Millisecond)
	}
	s.donor, s.tool, s.donorRSS = after.own-before.own, after.children-before.children, after.peak
	if d.toolTimes == "" {
		return nil
	}
	text, err := os.ReadFile(d.toolTimes)
	if err != nil {
		return fmt.Errorf("read the tool's times: %w", err)
	}
	all := s.donor + s.tool
	s.tool = 0
	for _, field := range strings.FieldsSeq(string(text)) {
		seconds, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return fmt.Errorf("read the tool's times: %w", err)
		}
		s.tool += time.Duration(seconds * float64(time.Second))
	}
	s.donor = max(all-s.tool, 0)
	return nil
}

// tail is the end of what a command said.
func tail(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(len(lines)-5, 0):], " | ")
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
