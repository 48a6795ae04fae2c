package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/xbstream"
	"understudy/e2e/testserver"

	"golang.org/x/sync/errgroup"
)

const (
	largeTables, smallTables = 4, 200
	largeMiB                 = 24
)

// A tool that reads with several threads mixes the chunks of several files. What comes out of such
// a stream, made under a writer, is what the server has.
func TestParallelBackup(t *testing.T) {
	for name, find := range map[string]func() (testserver.Installation, error){
		"10.11": func() (testserver.Installation, error) { return testserver.MariaDB1011(t.Context()) },
		"11.8":  func() (testserver.Installation, error) { return testserver.MariaDB118(t.Context(), "") },
	} {
		t.Run(name, func(t *testing.T) {
			in, err := find()
			if err != nil {
				t.Skip(err)
			}
			s, account := startInstallation(t, in, "--log-bin=bin")
			fillTables(t, s.DB())
			want := checksums(t, s.DB())
			tool := MariaDBBackup{Program: in.Backup, Parallel: 4, Log: slog.New(slog.DiscardHandler)}
			stop := count(t, s.DB())
			dir, atOnce := unpack(t, tool, account)
			last := stop()
			if atOnce < 3 { // one thread has one open, beside the redo log
				t.Errorf("%d files at most were open at a time: nothing was mixed", atOnce)
			}
			if err := tool.Prepare(t.Context(), dir, minPrepareMemory); err != nil {
				t.Fatal(err)
			}
			replica, err := in.Start(t.Context(), testserver.Config{DataDir: dir, RootPassword: rootPassword})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(replica.Kill)
			if got := checksums(t, replica.DB()); got != want || got == "" {
				t.Errorf("the copy's checksums differ:\n%s\nwant\n%s", got, want)
			}
			var rows, to int
			if err := replica.DB().QueryRowContext(t.Context(), "SELECT COUNT(*), MAX(id) FROM shop.ticks").Scan(&rows, &to); err != nil || rows != to || rows < 1 || to > last {
				t.Errorf("the copy has %d ticks up to %d of %d: %v", rows, to, last, err)
			}
		})
	}
}

// fillTables makes tables of which nothing changes any more, and an empty one for a writer.
func fillTables(t *testing.T, db *sql.DB) {
	t.Helper()
	execute(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.ticks (id INT PRIMARY KEY)")
	for i := range largeTables {
		table := fmt.Sprintf("shop.large%d", i)
		execute(t, db, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v LONGBLOB)",
			fmt.Sprintf("INSERT INTO %s SELECT seq, RANDOM_BYTES(1024) FROM shop.seq_1_to_%d", table, largeMiB<<10))
	}
	for i := range smallTables {
		table := fmt.Sprintf("shop.small%d", i)
		execute(t, db, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v INT)", fmt.Sprintf("INSERT INTO %s VALUES (1, %d)", table, i))
	}
}

// checksums are those of the tables that do not change.
func checksums(t *testing.T, db *sql.DB) string {
	t.Helper()
	var names []string
	for i := range largeTables {
		names = append(names, fmt.Sprintf("shop.large%d", i))
	}
	for i := range smallTables {
		names = append(names, fmt.Sprintf("shop.small%d", i))
	}
	rows, err := db.QueryContext(t.Context(), "CHECKSUM TABLE "+strings.Join(names, ", "))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var all strings.Builder
	for rows.Next() {
		var name string
		var sum int64 // NULL of a table that is not there is an error
		if err := rows.Scan(&name, &sum); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, name, sum)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// count commits 1, 2, 3 and so on, until stop, which returns the last of them.
func count(t *testing.T, db *sql.DB) (stop func() (last int)) {
	t.Helper()
	end, last := make(chan struct{}), make(chan int)
	first := make(chan struct{})
	go func() {
		n := 0
		defer func() { last <- n }()
		for {
			select {
			case <-end:
				return
			case <-time.After(2 * time.Millisecond):
			}
			if _, err := db.ExecContext(t.Context(), "INSERT INTO shop.ticks VALUES (?)", n+1); err != nil {
				t.Errorf("tick %d: %v", n+1, err)
				return
			}
			if n++; n == 1 {
				close(first)
			}
		}
	}()
	<-first
	return func() int { close(end); return <-last }
}

// unpack makes a copy, and tells how many files of the stream were open at a time.
func unpack(t *testing.T, tool MariaDBBackup, a Account) (dir string, atOnce int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p, err := tool.Backup(ctx, a, t.TempDir(), func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "copy")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	from, to := io.Pipe()
	var g errgroup.Group
	g.Go(func() (err error) {
		atOnce, err = mostOpen(from)
		return err
	})
	_, err = xbstream.Extract(ctx, io.TeeReader(p.Stdout, to), root, xbstream.Options{})
	if err = errors.Join(err, to.CloseWithError(err), p.Stdout.Close(), p.Wait(), g.Wait()); err != nil {
		t.Fatal(err)
	}
	return dir, atOnce
}

// mostOpen is how many files of a stream have begun and not ended, at most at a time.
func mostOpen(stream io.Reader) (int, error) {
	open, most := map[string]bool{}, 0
	for r := xbstream.NewReader(stream); ; {
		c, err := r.Next()
		if errors.Is(err, io.EOF) {
			return most, nil
		}
		if err != nil {
			return 0, err
		}
		if c.Type == xbstream.End {
			delete(open, c.Path)
			continue
		}
		open[c.Path] = true
		most = max(most, len(open))
	}
}
