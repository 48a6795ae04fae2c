// Command demo shows the main job with real servers on this machine: three members of
// a set, each with its own volume, the real binary at every step, and a writer that
// does not stop meanwhile. At its end the primary's server is killed under that writer. `make demo`
// runs it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

const (
	members = 3
	// hosts are the members' addresses, on loopback.
	hosts = "127.0.1.1{ordinal}"
	// fillBytes is what the primary holds before the first clone.
	fillBytes = 96 << 20
	// limit bounds the whole demonstration.
	limit = 5 * time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	binary := flag.String("binary", "bin/understudy", "the understudy `program`")
	engine := flag.String("engine", testserver.MariaDB, "the `flavour` of the servers: mariadb or mysql")
	primary := flag.String("primary", ordinal, "`who` is the primary: ordinal, the first member, or lease, the member that a Lease names;\nthat needs root, and the programs that e2e/cluster/build.sh makes")
	keep := flag.Bool("keep", false, "leave the members running at the end")
	flag.Parse()
	if err := run(ctx, *binary, *engine, *primary, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// find finds the server.
func find(ctx context.Context, engine string) (testserver.Installation, error) {
	switch engine {
	case testserver.MariaDB:
		return testserver.MariaDB1011(ctx)
	case testserver.MySQL:
		return testserver.MySQL97(ctx, "")
	}
	return testserver.Installation{}, fmt.Errorf("-engine=%s: it must be %s or %s", engine, testserver.MariaDB, testserver.MySQL)
}

func run(ctx context.Context, binary, engine, primary string, keep bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if primary != ordinal && primary != lease {
		return fmt.Errorf("-primary=%s: it must be %s or %s", primary, ordinal, lease)
	}
	if primary == lease && keep {
		return errors.New("-primary=lease: the API server ends with the demonstration, so that -keep keeps nothing that works")
	}
	install, err := find(ctx, engine)
	if err != nil {
		return err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	dir, err := os.MkdirTemp("", "understudy-demo-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	// What the servers need for a while lies there, too, and goes with it.
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return fmt.Errorf("set TMPDIR: %w", err)
	}
	cfg := set.Config{Binary: binary, Install: install, Dir: dir, Hosts: hosts, Run: true, Detach: keep}
	if primary == lease {
		stop, err := byLease(ctx, &cfg)
		if err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
		defer stop()
	}
	s, err := set.New(cfg)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	begun := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%5.1f s  %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	say("%s %s; everything is in %s", install.Flavor, install.Version, dir)
	err = show(ctx, s, say)
	if keep && err == nil {
		explain(s, install, dir)
	} else {
		// The clean-up has its own time: it must not be skipped because we are late.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if downErr := s.End(last); err == nil {
			err = downErr
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err == nil {
		fmt.Printf("demo: %d members, %d replicas, checksums equal\n", members, members-1)
	}
	return err
}

// show brings up the members one after the other while a writer runs, and compares
// them at the end.
func show(ctx context.Context, s *set.Set, say func(string, ...any)) error {
	if err := s.Member(0).Up(ctx); err != nil {
		return err
	}
	say("%s is the primary: it started empty, by permission, and is open for writes", s.Member(0).Name())
	primary := sql.OpenDB(writable{s})
	defer func() { _ = primary.Close() }()
	if err := load.Create(ctx, primary); err != nil {
		return err
	}
	if err := load.Fill(ctx, primary, 1, fillBytes); err != nil {
		return err
	}
	say("%s holds %d MiB; a writer begins, and will not stop until the end", s.Member(0).Name(), fillBytes>>20)
	writer := load.New(primary, load.Config{Seed: 1, Rate: 200, Timeout: 10 * time.Second, Reconnect: true})
	wrote := make(chan error, 1)
	go func() { wrote <- writer.Run(ctx) }()
	defer writer.Stop()
	for o := 1; o < members; o++ {
		m := s.Member(o)
		mark, begun := writer.Mark(), time.Now()
		if err := m.Up(ctx); err != nil {
			return err
		}
		during := writer.Since(mark)
		j, err := m.Journal()
		if err != nil {
			return err
		}
		say("%s cloned %s in %.1f s, start and replication included; the writer made %d commits meanwhile, the worst took %v",
			m.Name(), j.Donor, time.Since(begun).Seconds(), during.Commits, during.Worst.Round(time.Millisecond))
	}
	if err := crash(ctx, s, writer, say); err != nil {
		return err
	}
	writer.Stop()
	if err := <-wrote; err != nil {
		return fmt.Errorf("write: %w", err)
	}
	say("the writer stopped after %d commits, at GTID %s", writer.Since(load.Mark{}).Commits, writer.LastGTID())
	return compare(ctx, s, writer)
}

// compare waits until every member has the writer's last commit, and prints what each
// of them holds.
func compare(ctx context.Context, s *set.Set, writer *load.Load) error {
	primary, err := findPrimary(ctx, s)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\nMEMBER\tADDRESS\tROLE\tCLONED FROM\tTABLE\tROWS\tCHECKSUM")
	for o := range members {
		m := s.Member(o)
		role := "replica"
		if o == primary.Ordinal {
			role = "primary"
		}
		sums, err := held(ctx, primary, m, writer)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name(), err)
		}
		j, err := m.Journal()
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(sums)) {
			if sums[name].Rows == 0 {
				return fmt.Errorf("%s: table %s is empty", m.Name(), name)
			}
			_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%d\n", m.Name(), m.Host, role, j.Donor, name, sums[name].Rows, sums[name].Sum)
		}
	}
	_, _ = fmt.Fprintln(table)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the table: %w", err)
	}
	return nil
}

// held is what a member holds: all that was written, and what the primary has.
func held(ctx context.Context, primary, m *set.Member, writer *load.Load) (map[string]load.Checksum, error) {
	db := primary.Server.DB()
	if m != primary {
		return writer.CompareReplica(ctx, db, m.Server.DB())
	}
	if err := writer.VerifyLedger(ctx, db); err != nil {
		return nil, err
	}
	return load.Checksums(ctx, db)
}

func explain(s *set.Set, install testserver.Installation, dir string) {
	fmt.Println("The members are still running. To connect to one:")
	for o := range members {
		fmt.Printf("  %s --host=%s --user=root --password=%s   # %s; http://%s:9307/metrics\n",
			install.Client, s.Host(o), s.RootPassword(), s.Member(o).Name(), s.Host(o))
	}
	fmt.Printf("To take a clone by hand:\n  bin/understudy clone-from %s --to /tmp/copy --prepare --set=db --secret-file=%s\n", s.Host(1), s.SecretFile())
	fmt.Printf("To end it:\n  kill")
	for _, pid := range s.Pids() {
		fmt.Printf(" %d", pid)
	}
	fmt.Printf("; sleep 3; rm -r %s\n", dir)
}
