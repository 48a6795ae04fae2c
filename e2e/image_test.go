package e2e

import (
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// scripts writes scripts for /docker-entrypoint-initdb.d.
func scripts(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// theData are scripts that write the initial data in two halves, with a script between them.
func theData(t *testing.T, between string) string {
	t.Helper()
	return scripts(t, map[string]string{
		"10-first.sql":  "CREATE DATABASE app; CREATE TABLE app.t (a INT PRIMARY KEY); INSERT INTO app.t VALUES (1);\n",
		"20-between.sh": between,
		"30-second.sql": "INSERT INTO app.t VALUES (2);\n",
	})
}

func rows(ctx context.Context, t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM app.t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// says waits until /readyz contains a word.
func says(ctx context.Context, t *testing.T, m *set.Member, word string) {
	t.Helper()
	last := ""
	eventually(t, time.Minute, m.Name()+" says "+word, func() bool {
		status, body, err := m.Get(ctx, "/readyz")
		if err == nil && status == 200 {
			t.Fatalf("it is ready: %s", body)
		}
		last = body
		return err == nil && strings.Contains(body, word)
	})
	t.Log(last)
}

// The server's image is killed between root's password and the end of the scripts. The container is
// restarted, and skips the rest: a server answers, and accepts root's password, with half of the
// initial data.
func TestImageKilled(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m := s.Member(0)
	once := filepath.Join(t.TempDir(), "killed")
	m.Scripts = theData(t, "if [ ! -e "+once+" ]; then : >"+once+"; kill -9 $$; fi\n")
	initCode(ctx, t, m, 0)
	if err := m.StartSidecar(); err != nil {
		t.Fatal(err)
	}
	if err := m.StartServer(ctx); err == nil {
		t.Fatal("the image was not killed")
	}
	if err := m.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	if n := rows(ctx, t, m.Server.DB()); n != 1 {
		t.Fatalf("%d rows after the kill", n)
	}
	says(ctx, t, m, "interrupted")
	if err := s.Down(ctx); err != nil {
		t.Fatal(err)
	}
	up(ctx, t, m)
	if n := rows(ctx, t, m.Server.DB()); n != 2 {
		t.Errorf("%d rows", n)
	}
	// A clone brings the credentials of the health check of MariaDB's image.
	up(ctx, t, s.Member(1))
	for _, m := range []*set.Member{m, s.Member(1)} {
		out, err := exec.CommandContext(ctx, s.Install().Client, "--defaults-file="+filepath.Join(m.Live(), ".my-healthcheck.cnf"), "--protocol=tcp",
			"--host="+m.Host, "--batch", "--skip-column-names", "--execute=SELECT CURRENT_USER()").CombinedOutput()
		if err != nil || string(out) != "healthcheck@127.0.0.1\n" {
			t.Errorf("the health check of %s: %q, %v", m.Name(), out, err)
		}
	}
}

// A script that writes as another account than root works as with the image alone: the temporary
// server is not read-only, the real one is.
func TestImageScriptsWrite(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]testserver.Installation{"mariadb": install(t), "mysql": mySQL(t)} {
		t.Run(name, func(t *testing.T) {
			ctx, s := newSet(t, in, nil)
			m := s.Member(0)
			m.Scripts = scripts(t, map[string]string{
				"1.sql": "CREATE DATABASE app; CREATE USER app@'%' IDENTIFIED BY 'app'; GRANT ALL ON app.* TO app@'%';\n",
				"2.sh":  `MYSQL_PWD=app "$client" --no-defaults --protocol=socket --socket="$socket" -uapp app -e "CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (1)"` + "\n",
			})
			initCode(ctx, t, m, 0)
			if err := m.StartServer(ctx); err != nil {
				t.Fatal(err)
			}
			var readOnly bool
			if err := m.Server.DB().QueryRowContext(ctx, "SELECT @@GLOBAL.read_only").Scan(&readOnly); err != nil || !readOnly {
				t.Errorf("the real server: read_only %v, %v", readOnly, err)
			}
			if err := m.StartSidecar(); err != nil {
				t.Fatal(err)
			}
			if err := m.AwaitReady(ctx); err != nil {
				t.Fatal(err)
			}
			if n := rows(ctx, t, m.Server.DB()); n != 1 {
				t.Errorf("%d rows", n)
			}
		})
	}
}
