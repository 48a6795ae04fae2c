//go:build failover

package failover

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-sql-driver/mysql"
)

// clients append numbered rows, and read and change registers, through whoever is the primary. They
// note each answer; no answer is one that nobody knows.
type clients struct {
	f     *fixture
	dbs   []*sql.DB
	begun time.Time

	mu       sync.Mutex
	acked    []int // rows whose commit was acknowledged
	checked  int   // of acked, those that were looked for
	row      int   // the last number that was tried
	value    int   // the last value that a register was to get
	round    int   // each round has registers of its own
	doubtful int
	leader   int
	last     time.Time     // of an acknowledgement
	gap      time.Duration // the longest time between two, since the last call of away
	history  []porcupine.Operation
	err      error
}

const (
	appenders, changers = 3, 4
	// registers is how many registers a round has, rounds for how many there are some.
	registers, rounds = 6, 2000
	// patience is how long a client waits for an answer.
	patience = 2 * time.Second
	// between is a client's time between two operations.
	between = 50 * time.Millisecond
)

// connect makes pools of connections to all members.
func (f *fixture) connect(user, password string, patience time.Duration) []*sql.DB {
	f.t.Helper()
	var dbs []*sql.DB
	for i := range f.n {
		cfg := mysql.NewConfig()
		cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = "tcp", f.Member(i).Host+":3306", user, password
		cfg.Timeout, cfg.ReadTimeout = patience, patience
		cfg.InterpolateParams = true
		cfg.Logger = &mysql.NopLogger{}
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			f.t.Fatal(err)
		}
		db := sql.OpenDB(connector)
		f.t.Cleanup(func() { _ = db.Close() })
		dbs = append(dbs, db)
	}
	return dbs
}

// newClients makes the tables, and clients that do nothing yet.
func (f *fixture) newClients(ctx context.Context) *clients {
	f.t.Helper()
	c := &clients{f: f, dbs: f.connect(writerUser, writerPassword, patience), begun: time.Now()}
	conn, err := f.byName(f.lease(ctx).Holder).Server.DB().Conn(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	deep := "SET SESSION cte_max_recursion_depth = 1000000"
	if f.mariaDB {
		deep = "SET SESSION max_recursive_iterations = 1000000"
	}
	for _, text := range []string{
		"CREATE USER IF NOT EXISTS " + writerUser + "@'%' IDENTIFIED BY '" + writerPassword + "'", "GRANT ALL ON acked.* TO " + writerUser + "@'%'",
		"DROP DATABASE IF EXISTS acked", "CREATE DATABASE acked", "CREATE TABLE acked.t (n BIGINT PRIMARY KEY, server CHAR(36))", "CREATE TABLE acked.r (k INT PRIMARY KEY, v BIGINT NOT NULL)",
		"CREATE TABLE acked.h (n INT PRIMARY KEY AUTO_INCREMENT, b BINARY(200))", deep,
		fmt.Sprintf("INSERT INTO acked.r WITH RECURSIVE n (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k + 1 < %d) SELECT k, 0 FROM n", registers*rounds),
	} {
		if _, err := conn.ExecContext(ctx, text); err != nil {
			f.t.Fatalf("%s: %v", text, err)
		}
	}
	return c
}

// run has the clients work until stop is called.
func (c *clients) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range appenders + changers {
		do := c.appendRow
		if i >= appenders {
			do = c.useRegister
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				c.mu.Lock()
				at := c.leader
				c.mu.Unlock()
				if !do(ctx, i, c.dbs[at]) {
					c.turn(at)
				}
				time.Sleep(between)
			}
		})
	}
	stop = func() {
		cancel()
		wg.Wait()
	}
	c.f.t.Cleanup(stop)
	return stop
}

// turn has the clients try another member than the one that did not do it.
func (c *clients) turn(from int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leader == from {
		c.leader = (from + 1) % len(c.dbs)
	}
}

