//go:build failover

package failover

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// linearTimeout bounds the search for an order of the operations on registers.
const linearTimeout = 5 * time.Minute

// register is one register: a read sees what was written last, and a change read that, too. A
// doubtful change is made, or is not.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byRegister := map[int][]porcupine.Operation{}
		for _, o := range history {
			k := o.Input.(use).register
			byRegister[k] = append(byRegister[k], o)
		}
		var all [][]porcupine.Operation
		for _, part := range byRegister {
			all = append(all, part)
		}
		return all
	},
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		u := input.(use)
		switch {
		case u.written == 0:
			return state == u.read, state
		case state == u.read:
			return true, u.written
		}
		return u.doubtful, state
	},
	DescribeOperation: func(input, _ any) string {
		u := input.(use)
		switch {
		case u.written == 0:
			return fmt.Sprintf("%d is %d", u.register, u.read)
		case u.doubtful:
			return fmt.Sprintf("%d from %d to %d?", u.register, u.read, u.written)
		}
		return fmt.Sprintf("%d from %d to %d", u.register, u.read, u.written)
	},
}

// linear checks that the operations on registers have an order in which each is right.
func (c *clients) linear() (fault string) {
	c.mu.Lock()
	history := slices.Clone(c.history)
	c.mu.Unlock()
	result, info := porcupine.CheckOperationsVerbose(register, history, linearTimeout)
	switch result {
	case porcupine.Ok:
		c.f.t.Logf("%d operations on registers are linearizable, %d of them without an answer", len(history), c.doubtful)
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("whether %d operations on registers are linearizable is not known after %v", len(history), linearTimeout)
	}
	path := filepath.Join(c.f.dir, "registers.html")
	if err := porcupine.VisualizePath(register, info, path); err != nil {
		path = err.Error()
	}
	return fmt.Sprintf("the operations on registers are not linearizable: %s", path)
}

// lost are acknowledged rows from the from'th on that a server lacks.
func (c *clients) lost(ctx context.Context, db *sql.DB, from int) (lost []int, seen int, err error) {
	c.mu.Lock()
	acked := slices.Clone(c.acked[from:])
	c.mu.Unlock()
	if len(acked) == 0 {
		return nil, 0, nil
	}
	rows, err := db.QueryContext(ctx, "SELECT n FROM acked.t WHERE n >= ?", slices.Min(acked))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = rows.Close() }()
	has := map[int]bool{} // n is the primary key: none is there twice
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return nil, 0, err
		}
		has[n] = true
	}
	for _, n := range acked {
		if !has[n] {
			lost = append(lost, n)
		}
	}
	return lost, len(acked), rows.Err()
}

// lostForGood are acknowledged rows that a server lacks, and still lacks some seconds after it has
// executed all: a replica of MariaDB has a transaction in its binary log, and so in
// gtid_binlog_state, before its rows can be read.
func (c *clients) lostForGood(ctx context.Context, db *sql.DB) (lost []int, err error) {
	late := 0
	for begun := time.Now(); time.Since(begun) < 5*time.Second; time.Sleep(20 * time.Millisecond) {
		if lost, _, err = c.lost(ctx, db, 0); err == nil && len(lost) == 0 {
			if late > 0 {
				c.f.t.Logf("%d rows could be read %v after it had executed them", late, time.Since(begun).Round(time.Millisecond))
			}
			break
		}
		late = len(lost)
	}
	return lost, err
}

// lose counts and tells lost rows.
func (c *clients) lose(where string, lost []int) {
	c.f.t.Helper()
	if len(lost) > 0 {
		c.f.found(len(lost), 0, fmt.Sprintf("%s lacks %d acknowledged rows: %v …", where, len(lost), lost[:min(len(lost), 20)]))
	}
}

// lookBack checks that the leader has what was acknowledged since the last call.
func (c *clients) lookBack(ctx context.Context) {
	c.f.t.Helper()
	c.mu.Lock()
	from := c.checked
	c.mu.Unlock()
	holder := c.f.lease(ctx).Holder
	if holder == "" {
		return
	}
	m := c.f.byName(holder)
	lost, seen, err := c.lost(ctx, m.Server.DB(), from)
	if err != nil {
		c.f.t.Logf("%s was not looked through: %v", holder, err)
		return
	}
	c.lose(holder, lost)
	c.mu.Lock()
	c.checked = from + seen
	c.mu.Unlock()
}

// check is the end: the clients have stopped. All members have each acknowledged row once and are
// equal, and the registers were linearizable.
func (c *clients) check(ctx context.Context) {
	c.f.t.Helper()
	f := c.f
	leader := f.byName(f.named(ctx, f.n-1).Holder)
	executed := f.executed(ctx, leader)
	sums := map[string][]string{}
	for i := range f.n {
		m := f.Member(i)
		f.awaitExecuted(ctx, m, executed)
		lost, err := c.lostForGood(ctx, m.Server.DB())
		if err != nil {
			f.t.Errorf("read the rows of %s: %v", m.Name(), err)
		}
		c.lose(m.Name(), lost)
		var all []string
		for _, table := range []string{"acked.t", "acked.r", "acked.h"} {
			var name string
			var sum sql.NullInt64
			if err := m.Server.DB().QueryRowContext(ctx, "CHECKSUM TABLE "+table).Scan(&name, &sum); err != nil || !sum.Valid {
				f.t.Errorf("read the checksum of %s at %s: %v", table, m.Name(), err)
			}
			all = append(all, fmt.Sprint(table, " ", sum.Int64))
		}
		word := strings.Join(all, ", ")
		sums[word] = append(sums[word], m.Name())
	}
	if len(sums) != 1 {
		f.t.Errorf("the members differ: %v", sums)
	}
	f.t.Logf("%d rows were acknowledged; checksums %v", c.count(), sums)
	if fault := c.linear(); fault != "" {
		f.t.Error(fault)
	}
}
