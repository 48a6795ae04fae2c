package gtid_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"understudy/e2e/testserver"
	"understudy/replicate/gtid"

	"github.com/go-sql-driver/mysql"
)

// startServer starts a fresh server for the test, or skips it where there is none.
func startServer(t *testing.T, in testserver.Installation, err error, options ...string) *sql.DB {
	t.Helper()
	if errors.Is(err, testserver.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := in.Initialise(t.Context(), dir, ""); err != nil {
		t.Fatal(err)
	}
	server, err := in.Start(t.Context(), testserver.Config{DataDir: dir, Extra: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server.DB()
}

// oneLine is the server's set without the line breaks, which are the only difference to ours.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "") }

// The server gives the same answers as we do, for thousands of pairs of sets. Many of the second
// sets are made of parts of the first, so that they are often subsets.
func TestSetsAgainstServer(t *testing.T) {
	in, err := testserver.MySQL97(t.Context(), "")
	db := startServer(t, in, err, "--performance-schema=OFF", "--skip-log-bin")
	t.Run("algebra", func(t *testing.T) { algebraAgainstServer(t, db) })
	t.Run("text", func(t *testing.T) { textAgainstServer(t, db) })
}

func algebraAgainstServer(t *testing.T, db *sql.DB) {
	t.Helper()
	const batches, batch = 25, 200
	r := random(t)
	subsets := 0
	for range batches {
		var pairs [batch][2]string
		var query []string
		var args []any
		for i := range pairs {
			a, _ := randomSet(r)
			b, _ := randomSet(r)
			switch r.IntN(3) {
			case 0:
				b = set(t, a).Subtract(set(t, b)).String()
			case 1:
				a += "," + b
			}
			pairs[i] = [2]string{a, b}
			query = append(query, "SELECT ?, GTID_SUBTRACT(?, ''), GTID_SUBSET(?, ?), GTID_SUBTRACT(?, ?), GTID_SUBTRACT(CONCAT(?, ',', ?), '')")
			args = append(args, i, a, b, a, a, b, a, b)
		}
		answers := ask(t, db, strings.Join(query, " UNION ALL "), args)
		if len(answers) != batch {
			t.Fatalf("%d answers to %d questions", len(answers), batch)
		}
		for _, is := range answers {
			a, b := set(t, pairs[is.pair][0]), set(t, pairs[is.pair][1])
			for _, check := range []struct{ name, got, want string }{
				{"print", a.String(), oneLine(is.printed)},
				{"subset", fmt.Sprint(a.Contains(b)), fmt.Sprint(is.subset)},
				{"subtract", a.Subtract(b).String(), oneLine(is.minus)},
				{"union", a.Union(b).String(), oneLine(is.union)},
			} {
				if check.got != check.want {
					t.Errorf("%s of %q: %q, the server says %q", check.name, pairs[is.pair], check.got, check.want)
				}
			}
			if is.subset {
				subsets++
			}
		}
	}
	if subsets < batches*batch/5 {
		t.Errorf("only %d of %d are subsets", subsets, batches*batch)
	}
	t.Logf("%d pairs, of which %d are subsets", batches*batch, subsets)
}

// answer is what the server says of one pair of sets.
type answer struct {
	pair                  int
	printed, minus, union string
	subset                bool
}

func ask(t *testing.T, db *sql.DB, query string, args []any) []answer {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var answers []answer
	for rows.Next() {
		var is answer
		if err := rows.Scan(&is.pair, &is.printed, &is.subset, &is.minus, &is.union); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, is)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return answers
}

// What we read, the server reads alike; what the server refuses, we refuse. What we alone refuse is
// what ParseSet's comment says: ranges that run backwards, and numbers that begin with 0.
func textAgainstServer(t *testing.T, db *sql.DB) {
	t.Helper()
	const texts = 3000
	r := random(t)
	refused, stricter := 0, 0
	for range texts {
		text, _ := randomSet(r)
		text = damage(r, text)
		var printed string
		err := db.QueryRowContext(t.Context(), "SELECT GTID_SUBTRACT(?, '')", text).Scan(&printed)
		if refusal := (*mysql.MySQLError)(nil); err != nil && !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		s, ourErr := gtid.ParseSet(text)
		switch {
		case err != nil && ourErr == nil:
			t.Errorf("%q is read as %q, the server refuses it: %v", text, s, err)
		case err != nil:
			refused++
		case ourErr != nil && !strings.Contains(ourErr.Error(), "runs backwards") && !strings.Contains(ourErr.Error(), `: "0`):
			t.Errorf("%q is refused, the server reads %q: %v", text, printed, ourErr)
		case ourErr != nil:
			stricter++
		case s.String() != oneLine(printed):
			t.Errorf("%q is read as %q, the server reads %q", text, s, printed)
		}
	}
	if refused < texts/5 {
		t.Errorf("only %d of %d texts are refused by both", refused, texts)
	}
	t.Logf("%d texts, %d refused by both, %d by us alone", texts, refused, stricter)
}

// damage changes up to two bytes of a text.
func damage(r *rand.Rand, text string) string {
	for range r.IntN(3) {
		at := r.IntN(len(text) + 1)
		with := pick(r, "", "0", "1", "7", "a", "_", ":", "-", ",", " ", "\n", "::", "x1:")
		text = text[:at] + with + text[min(len(text), at+r.IntN(2)):]
	}
	return text
}

// A server takes what we print, and we read what it prints, for random positions and binlog states.
func TestMariaDBAgainstServer(t *testing.T) {
	for _, name := range []string{"mariadb-10.11", "mariadb-11.8"} {
		t.Run(name, func(t *testing.T) {
			in, err := testserver.All[name](t.Context())
			db := startServer(t, in, err, "--log-bin=binlog")
			r := random(t)
			for range 40 { // each with two new binlogs, which are synced to disk
				list := randomList(r)
				binlog := state(t, list)
				if got, at := setState(t, db, list); !state(t, got).Equal(binlog) || binlog.Position().String() != at {
					t.Fatalf("%q is the state %q at %q, on the server %q at %q", list, binlog, binlog.Position(), got, at)
				}
				if got, _ := setState(t, db, binlog.String()); !state(t, got).Equal(binlog) {
					t.Fatalf("%q is printed as %q, which the server reads as %q", list, binlog, got)
				}
				// Unlike the state, the position has each domain once.
				p, err := gtid.ParsePosition(list)
				got, refused := setPosition(t, db, list)
				if (err == nil) != (refused == nil) {
					t.Fatalf("position %q: %v, the server says %v", list, err, refused)
				}
				if err != nil {
					p = binlog.Position()
					if got, err = setPosition(t, db, p.String()); err != nil {
						t.Fatal(err)
					}
				}
				if p.String() != got {
					t.Fatalf("%q is the position %q, on the server %q", list, p, got)
				}
			}
		})
	}
}

// setState sets gtid_binlog_state, which wants an empty log, and returns what the server makes of
// it, and its position.
func setState(t *testing.T, db *sql.DB, text string) (state, position string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), "RESET MASTER"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "SET GLOBAL gtid_binlog_state = ?", text); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRowContext(t.Context(), "SELECT @@gtid_binlog_state, @@gtid_binlog_pos").Scan(&state, &position); err != nil {
		t.Fatal(err)
	}
	return state, position
}

// setPosition sets gtid_slave_pos, and returns what the server makes of it, or its refusal.
func setPosition(t *testing.T, db *sql.DB, text string) (position string, refused error) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), "SET GLOBAL gtid_slave_pos = ?", text); err != nil {
		return "", err
	}
	if err := db.QueryRowContext(t.Context(), "SELECT @@gtid_slave_pos").Scan(&position); err != nil {
		t.Fatal(err)
	}
	return position, nil
}

// randomList makes up to 8 GTIDs of few domains and servers.
func randomList(r *rand.Rand) string {
	var list []string
	for range r.IntN(9) {
		list = append(list, gtid.GTID{
			Domain: pick[uint32](r, 0, 1, 2, 3, 10, 1<<32-1), Server: pick[uint32](r, 1, 2, 100, 101, 1<<32-1),
			Sequence: pick(r, r.Uint64N(20), r.Uint64()),
		}.String())
	}
	return strings.Join(list, ",")
}
