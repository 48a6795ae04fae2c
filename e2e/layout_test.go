package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"understudy/e2e/load"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// Servers whose system tablespace has an unusual name, or whose InnoDB keeps files in other
// directories, keep their data over a restart. They can be cloned where only the name differs;
// otherwise the clone is refused with the reason before anything is written.
func TestLayouts(t *testing.T) {
	for _, in := range []func(*testing.T) testserver.Installation{install, mySQL} {
		in := in(t)
		t.Run(in.Flavor, func(t *testing.T) {
			t.Parallel()
			testLayouts(t, in)
		})
	}
}

func testLayouts(t *testing.T, in testserver.Installation) {
	t.Helper()
	settings := t.TempDir()
	ctx, s := newSet(t, in, func(c *set.Config) { c.InitFlags = []string{"--config-from=" + settings} })
	m0 := s.Member(0)
	// configure stops the member, moves the file that the pattern matches, and starts the member
	// with the options. init, which refuses a directory that it does not recognise, runs first.
	configure := func(pattern, to string, options ...string) {
		t.Helper()
		if err := errors.Join(m0.StopSidecar(ctx), m0.StopServer(ctx)); err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob(filepath.Join(m0.Live(), pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o750), os.Rename(names[0], to)); err != nil {
			t.Fatal(err)
		}
		text := "[mysqld]\n" + strings.Join(options, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(settings, "common.cnf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		up(ctx, t, m0)
	}
	up(ctx, t, m0)
	if err := load.Create(ctx, m0.Server.DB()); err != nil {
		t.Fatal(err)
	}
	const path = "innodb_data_file_path=system1:12M:autoextend"
	configure("ibdata1", filepath.Join(m0.Live(), "system1"), path)
	m1 := s.Member(1)
	_, finish := write(ctx, t, m0)
	up(ctx, t, m1)
	finish(m1)
	if err := errors.Join(m1.StopSidecar(ctx), m1.StopServer(ctx)); err != nil { // it has the settings of before
		t.Fatal(err)
	}

	redo := map[string]string{testserver.MariaDB: "ib_logfile0", testserver.MySQL: "#innodb_redo"}[in.Flavor]
	outside, inside := filepath.Join(t.TempDir(), "redo"), filepath.Join(m0.Live(), "redo")
	refused := func(reason string) {
		t.Helper()
		m2 := s.Member(2)
		r := initCode(ctx, t, m2, 3, "--members=1")
		if !strings.Contains(r.LastLine(), reason) {
			t.Errorf("last line %q, want %s", r.LastLine(), reason)
		}
		nothingBootable(t, m2)
	}
	configure(redo, filepath.Join(outside, redo), path, "innodb_log_group_home_dir="+outside)
	refused(fmt.Sprintf("innodb_log_group_home_dir is %s", outside))
	if in.Flavor == testserver.MySQL {
		return // the rest is the same
	}
	if err := os.Rename(filepath.Join(outside, redo), filepath.Join(m0.Live(), redo)); err != nil {
		t.Fatal(err)
	}
	configure(redo, filepath.Join(inside, redo), path, "innodb_log_group_home_dir="+inside)
	refused(fmt.Sprintf("innodb_log_group_home_dir is %s", inside))
	home := filepath.Join(t.TempDir(), "home")
	configure("system1", filepath.Join(home, "system1"), path, "innodb_log_group_home_dir="+inside, "innodb_data_home_dir="+home)
	refused(fmt.Sprintf("innodb_data_home_dir is %s", home))
}
