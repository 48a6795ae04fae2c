package engine

import (
	"context"
	"sync"
	"time"
)

const (
	// ddlEvery is how often the server is asked whether a statement waits for the clone.
	ddlEvery = 250 * time.Millisecond
	// ddlPatience is how long one may wait before the clone does not wait for its joiner any more: a
	// server that reaches its joiner is done with a file before.
	ddlPatience = 2
)

// waitsForClone finds the statements that wait until the clone has read a file, or has come to its next stage. The
// server reads on only when what it has read is off its hands.
const waitsForClone = "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_state IN " +
	"('Waiting for clone to close files', 'Waiting for clone state transition', 'Waiting for clone PAGE_COPY state')"

// orderly has f called by one goroutine at a time.
func orderly(f func(Stage)) func(Stage) {
	var mu sync.Mutex
	return func(s Stage) {
		mu.Lock()
		defer mu.Unlock()
		f(s)
	}
}

// watchDDL says HoldingDDL when statements wait for the clone, and Copying when none does any more. Call what it
// returns at the end.
func (s *snapshot) watchDDL(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(ddlEvery)
		defer tick.Stop()
		for waited := 0; ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			n, err := s.waiting(ctx)
			switch {
			case err != nil: // the clone fails by itself where the server is gone
			case n > 0:
				if waited++; waited == ddlPatience {
					s.log.Info("DDL waits for the clone: what the server sends goes to the volume meanwhile", "statements", n)
					s.reached(HoldingDDL)
				}
			case waited >= ddlPatience:
				s.log.Info("DDL waits for the clone no more")
				s.reached(Copying)
				waited = 0
			default:
				waited = 0
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (s *snapshot) waiting(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = s.db.QueryRowContext(ctx, waitsForClone).Scan(&n)
	return n, err
}
