package engine

import (
	"context"
	"sync"
	"time"
)

const (
	// ddlEvery is how often the server is asked whether DDL waits for the clone, ddlPatience for
	// how many times in a row a statement has to be seen before the clone does not wait for its
	// joiner any more.
	ddlEvery    = 250 * time.Millisecond
	ddlPatience = 3
)

// holdsTable finds the statements that nobody can use a table beside. One of them may wait until
// the clone has read the table's file, for the server goes on to read only when what it has read is
// off its hands; and behind a RENAME that waits so, even commits do. The server does not say for
// what it waits. CREATE TABLE waits for nothing here, and may take long.
//
// https://dev.mysql.com/doc/refman/8.4/en/performance-schema-metadata-locks-table.html
const holdsTable = "SELECT DISTINCT CAST(t.thread_id AS CHAR) FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id " +
	"WHERE l.lock_type = 'EXCLUSIVE' AND l.lock_status = 'GRANTED' AND l.object_type IN ('TABLE', 'SCHEMA', 'TABLESPACE') AND COALESCE(t.processlist_info, '') NOT LIKE 'CREATE TABLE%'"

// orderly has f called by one goroutine at a time.
func orderly(f func(Stage)) func(Stage) {
	var mu sync.Mutex
	return func(s Stage) {
		mu.Lock()
		defer mu.Unlock()
		f(s)
	}
}

// watchDDL says HoldingDDL while DDL may wait for the clone, and Copying when none does any more.
// Call what it returns at the end.
func (s *snapshot) watchDDL(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(ddlEvery)
		defer tick.Stop()
		seen, holding := map[string]int{}, false
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			longest := s.look(ctx, seen)
			if long := longest >= ddlPatience; long != holding {
				holding = long
				s.tellDDL(holding)
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func (s *snapshot) tellDDL(holding bool) {
	if !holding {
		s.log.Info("DDL does not wait for the clone any more")
		s.reached(Copying)
		return
	}
	s.log.Info("DDL may wait for the clone: what the server sends goes to the volume meanwhile")
	s.reached(HoldingDDL)
}

// look counts how many times in a row each statement was seen, and returns the largest number. A
// server that does not answer is one that waits.
func (s *snapshot) look(ctx context.Context, seen map[string]int) (longest int) {
	asked, cancel := context.WithTimeout(ctx, ddlPatience*ddlEvery)
	defer cancel()
	ids, err := column(asked, s.db, holdsTable)
	if err != nil {
		if asked.Err() != nil && ctx.Err() == nil {
			return ddlPatience
		}
		return 0 // the clone fails by itself where the server is gone
	}
	now := map[string]bool{}
	for _, id := range ids {
		now[id] = true
		seen[id]++
		longest = max(longest, seen[id])
	}
	for id := range seen {
		if !now[id] {
			delete(seen, id)
		}
	}
	return longest
}
