// Command bench compares a clone with the Kubernetes tutorial's pipe and with a copy
// that needs no network, on this machine and on the same data. `make bench-clone` runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	var o options
	flag.StringVar(&o.binary, "binary", "bin/understudy", "the understudy `program`")
	flag.StringVar(&o.dir, "dir", ".cache", "`directory` on the disk that is measured")
	size := flag.String("size", "2GiB", "`bytes` of InnoDB data")
	flag.IntVar(&o.runs, "runs", 5, "`number` of runs of each variant")
	flag.StringVar(&o.engine, "engine", "", "`server` whose clones are measured: mariadb or mysql; none: both, one after the other")
	flag.StringVar(&o.base, "base", "", "the `program` of an earlier version: fail when a clone takes more than 15 % longer than with it")
	flag.IntVar(&o.parallel, "parallel", min(runtime.NumCPU(), 4), "`number` of files that understudy's donor and the local copy read at a time")
	flag.Var(&o.distances, "distance", "`times` of round trips to the donor, as 1ms,20ms,150ms: a clone over each of them, too")
	flag.IntVar(&o.tables, "tables", 0, "`number` of further tables with which some variants are run once more; of MariaDB fewer than files may be open (ulimit -Hn)")
	flag.StringVar(&o.report, "o", "", "`file` that gets the table, too")
	flag.Parse()
	var err error
	if o.size, err = parseSize(*size); err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-clone:", err)
		os.Exit(1)
	}
}

type options struct {
	binary, dir, report string
	base                string // empty: none
	engine              string // empty: both
	size                int64
	runs, parallel      int
	tables              int
	distances           distances
}

var errSize = errors.New("a size is a number of MiB or GiB, as 256MiB or 2GiB")

func parseSize(text string) (int64, error) {
	for suffix, unit := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseInt(number, 10, 32)
			if err != nil || n <= 0 {
				return 0, errSize
			}
			return n * unit, nil
		}
	}
	return 0, errSize
}

// run measures clones of one server, or of both, and ends with one line about all of it.
func run(ctx context.Context, o options) (err error) {
	for _, program := range []*string{&o.binary, &o.base} {
		if *program == "" {
			continue
		}
		if *program, err = filepath.Abs(*program); err != nil {
			return fmt.Errorf("find the program: %w", err)
		}
	}
	if err := os.MkdirAll(o.dir, 0o750); err != nil {
		return fmt.Errorf("make -dir: %w", err)
	}
	out := io.Writer(os.Stdout)
	if o.report != "" {
		f, err := os.Create(o.report)
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		out = io.MultiWriter(os.Stdout, f)
	}
	engines := []string{"mysql", "mariadb"}
	if o.engine != "" {
		engines = []string{o.engine}
	}
	var all outcome
	var slower error
	for _, engine := range engines {
		one, err := measure(ctx, o, engine, out)
		if err != nil && !errors.Is(err, errRegression) {
			return err
		}
		all, slower = all.with(one), errors.Join(slower, err)
	}
	fmt.Fprintf(out, "\n%s\n", all.line())
	return slower
}

// measure measures the clones of one server, and writes its table to out. The error is errRegression
// when they take longer than with the base.
func measure(ctx context.Context, o options, engine string, out io.Writer) (all outcome, err error) {
	install, err := installation(ctx, engine)
	if err != nil {
		return outcome{}, err
	}
	if err := o.descriptorsFor(install); err != nil {
		return outcome{}, err
	}
	if err := roomFor(o.dir, 3*(o.size+int64(o.tables)*tableBytes)); err != nil {
		return outcome{}, err
	}
	dir, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return outcome{}, fmt.Errorf("make a directory: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return outcome{}, fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := set.New(set.Config{Binary: o.binary, Install: install, Dir: dir})
	if err != nil {
		return outcome{}, err
	}
	b := &bench{options: o, install: install, set: s, member: s.Member(0), work: dir}
	defer func() { err = errors.Join(err, b.down(ctx)) }()
	fmt.Printf("filling the server with %d MiB\n", o.size>>20)
	if err := b.fill(ctx); err != nil {
		return outcome{}, err
	}
	samples, err := b.samples(ctx)
	if err != nil {
		return outcome{}, err
	}
	joins, err := b.awaitJoins(ctx)
	if err != nil {
		return outcome{}, err
	}
	if err := b.print(ctx, out, samples, joins); err != nil {
		return outcome{}, err
	}
	return b.outcome(samples, middle), b.outcome(samples, best).check()
}

var errEngine = errors.New("an engine is mariadb or mysql")

func installation(ctx context.Context, engine string) (testserver.Installation, error) {
	switch engine {
	case "mariadb":
		return testserver.MariaDB1011(ctx)
	case "mysql":
		return testserver.MySQL97(ctx, "")
	}
	return testserver.Installation{}, errEngine
}

func roomFor(dir string, bytes int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("read free space of %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < bytes { //nolint:gosec // a file system's size fits
		return fmt.Errorf("%s has %d MiB free, and %d are needed: the data, a copy, and room to work", dir, free>>20, bytes>>20)
	}
	return nil
}

// fill starts the only member with its data, which hardly change afterwards.
func (b *bench) fill(ctx context.Context) error {
	if err := b.member.Up(ctx); err != nil {
		return err
	}
	db := b.member.Server.DB()
	if err := load.Create(ctx, db); err != nil {
		return err
	}
	// Pages are about three quarters full.
	if err := load.Fill(ctx, db, 1, b.size*3/4); err != nil {
		return err
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	if b.writes() {
		if err := b.makeTicks(ctx); err != nil {
			return err
		}
	}
	return b.member.StopSidecar(ctx)
}

// flush has the server write what would be written during the first runs.
func (b *bench) flush(ctx context.Context) error {
	for _, st := range []string{"SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0", "SET GLOBAL innodb_max_dirty_pages_pct = 0", "FLUSH TABLES"} {
		if _, err := b.member.Server.DB().ExecContext(ctx, st); err != nil {
			return fmt.Errorf("%s: %w", st, err)
		}
	}
	return nil
}

// down ends what still runs. It has its own time: it must not be skipped after an interrupt.
func (b *bench) down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return b.set.End(ctx)
}
