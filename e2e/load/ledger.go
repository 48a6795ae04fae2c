package load

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

// outcome is what is known of a transaction.
type outcome uint8

const (
	underWay     outcome = iota
	rolledBack           // COMMIT was never sent
	uncertain            // COMMIT was sent and not acknowledged
	acknowledged         // the server said that COMMIT succeeded
)

// ledger keeps the outcome of each transaction. The transactions themselves write their numbers
// into shop.ledger.
type ledger struct {
	run int64 // tells the numbers in shop.ledger from those of other Loads

	mu       sync.Mutex
	outcomes []outcome // of the transactions 1, 2, …
}

func newLedger() *ledger { return &ledger{run: time.Now().UnixNano()} }

// begin returns the number of a new transaction.
func (l *ledger) begin() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes = append(l.outcomes, underWay)
	return uint64(len(l.outcomes))
}

func (l *ledger) settle(seq uint64, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outcomes[seq-1] = o
}

// VerifyLedger checks that the server that db connects to, the written one or a replica of it, has
// each transaction whose commit was acknowledged before the call, and none that was never
// committed. Those whose commit got no answer may be there or not. A replica must have applied
// LastGTID before.
func (l *Load) VerifyLedger(ctx context.Context, db *sql.DB) error {
	l.ledger.mu.Lock()
	known := append([]outcome(nil), l.ledger.outcomes...)
	l.ledger.mu.Unlock()

	present := make([]bool, len(known))
	rows, err := db.QueryContext(ctx, "SELECT seq FROM shop.ledger WHERE run = ? AND seq <= ?", l.ledger.run, len(known))
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err has its error
	for rows.Next() {
		var seq uint64
		if err := rows.Scan(&seq); err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
		present[seq-1] = true
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	return compare(known, present)
}

// compare compares what is known of the transactions 1, 2, … with what is in the table.
func compare(known []outcome, present []bool) error {
	var missing, unexpected []int
	total := 0
	for i, o := range known {
		if o == acknowledged {
			total++
		}
		switch {
		case o == acknowledged && !present[i]:
			missing = append(missing, i+1)
		case o == rolledBack && present[i]:
			unexpected = append(unexpected, i+1)
		}
	}
	var errs []error
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("%d of %d acknowledged commits are missing: %s", len(missing), total, few(missing)))
	}
	if len(unexpected) > 0 {
		errs = append(errs, fmt.Errorf("%d transactions are there that were rolled back: %s", len(unexpected), few(unexpected)))
	}
	return errors.Join(errs...)
}

// few shows the first and the last of some numbers in ascending order.
func few(numbers []int) string {
	if len(numbers) <= 5 {
		return fmt.Sprint(numbers)
	}
	return fmt.Sprintf("%v … %d", numbers[:4], numbers[len(numbers)-1])
}
