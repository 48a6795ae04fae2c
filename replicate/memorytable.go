package replicate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
)

// inMemory is the last question about a table's engine.
type inMemory struct {
	error, table string
}

// failedTable is where an applier's error names the table: "… event on table d.t; …".
var failedTable = regexp.MustCompile(`event on table ([^;]+?)\.([^;.]+); `)

// memoryTable is the MEMORY table in which a row was missing that the applier had to change; empty
// when that is not why it stopped. The account for clones sees the tables, but has no say in what
// is in them.
func (a *Agent) memoryTable(ctx context.Context, c *Channel) (string, error) {
	if c == nil || c.SQLRunning || c.SQLErrno != errKeyNotFound {
		return "", nil
	}
	if a.inMemory.error == c.SQLError {
		return a.inMemory.table, nil
	}
	of := failedTable.FindStringSubmatch(c.SQLError)
	if of == nil {
		return "", nil
	}
	db := a.logins.pool(a.logins.clone, a.logins.admin)
	defer func() { _ = db.Close() }()
	table := ""
	if err := db.QueryRowContext(ctx, queryMemory, of[1], of[2]).Scan(&table); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the engine of the table %s.%s: %w", of[1], of[2], err)
	}
	a.inMemory = inMemory{c.SQLError, table}
	return table, nil
}