func (c *clients) now() int64 { return int64(time.Since(c.begun)) }

// committed notes the acknowledgement of a commit.
func (c *clients) committed() {
	now := time.Now()
	if !c.last.IsZero() {
		c.gap = max(c.gap, now.Sub(c.last))
	}
	c.last = now
}

// appendRow is an operation; false: the member did not take it.
func (c *clients) appendRow(ctx context.Context, _ int, db *sql.DB) bool {
	c.mu.Lock()
	c.row++
	n := c.row
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := db.ExecContext(ctx, "INSERT INTO acked.t VALUES (?, "+c.f.ofServer()+")", n) //nolint:gosec // one of two expressions
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.err = err
		return false
	}
	c.committed()
	c.acked = append(c.acked, n)
	return true
}

// use is an operation on a register: the value that was read and, of a change, the one that was
// written.
type use struct {
	register, read, written int
	// doubtful says that nobody knows whether the change was made.
	doubtful bool
}

// useRegister reads a register, or reads and changes it.
func (c *clients) useRegister(ctx context.Context, client int, db *sql.DB) bool {
	c.mu.Lock()
	u := use{register: c.round*registers + rand.IntN(registers)} //nolint:gosec // chance
	if rand.IntN(2) == 0 {                                       //nolint:gosec // chance
		c.value++
		u.written = c.value
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	called := c.now()
	do := c.readRegister
	if u.written != 0 {
		do = c.changeRegister
	}
	err := do(ctx, db, &u)
	returned := c.now()
	if u.doubtful {
		returned = 1<<62 - 1 // it may be made at any time
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.err = err
		if u.doubtful {
			c.doubtful++
		} else {
			return false
		}
	} else if u.written != 0 {
		c.committed()
	}
	c.history = append(c.history, porcupine.Operation{ClientId: client, Input: u, Call: called, Output: err == nil, Return: returned})
	return err == nil
}

// errClosed is returned for a read that does not count.
var errClosed = fmt.Errorf("the member is not open for writes")

// readRegister reads one at a member that is open for writes after that on the same connection: it
// was the leader.
func (c *clients) readRegister(ctx context.Context, db *sql.DB, u *use) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var open bool
	if err := conn.QueryRowContext(ctx, "SELECT v FROM acked.r WHERE k = ?", u.register).Scan(&u.read); err != nil {
		return err
	}
	if err := conn.QueryRowContext(ctx, "SELECT "+c.f.isOpen()).Scan(&open); err != nil {
		return err
	}
	if !open {
		return errClosed
	}
	return nil
}

// changeRegister reads and changes one in a transaction. Only an answer to COMMIT can be missing
// with the change made.
func (c *clients) changeRegister(ctx context.Context, db *sql.DB, u *use) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // without effect after a commit
	if err := tx.QueryRowContext(ctx, "SELECT v FROM acked.r WHERE k = ? FOR UPDATE", u.register).Scan(&u.read); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE acked.r SET v = ? WHERE k = ?", u.written, u.register); err != nil {
		return err
	}
	err = tx.Commit()
	u.doubtful = err != nil
	return err
}

// away is the longest time without an acknowledgement since the last call.
func (c *clients) away() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	gap := c.gap
	if !c.last.IsZero() {
		gap = max(gap, time.Since(c.last))
	}
	c.gap = 0
	return gap
}

func (c *clients) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// more waits for n further rows.
func (c *clients) more(ctx context.Context, n int) {
	c.f.t.Helper()
	begin := c.count()
	c.f.await(ctx, fmt.Sprintf("%d more rows are acknowledged", n), func() (bool, string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.acked)-begin >= n, fmt.Sprintf("%d, last error %v; %+v", len(c.acked)-begin, c.err, c.f.lease(ctx))
	})
}

// next begins a round, with registers of its own.
func (c *clients) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round = (c.round + 1) % rounds
}
