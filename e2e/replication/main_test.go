//go:build replication

// Package replication provokes every row of the table above replicate.Decide, and other events of a
// replicated set, on real servers of both flavours: three members with the built binary beside
// each, and a writer that never stops.
package replication

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// program is the program under test.
var program string

func TestMain(m *testing.M) {
	os.Exit(set.WithProgram(func(built string) int {
		program = built
		return m.Run()
	}))
}

// Each flavour has a set of its own, which goes through all scenarios. One that fails may leave the
// set in any state, so it ends the flavour's run.
func TestScenarios(t *testing.T) {
	mariaDB, err := testserver.MariaDB1011(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mySQL, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	passed := map[string]int{}
	t.Run("flavours", func(t *testing.T) {
		for _, in := range []testserver.Installation{mariaDB, mySQL} {
			count := new(int)
			t.Cleanup(func() { passed[in.Flavor] = *count })
			t.Run(in.Flavor, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, in)
				for _, s := range scenarios {
					if s.only != "" && s.only != in.Flavor {
						continue
					}
					if !t.Run(s.name, func(t *testing.T) { f.play(t, s) }) {
						return
					}
					*count++
				}
			})
		}
	})
	fmt.Printf("e2e-replication: mariadb %d passed, mysql %d passed\n", passed[testserver.MariaDB], passed[testserver.MySQL])
	for name, n := range passed {
		if want := howMany(name); n != want {
			t.Errorf("%s: %d of %d scenarios ran and passed", name, n, want)
		}
	}
}

func howMany(flavour string) (n int) {
	for _, s := range scenarios {
		if s.only == "" || s.only == flavour {
			n++
		}
	}
	return n
}

// Every row of the table has a scenario, on each flavour that can show it, and no scenario claims a
// row that is not there.
func TestRows(t *testing.T) {
	source, err := os.ReadFile("../../replicate/decide.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, line := range tableRows(string(source)) {
		rows[line] = true
	}
	if len(rows) < 30 {
		t.Fatalf("%d rows were found in the table", len(rows))
	}
	for _, flavour := range []string{testserver.MariaDB, testserver.MySQL} {
		missing := map[string]bool{}
		for row := range rows {
			missing[row] = !elsewhere[flavour][row]
		}
		for _, s := range scenarios {
			for _, row := range s.rows {
				if !rows[row] {
					t.Errorf("%s: the table has no row %q", s.name, row)
				}
				if s.only == "" || s.only == flavour {
					delete(missing, row)
				}
			}
		}
		for row, is := range missing {
			if is {
				t.Errorf("%s: no scenario provokes the row %q", flavour, row)
			}
		}
	}
}

// tableRows are the rows of the table above Decide: who, a blank, and what is seen, without marks
// of footnotes.
func tableRows(source string) (rows []string) {
	_, table, _ := strings.Cut(source, "//	-------  ")
	for _, line := range strings.Split(table, "\n")[1:] {
		text, is := strings.CutPrefix(line, "//	")
		if !is {
			break
		}
		who, rest, _ := strings.Cut(text, " ")
		seen, _, _ := strings.Cut(strings.TrimSpace(rest), "  ")
		rows = append(rows, who+" "+strings.TrimRight(seen, "⁰¹²³⁴⁵⁶⁷⁸⁹"))
	}
	return rows
}
