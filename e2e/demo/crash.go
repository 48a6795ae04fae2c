package main

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/set"

	"github.com/go-sql-driver/mysql"
)

const (
	// commitsAgain is how many commits after the crash say that writes are back.
	commitsAgain = 100
	// awayAtMost is when it is no use to wait any more.
	awayAtMost = time.Minute
)

// crash kills the primary's server under the writer, and says how long writes were away. That nothing
// acknowledged is missing is checked at the end, on each member.
func crash(ctx context.Context, s *set.Set, writer *load.Load, say func(string, ...any)) error {
	before, err := findPrimary(ctx, s)
	if err != nil {
		return err
	}
	if err := mayFailOver(ctx, before); err != nil {
		return err
	}
	pid, err := before.Server.ServerPid()
	if err != nil {
		return err
	}
	mark := writer.Mark()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the server of %s: %w", before.Name(), err)
	}
	for writer.Since(mark).Commits < commitsAgain {
		if ctx.Err() != nil || writer.Since(mark).Elapsed > awayAtMost {
			return fmt.Errorf("the server of %s was killed, and writes are not back after %v", before.Name(), writer.Since(mark).Elapsed.Round(time.Second))
		}
		time.Sleep(10 * time.Millisecond)
	}
	away := writer.Since(mark).LongestGap
	after, err := findPrimary(ctx, s)
	if err != nil {
		return err
	}
	again := "its server was started again, and it is the primary"
	if after != before {
		again = after.Name() + " is the primary now"
	}
	say("the server of %s was killed under the writer: writes were away for %.1f s; %s", before.Name(), away.Seconds(), again)
	for o := range members {
		if err := s.Member(o).AwaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mayFailOver waits until another member could lead, where a Lease names the primary.
func mayFailOver(ctx context.Context, primary *set.Member) error {
	ctx, cancel := context.WithTimeout(ctx, awayAtMost)
	defer cancel()
	for {
		_, metrics, err := primary.Get(ctx, "/metrics")
		if err == nil && !strings.Contains(metrics, "understudy_failover_possible 0") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no other member could lead: %w", errors.Join(ctx.Err(), err))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// writable connects to the member that is open for writes.
type writable struct{ set *set.Set }

// Driver implements driver.Connector.
func (writable) Driver() driver.Driver { return mysql.MySQLDriver{} }

var errNoPrimary = errors.New("no member is open for writes")

// Connect implements driver.Connector.
func (w writable) Connect(ctx context.Context) (driver.Conn, error) {
	m, err := findPrimary(ctx, w.set)
	if err != nil {
		return nil, mysql.ErrInvalidConn // as where nobody listens: it is tried again
	}
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "tcp", m.Host+":3306", "root", w.set.RootPassword()
	cfg.InterpolateParams, cfg.Logger = true, &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", m.Name(), err)
	}
	return connector.Connect(ctx)
}

// findPrimary finds the member that is open for writes.
func findPrimary(ctx context.Context, s *set.Set) (*set.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for o := range members {
		m := s.Member(o)
		if m.Server == nil {
			continue
		}
		var readOnly bool
		if err := m.Server.DB().QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&readOnly); err == nil && !readOnly {
			return m, nil
		}
	}
	return nil, errNoPrimary
}
