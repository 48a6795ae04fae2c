package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"understudy/e2e/testserver"

	"github.com/go-sql-driver/mysql"
)

// mysqlVariants are the ways to copy a MySQL server. Those that start a server on the copy end when
// it answers.
func (b *bench) mysqlVariants() []variant {
	from := func(more ...string) func(string) []string {
		return func(dir string) []string {
			return append([]string{b.binary, "clone-from", b.member.Host, "--to", filepath.Join(dir, "data"), "--log-level=warn"}, more...)
		}
	}
	secret := []string{"--set=db", "--secret-file=" + b.set.SecretFile()}
	tls := variant{name: "(a) understudy, TLS", prepare: b.sidecar(), joiner: from(append(secret, "--prepare")...)}
	return []variant{
		tls,
		{name: "(b) understudy, `--insecure`", prepare: b.sidecar("--secret-file=", "--insecure"), joiner: from("--insecure", "--prepare")},
		{name: "(c) understudy, TLS and zstd", prepare: b.sidecar(), joiner: from(append(secret, "--prepare", "--compress=zstd")...)},
		{name: "(d) understudy, TLS, by way of a snapshot", prepare: b.sidecar(), joiner: from(secret...)},
		{name: "(e) `CLONE LOCAL`", prepare: b.nobody, do: b.cloneLocal},
		{name: "(f) (a), and the first start", prepare: tls.prepare, joiner: tls.joiner, start: true},
		{name: "(g) initialise, start, `CLONE INSTANCE`, start", prepare: b.nobody, do: b.cloneInstance, start: true},
	}
}

// cloneLocal is the server's own copy, beside its data.
func (b *bench) cloneLocal(ctx context.Context, dir string) error {
	_, err := b.member.Server.DB().ExecContext(ctx, "CLONE LOCAL DATA DIRECTORY = '"+filepath.Join(dir, "data")+"'")
	return err
}

// cloneInstance is what MySQL has for it: a server that has to be there, takes another one's data
// in place of its own, and ends.
func (b *bench) cloneInstance(ctx context.Context, dir string) error {
	data := filepath.Join(dir, "data")
	if err := b.install.Initialise(ctx, data, b.set.RootPassword()); err != nil {
		return err
	}
	s, err := b.install.Start(ctx, b.onCopy(data))
	if err != nil {
		return err
	}
	defer s.Kill()
	if _, err := s.DB().ExecContext(ctx, fmt.Sprintf("SET GLOBAL clone_valid_donor_list = '%s:3306'", b.member.Host)); err != nil {
		return err
	}
	_, err = s.DB().ExecContext(ctx, fmt.Sprintf("CLONE INSTANCE FROM 'root'@'%s':3306 IDENTIFIED BY '%s'", b.member.Host, b.set.RootPassword()))
	const noSupervisor = 3707 // the data are there, and the server ends, as nobody starts it again
	if e, ok := errors.AsType[*mysql.MySQLError](err); !ok || e.Number != noSupervisor {
		return fmt.Errorf("CLONE INSTANCE ended with: %w", err)
	}
	return nil
}

func (b *bench) onCopy(data string) testserver.Config {
	return testserver.Config{DataDir: data, RootPassword: b.set.RootPassword(), Extra: []string{"--plugin-load-add=mysql_clone.so", "--server-id=9", "--skip-replica-start"}}
}

// startOn starts a server on the copy, and returns when it answers.
func (b *bench) startOn(ctx context.Context, dir string) (stop func(), err error) {
	s, err := b.install.Start(ctx, b.onCopy(filepath.Join(dir, "data")))
	if err != nil {
		return nil, err
	}
	return s.Kill, nil
}

// commitEvery is the time between two commits of the writer whose latency is measured.
const commitEvery = 5 * time.Millisecond

// writeAlong commits a row from time to time, and says how long each commit took.
func writeAlong(ctx context.Context, db *sql.DB) (stop func() ([]time.Duration, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var took []time.Duration
	var failed error
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(commitEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			begun := time.Now()
			if _, err := db.ExecContext(context.WithoutCancel(ctx), "INSERT INTO shop.ticks () VALUES ()"); err != nil {
				failed = fmt.Errorf("the writer: %w", err)
				return
			}
			took = append(took, time.Since(begun))
		}
	})
	return func() ([]time.Duration, error) {
		cancel()
		done.Wait()
		slices.Sort(took)
		return took, failed
	}
}

// commits are the quantiles of the commits of all runs of a variant, in milliseconds.
func commits(all []sample) string {
	var took []time.Duration
	for _, s := range all {
		took = append(took, s.commits...)
	}
	if len(took) == 0 {
		return "-"
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("%.1f / %.1f / %.0f", ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1]))
}

// makeTicks makes the table of the writer.
func (b *bench) makeTicks(ctx context.Context) error {
	_, err := b.member.Server.DB().ExecContext(ctx, "CREATE TABLE shop.ticks (id BIGINT PRIMARY KEY AUTO_INCREMENT)")
	return err
}
