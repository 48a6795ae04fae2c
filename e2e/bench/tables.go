package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"understudy/e2e/testserver"

	"golang.org/x/sys/unix"
)

const (
	// tableBytes is what an empty table takes in MySQL, which has the larger ones: seven pages.
	tableBytes = 7 * 16 << 10
	// maxPartitions is how many one table may have.
	maxPartitions = 8192
)

const aboutTables = `Rows with more tables are of the same server with %d more of them: partitions, each with a file of its own. Their time is that of the files.

`

var errDescriptors = errors.New("mariadb-backup opens all files at once")

// descriptorsFor refuses more tables than mariadb-backup can open, which has half a thousand of the
// server's own besides.
func (o options) descriptorsFor(in testserver.Installation) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	const others = 500
	if in.Flavor == testserver.MariaDB && uint64(o.tables)+others > limit.Max { //nolint:gosec // not negative
		return fmt.Errorf("%w, and so many may be open: %d", errDescriptors, limit.Max)
	}
	return nil
}

// makeTables adds empty tables to the server: partitions, whose files are those of tables.
func (b *bench) makeTables(ctx context.Context) error {
	fmt.Printf("making %d tables\n", b.tables)
	for left := b.tables; left > 0; left -= maxPartitions {
		statement := fmt.Sprintf("CREATE TABLE shop.many_%d (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS %d", left, min(left, maxPartitions))
		if _, err := b.member.Server.DB().ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
	}
	return b.flush(ctx)
}

// inTables are the places of the variants that are run with many tables, the first one against the
// second one: over TLS, and the server's or the tool's own local copy; of MySQL up to a server that
// answers, too.
func (b *bench) inTables() []int {
	if b.install.Flavor == testserver.MySQL {
		return []int{variantTLS, variantLocal, variantFirst, variantInstead}
	}
	return []int{variantTLS, variantFloor}
}

// withTables are these variants.
func (b *bench) withTables() []variant {
	all := b.variants()
	var some []variant
	for _, i := range b.inTables() {
		v := all[i]
		v.name += fmt.Sprintf(", %d more tables", b.tables)
		some = append(some, v)
	}
	return some
}

// tableRatios are the wall times with many tables, each as a share of that of the row below it, and
// what a thousand tables more take.
func (r *report) tableRatios(tables int) {
	if len(r.many) == 0 {
		return
	}
	short := func(name string) string { before, _, _ := strings.Cut(name, " "); return before }
	of := func(name string) float64 { mid, _, _ := median(r.all[name], wall); return mid }
	fmt.Fprintf(r, "\nbench-clone: with %d more tables", tables)
	for i := 0; i+1 < len(r.many); i += 2 {
		a, b := r.many[i].name, r.many[i+1].name
		fmt.Fprintf(r, ", %s/%s = %.2f", short(a), short(b), of(a)/of(b))
	}
	first := r.many[0].name
	without := r.variants[0].name
	fmt.Fprintf(r, "; %.2f s for 1000 tables\n", (of(first)-of(without))*1000/float64(tables))
}
