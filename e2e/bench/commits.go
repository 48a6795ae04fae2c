package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"understudy/e2e/testserver"
)

// writes says that somebody writes to the donor meanwhile. mariadb-backup looks for redo once a second
// while it lets no commit through: with a writer each variant takes a second more, which hides what is
// measured of small data.
func (b *bench) writes() bool { return b.install.Flavor == testserver.MySQL }

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
