package load

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
)

// schema is a shop's: narrow rows with a unique key, rows with secondary indexes, a composite key
// with a foreign key that deletes in cascade, and rows whose blobs partly lie off the page. ledger
// is the writers' own.
var schema = []string{
	`CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4`,
	`CREATE TABLE IF NOT EXISTS shop.customers (
		id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
		email VARCHAR(100) NOT NULL UNIQUE,
		name VARCHAR(60) NOT NULL,
		balance DECIMAL(14, 2) NOT NULL DEFAULT 0,
		updated TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
	) ENGINE = InnoDB`,
	`CREATE TABLE IF NOT EXISTS shop.orders (
		id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
		customer BIGINT NOT NULL,
		state ENUM('open', 'paid', 'sent') NOT NULL DEFAULT 'open',
		placed DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
		note VARCHAR(300) NULL,
		KEY (customer, placed), KEY (state)
	) ENGINE = InnoDB`,
	`CREATE TABLE IF NOT EXISTS shop.order_lines (
		order_id BIGINT NOT NULL,
		line SMALLINT NOT NULL,
		sku CHAR(16) CHARACTER SET ascii NOT NULL,
		quantity INT NOT NULL,
		price DOUBLE NOT NULL,
		PRIMARY KEY (order_id, line),
		FOREIGN KEY (order_id) REFERENCES shop.orders (id) ON DELETE CASCADE
	) ENGINE = InnoDB`,
	`CREATE TABLE IF NOT EXISTS shop.documents (
		id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
		digest BINARY(16) NOT NULL,
		body MEDIUMBLOB NOT NULL,
		KEY (digest)
	) ENGINE = InnoDB`,
	`CREATE TABLE IF NOT EXISTS shop.ledger (
		run BIGINT NOT NULL,
		seq BIGINT NOT NULL,
		PRIMARY KEY (run, seq)
	) ENGINE = InnoDB`,
}

var tables = []string{"shop.customers", "shop.orders", "shop.order_lines", "shop.documents", "shop.ledger"}

// Create makes the schema shop and its tables, unless they are there.
func Create(ctx context.Context, db *sql.DB) error {
	for _, statement := range schema {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			name, _, _ := strings.Cut(statement, "\n")
			return fmt.Errorf("create shop (%s): %w", name, err)
		}
	}
	return nil
}

const (
	// customersOfWriter is how many customers a writer makes before it takes one that it has.
	customersOfWriter = 100
	// deletePercent is how many of a hundred transactions delete an order.
	deletePercent = 25
	// bodyBytes is the size of a document: two such rows fill a page of 16 KiB. bigBodyBytes is
	// that of one in twenty.
	bodyBytes, bigBodyBytes = 7400, 100_000
)

// rows are the ids of the rows that a writer has committed. A copy may be changed without changing
// the original.
type rows struct {
	customers []int64
	orders    []order // oldest first
}

type order struct{ id, document int64 }

// write does the statements of one transaction and returns what the writer's rows are once it is
// committed.
func (w *writer) write(ctx context.Context, tx *sql.Tx) (rows, error) {
	var failed error
	do := func(statement string, args ...any) (id int64) { // id is that of a new row
		if failed != nil {
			return 0
		}
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			failed = fmt.Errorf("%s: %w", statement, err)
			return 0
		}
		id, failed = result.LastInsertId()
		return id
	}
	now := w.rows
	do("INSERT INTO shop.ledger (run, seq) VALUES (?, ?)", w.load.ledger.run, w.seq)

	if len(now.customers) < customersOfWriter {
		email := fmt.Sprintf("%d.%d@shop.example", w.load.ledger.run, w.seq)
		id := do("INSERT INTO shop.customers (email, name) VALUES (?, ?)", email, text(w.random, 20))
		now.customers = append(now.customers, id)
	}
	customer := now.customers[below(w.random, len(now.customers))]
	do("UPDATE shop.customers SET balance = balance + ? WHERE id = ?", below(w.random, 1000), customer)

	var made order
	made.id = do("INSERT INTO shop.orders (customer, note) VALUES (?, ?)", customer, text(w.random, below(w.random, 300)))
	for line := range 1 + below(w.random, 3) {
		do("INSERT INTO shop.order_lines (order_id, line, sku, quantity, price) VALUES (?, ?, ?, ?, ?)",
			made.id, line, text(w.random, 16), below(w.random, 9), float64(below(w.random, 9999))/100)
	}
	made.document = do("INSERT INTO shop.documents (digest, body) VALUES (?, ?)", blob(w.random, 16), body(w.random))
	now.orders = append(now.orders, made)

	do("UPDATE shop.orders SET state = 'paid' WHERE id = ?", now.orders[below(w.random, len(now.orders))].id)
	if below(w.random, 100) < deletePercent {
		do("DELETE FROM shop.orders WHERE id = ?", now.orders[0].id)
		do("DELETE FROM shop.documents WHERE id = ?", now.orders[0].document)
		now.orders = now.orders[1:]
	}
	return now, failed
}

// below returns a number of [0, n).
func below(random *rand.ChaCha8, n int) int {
	return int(random.Uint64() % uint64(n)) //nolint:gosec // n is small and positive
}

// blob returns n bytes that do not compress.
func blob(random *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	_, _ = random.Read(b) // never fails
	return b
}

// text returns n hexadecimal digits.
func text(random *rand.ChaCha8, n int) string { return hex.EncodeToString(blob(random, n/2+1))[:n] }

// body returns a document.
func body(random *rand.ChaCha8) []byte {
	if below(random, 20) == 0 {
		return blob(random, bigBodyBytes)
	}
	return blob(random, bodyBytes)
}
