package volume

import (
	"os"
	"path/filepath"
	"testing"

	"understudy/e2e/testserver"
)

// A server's locks are seen for as long as it lives, and no longer: also where it opens and closes
// its files itself meanwhile, which takes locks away. How it has ended is seen by its binary log.
func TestServed(t *testing.T) {
	for _, name := range []string{"mariadb-10.11", "mariadb-11.8", "mysql-9.7"} {
		in, err := testserver.All[name](t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testServed(t, in)
		})
	}
}

func testServed(t *testing.T, in testserver.Installation) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "mysql")
	must(in.Initialise(t.Context(), data, "root"))
	served := func(when string, want bool) {
		t.Helper()
		if is, err := Served(data); err != nil || is != want {
			t.Errorf("%s: served: %v, %v", when, is, err)
		}
	}
	leftOpen := func(when string, want bool) {
		t.Helper()
		if is, err := LeftOpen(data); err != nil || is != want {
			t.Errorf("%s: its binary log was left open: %v, %v", when, is, err)
		}
	}
	start := func() *testserver.Server {
		t.Helper()
		s, err := in.Start(t.Context(), testserver.Config{DataDir: data, RootPassword: "root", Extra: []string{"--log-bin=some", "--server-id=1"}})
		must(err)
		t.Cleanup(s.Kill)
		return s
	}
	served("before the start", false)
	s := start()
	served("runs", true)
	statements := []string{"CREATE DATABASE d", "CREATE TABLE d.t (a INT)", "ALTER TABLE d.t FORCE"}
	if in.Flavor == testserver.MySQL {
		statements = append(statements, "INSTALL PLUGIN clone SONAME 'mysql_clone.so'", "CREATE UNDO TABLESPACE more ADD DATAFILE 'more.ibu'",
			"CLONE LOCAL DATA DIRECTORY = '"+filepath.Join(dir, "copy")+"'")
	}
	for _, statement := range statements {
		_, err := s.DB().ExecContext(t.Context(), statement)
		must(err)
		served(statement, true)
	}
	must(s.Stop(t.Context()))
	served("stopped", false)
	leftOpen("stopped", false)
	s = start()
	served("runs again", true)
	s.Kill()
	served("killed", false)
	leftOpen("killed", true)
	must(os.RemoveAll(data))
	served("gone", false)
	leftOpen("gone", false)
}
