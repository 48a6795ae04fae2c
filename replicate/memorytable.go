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
// when that is not why it stopped.
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
	table, err := a.logins.inMemory(ctx, of[1], of[2])
	if err != nil {
		return "", err
	}
	a.inMemory = inMemory{c.SQLError, table}
	return table, nil
}

// inMemory is the name of a table of the engine MEMORY; empty where it is of another one, or is not
// there. The account for clones sees the tables, but has no say in what is in them.
func (l *logins) inMemory(ctx context.Context, schema, name string) (table string, err error) {
	db := l.pool(l.clone, l.admin)
	defer func() { _ = db.Close() }()
	if err := db.QueryRowContext(ctx, queryMemory, schema, name).Scan(&table); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read the engine of the table %s.%s: %w", schema, name, err)
	}
	return table, nil
}
