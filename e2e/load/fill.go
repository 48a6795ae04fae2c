package load

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
)

const (
	// batchBytes is about how much goes into one statement, commitBatches how many statements into
	// one commit.
	batchBytes, commitBatches = 1 << 20, 8
	linesOfOrder              = 3
	// documentsSent is how many documents are sent. The server makes the others in statements of so
	// many.
	documentsSent = 600
)

// filling is how one table is filled.
type filling struct {
	into    string // the table and its columns
	columns int
	size    int64 // mean bytes of a row
	row     func(random *rand.ChaCha8, i int64) []any
}

// Fill adds rows with about the given number of bytes to the tables, nine tenths of them in
// documents. The data do not compress much, and the same seed makes the same data, except for the
// times. It must not run beside a Load, nor twice with the same seed.
func Fill(ctx context.Context, db *sql.DB, seed uint64, bytes int64) error {
	var first int64
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) + 1 FROM shop.orders").Scan(&first); err != nil {
		return fmt.Errorf("fill shop: %w", err)
	}
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
		{customers, bytes * 2 / 100 / customers.size},
		{orders, orderRows},
		{lines, orderRows * linesOfOrder},
	} {
		if err := part.fill(ctx, db, random, part.rows); err != nil {
			return fmt.Errorf("fill %s: %w", part.into, err)
		}
	}
	if err := fillDocuments(ctx, db, random, bytes*90/100); err != nil {
		return fmt.Errorf("fill documents: %w", err)
	}
	return nil
}

// fillDocuments sends some documents and has the server make the others from them by encryption,
// which makes other bytes that do not compress. That is four times as fast as sending all: a server
// with a binary log spends most of its time on the texts of statements with blobs in them.
func fillDocuments(ctx context.Context, db *sql.DB, random *rand.ChaCha8, bytes int64) error {
	const copySQL = `INSERT INTO shop.documents (digest, body)
		SELECT UNHEX(LEFT(SHA2(CONCAT(?, id), 256), 32)), AES_ENCRYPT(body, ?) FROM shop.documents WHERE id BETWEEN ? AND ? ORDER BY id`
	const lastSQL = "SELECT COALESCE(MAX(id), 0) FROM shop.documents"
	var before, last int64
	if err := db.QueryRowContext(ctx, lastSQL).Scan(&before); err != nil {
		return fmt.Errorf("find the last one: %w", err)
	}
	sent := filling{"shop.documents (digest, body)", 2, (19*bodyBytes + bigBodyBytes) / 20, func(r *rand.ChaCha8, _ int64) []any {
		return []any{blob(r, 16), body(r)}
	}}
	rows := bytes / sent.size
	batch := min(rows, documentsSent)
	if err := sent.fill(ctx, db, random, batch); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, lastSQL).Scan(&last); err != nil {
		return fmt.Errorf("find the last one: %w", err)
	}
	for done := batch; done < rows; done += batch {
		key := random.Uint64()
		if _, err := db.ExecContext(ctx, copySQL, key, key, before+1, min(last, before+rows-done)); err != nil {
			return fmt.Errorf("copy: %w", err)
		}
	}
	return nil
}

// fill inserts a number of rows.
func (f filling) fill(ctx context.Context, db *sql.DB, random *rand.ChaCha8, rows int64) error {
	// A statement has at most 65535 parameters.
	inBatch := min(max(1, batchBytes/f.size), int64(65535/f.columns))
	for done := int64(0); done < rows; {
		end := min(rows, done+commitBatches*inBatch)
		if err := f.commit(ctx, db, random, done, end, inBatch); err != nil {
			return err
		}
		done = end
	}
	return nil
}

// commit inserts the rows [done, end) in one transaction.
func (f filling) commit(ctx context.Context, db *sql.DB, random *rand.ChaCha8, done, end, inBatch int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	for done < end {
		n := min(end-done, inBatch)
		args := make([]any, 0, n*int64(f.columns))
		for i := range n {
			args = append(args, f.row(random, done+i)...)
		}
		row := ", (?" + strings.Repeat(", ?", f.columns-1) + ")"
		insert := fmt.Sprintf("INSERT INTO %s VALUES %s", f.into, strings.Repeat(row, int(n))[2:]) //nolint:gosec // f.into is of this file
		if _, err := tx.ExecContext(ctx, insert, args...); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		done += n
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
