package load

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
)

const (
	// batchBytes is about how much goes into one statement, commitBatches how many statements into one commit.
	batchBytes, commitBatches = 1 << 20, 8
	linesOfOrder              = 3
)

// filling is how one table is filled.
type filling struct {
	into    string // the table and its columns
	columns int
	size    int64 // mean bytes of a row
	row     func(random *rand.ChaCha8, i int64) []any
}

// Fill adds rows with about the given number of bytes to the tables, nine tenths of them in documents, in the fastest
// way short of loading files. The data do not compress much, and the same seed makes the same data but for the
// times. It must not run beside a Load, nor twice with the same seed.
func Fill(ctx context.Context, db *sql.DB, seed uint64, bytes int64) error {
	var first int64
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) + 1 FROM shop.orders").Scan(&first); err != nil {
		return fmt.Errorf("fill shop: %w", err)
	}
	documents := filling{"shop.documents (digest, body)", 2, (19*bodyBytes + bigBodyBytes) / 20, func(r *rand.ChaCha8, _ int64) []any {
		return []any{blob(r, 16), body(r)}
	}}
	customers := filling{"shop.customers (email, name)", 2, 80, func(r *rand.ChaCha8, i int64) []any {
		return []any{fmt.Sprintf("%d.%d@fill.example", seed, i), text(r, 20)}
	}}
	orders := filling{"shop.orders (id, customer, note)", 3, 250, func(r *rand.ChaCha8, i int64) []any {
		return []any{first + i, below(r, 1_000_000), text(r, 200)}
	}}
	lines := filling{"shop.order_lines (order_id, line, sku, quantity, price)", 5, 50, func(r *rand.ChaCha8, i int64) []any {
		return []any{first + i/linesOfOrder, i % linesOfOrder, text(r, 16), below(r, 9), float64(below(r, 9999)) / 100}
	}}
	orderRows := bytes * 8 / 100 / (orders.size + linesOfOrder*lines.size)
	random := random(seed, -1)
	for _, part := range []struct {
		filling
		rows int64
	}{
		{documents, bytes * 90 / 100 / documents.size},
		{customers, bytes * 2 / 100 / customers.size},
		{orders, orderRows},
		{lines, orderRows * linesOfOrder},
	} {
		if err := part.fill(ctx, db, random, part.rows); err != nil {
			return fmt.Errorf("fill %s: %w", part.into, err)
		}
	}
	return nil
}

// fill inserts a number of rows.
func (f filling) fill(ctx context.Context, db *sql.DB, random *rand.ChaCha8, rows int64) error {
	// A statement has at most 65535 parameters.
	inBatch := min(max(1, batchBytes/f.size), int64(65535/f.columns))
	for done := int64(0); done < rows; {
		if rows-done < inBatch {
			inBatch = rows - done
		}
		end := min(rows, done+commitBatches*inBatch)
		end -= (end - done) % inBatch
		if err := f.commit(ctx, db, random, done, end, inBatch); err != nil {
			return err
		}
		done = end
	}
	return nil
}

// commit inserts the rows [done, end) in one transaction, in batches of the same size.
func (f filling) commit(ctx context.Context, db *sql.DB, random *rand.ChaCha8, done, end, inBatch int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	// Prepared, because most of a server's time would go into reading the literals of an ordinary statement.
	row := ", (?" + strings.Repeat(", ?", f.columns-1) + ")"
	insert, err := tx.PrepareContext(ctx, "INSERT INTO "+f.into+" VALUES "+strings.Repeat(row, int(inBatch))[2:])
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	defer func() { _ = insert.Close() }()
	args := make([]any, 0, inBatch*int64(f.columns))
	for ; done < end; done += inBatch {
		args = args[:0]
		for i := range inBatch {
			args = append(args, f.row(random, done+i)...)
		}
		if _, err := insert.ExecContext(ctx, args...); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
