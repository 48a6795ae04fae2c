// Package load writes to a database server while tests and demonstrations do something to it, and
// afterwards proves what became of the writes: it keeps each transaction's outcome, how long
// commits took, and the position of the last commit.
package load

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// defaultTimeout bounds one transaction.
	defaultTimeout = 30 * time.Second
	// reconnectInterval is the time between two tries after a lost connection.
	reconnectInterval = 50 * time.Millisecond
)

// Config says how to write.
type Config struct {
	// Writers is how many connections write at once, none touching a row of another. Default: 1.
	Writers int
	// Seed determines what the rows contain; their ids, times and e-mail addresses differ from run
	// to run.
	Seed uint64
	// Rate is how many transactions each writer begins in a second at most. Default: no limit.
	Rate int
	// Timeout bounds a transaction, a server that no longer answers included. Default: 30 seconds.
	Timeout time.Duration
	// Reconnect makes Run go on after a lost connection, and while the server is read-only, as it
	// is after its start. Otherwise either ends it with an error.
	Reconnect bool
}

// Load is a workload on one server. Its methods may be called at the same time, but only one Run at
// a time.
type Load struct {
	db      *sql.DB
	cfg     Config
	writers []*writer
	stopped chan struct{}
	stop    sync.Once

	ledger   *ledger
	recorder recorder
	asking   sync.Mutex // for lastGTID: an earlier answer never replaces a later one
	lastGTID atomic.Pointer[string]
}

// New makes a workload for the server that db connects to; db stays the caller's to close.
func New(db *sql.DB, cfg Config) *Load {
	cfg.Writers = cmp.Or(cfg.Writers, 1)
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	l := &Load{db: db, cfg: cfg, stopped: make(chan struct{}), ledger: newLedger()}
	for number := range cfg.Writers {
		l.writers = append(l.writers, &writer{load: l, number: number, random: random(cfg.Seed, number)})
	}
	return l
}

// random is the source of a writer's rows.
func random(seed uint64, writer int) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(writer)) //nolint:gosec // a small number, or -1
	return rand.NewChaCha8(key)
}

// Run writes until ctx ends or Stop is called; running transactions are finished first. Neither is
// an error. Whatever else ends a writer ends Run with its error. Run may be called again after it
// returned: the ledger goes on.
func (l *Load) Run(ctx context.Context) error {
	dialect, err := detect(ctx, l.db)
	if err != nil {
		return fmt.Errorf("run load: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range l.writers {
		group.Go(func() error { return w.run(ctx, dialect) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("run load: %w", err)
	}
	return nil
}

// Stop ends the running Run, and any later one, without waiting for it. It may be called more than
// once.
func (l *Load) Stop() { l.stop.Do(func() { close(l.stopped) }) }

// LastGTID is the position that the server was at after the last acknowledged commit: it has that
// commit and all acknowledged before. It is "" if there was none, or if the server does not give
// GTIDs.
func (l *Load) LastGTID() string {
	if gtid := l.lastGTID.Load(); gtid != nil {
		return *gtid
	}
	return ""
}

// writer is one connection's worth of load. It is used by one goroutine at a time.
type writer struct {
	load   *Load
	number int
	random *rand.ChaCha8
	conn   *sql.Conn
	seq    uint64
	rows   rows
}

func (w *writer) run(ctx context.Context, dialect dialect) error {
	defer w.disconnect()
	var turn <-chan time.Time
	if w.load.cfg.Rate > 0 {
		ticker := time.NewTicker(time.Second / time.Duration(w.load.cfg.Rate))
		defer ticker.Stop()
		turn = ticker.C
	}
	for {
		if turn != nil && !w.wait(ctx, turn) || w.ended(ctx) {
			return nil
		}
		err := w.once(ctx, dialect)
		if err == nil {
			continue
		}
		lost := connectionLost(err)
		w.load.recorder.failed(lost)
		if !lost && !notOpen(err) || !w.load.cfg.Reconnect {
			return fmt.Errorf("transaction %d of writer %d: %w", w.seq, w.number, err)
		}
		w.disconnect()
		pause := time.NewTimer(reconnectInterval)
		if !w.wait(ctx, pause.C) {
			pause.Stop()
			return nil
		}
	}
}

// wait waits for the time and says whether it came before the end of the run.
func (w *writer) wait(ctx context.Context, at <-chan time.Time) bool {
	select {
	case <-at:
		return true
	case <-ctx.Done():
	case <-w.load.stopped:
	}
	return false
}

func (w *writer) ended(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-w.load.stopped:
		return true
	default:
		return false
	}
}

// once runs one transaction and records its outcome. The end of ctx does not interrupt it: the
// outcome would be unknown.
func (w *writer) once(ctx context.Context, dialect dialect) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.load.cfg.Timeout)
	defer cancel()
	if w.conn == nil {
		conn, err := w.load.db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		w.conn = conn
	}
	w.seq = w.load.ledger.begin()
	outcome := rolledBack
	defer func() { w.load.ledger.settle(w.seq, outcome) }()

	begun := time.Now()
	tx, err := w.conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	changed, err := w.write(ctx, tx)
	if err != nil {
		return errors.Join(err, rollback(tx))
	}
	outcome = uncertain
	committing := time.Now()
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	outcome = acknowledged
	w.load.recorder.committed(time.Since(committing), time.Since(begun))
	w.rows = changed

	return w.locate(ctx, dialect)
}

// locate asks for the position after a commit.
func (w *writer) locate(ctx context.Context, dialect dialect) error {
	w.load.asking.Lock()
	defer w.load.asking.Unlock()
	var gtid string
	if err := w.conn.QueryRowContext(ctx, dialect.written).Scan(&gtid); err != nil {
		return fmt.Errorf("read the commit's position: %w", err)
	}
	w.load.lastGTID.Store(&gtid)
	return nil
}

// rollback ends a transaction that failed. That the connection is gone is known already.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !connectionLost(err) && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

func (w *writer) disconnect() {
	if w.conn != nil {
		_ = w.conn.Close() // returns it to the pool, or drops it if it is broken
		w.conn = nil
	}
}
