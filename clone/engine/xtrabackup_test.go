package engine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"understudy/e2e/testserver"
	"understudy/replicate/flavor"

	"github.com/google/go-cmp/cmp"
)

func mysqlVersion(t *testing.T, text string) flavor.Version {
	t.Helper()
	v, err := flavor.ParseServer(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestXtraArgs(t *testing.T) {
	first := []string{"xtrabackup", "--defaults-file=/v/b/client.cnf", "--backup", "--stream=xbstream"}
	tests := []struct {
		name     string
		built    string
		parallel int
		want     []string
	}{
		{"2.4", "5.7.44", 1, []string{"--binlog-info=ON"}},
		{"2.4 in parallel", "5.7.44", 4, []string{"--binlog-info=ON"}},
		{"8.0.6", "8.0.14", 1, []string{"--lock-ddl=ON"}},
		{"8.0", "8.0.35", 2, []string{"--lock-ddl=ON"}},
		{"8.4", "8.4.0", 3, []string{"--lock-ddl=ON"}},
		{"9.1", "9.1.0", 4, []string{"--lock-ddl=ON"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := XtraBackup{Program: "xtrabackup", Parallel: tt.parallel}
			// Of a primary the tool says nothing, and 8.0 refuses the option of one with workers.
			for replica, more := range map[bool][]string{false: nil, true: {"--slave-info"}} {
				got := e.backupArgs(mysqlVersion(t, tt.built), replica, "/v/b/client.cnf", "/v/b/work")
				if d := cmp.Diff(slices.Concat(first, []string{fmt.Sprintf("--parallel=%d", tt.parallel), "--target-dir=/v/b/work"}, more, tt.want), got); d != "" {
					t.Error(replica, d)
				}
			}
		})
	}
	want := []string{"xtrabackup", "--defaults-file=/v/s/backup-my.cnf", "--prepare", "--use-memory=1048576", "--target-dir=/v/s"}
	if d := cmp.Diff(want, XtraBackup{Program: "xtrabackup"}.prepareArgs("/v/s", 1<<20)); d != "" {
		t.Error(d)
	}
}

func TestXtraOptions(t *testing.T) {
	for host, want := range map[string]string{"localhost": "127.0.0.1", "::1": "::1"} {
		got := string(xtraOptions(Account{Host: host, Port: 3306, User: "root", Password: `a"b`}))
		want := "[xtrabackup]\nhost=\"" + want + "\"\nport=3306\nuser=\"root\"\npassword=\"a\\\"b\"\nloose-no-version-check\nloose-get-server-public-key\n"
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
}

// fakeTool makes a program that says it is XtraBackup 8.4, and otherwise does as body says.
func fakeTool(t *testing.T, body string) XtraBackup {
	t.Helper()
	script := filepath.Join(t.TempDir(), "tool")
	writeScript(t, script, `case "$1" in --version) echo "xtrabackup version 8.4.0-5 based on MySQL server 8.4.0 Linux (x86_64) (revision id: 1)" >&2; exit;; esac
`+body)
	return XtraBackup{Program: script, Log: slog.New(slog.DiscardHandler)}
}

func TestXtraVersion(t *testing.T) {
	if v, err := fakeTool(t, "").Version(t.Context()); err != nil || v.String() != "mysql 8.4.0" {
		t.Errorf("got %v, %v", v, err)
	}
	if _, err := (XtraBackup{Program: "/nonexistent/tool"}).Version(t.Context()); !errors.Is(err, ErrTool) {
		t.Errorf("no tool: %v", err)
	}
}

func TestXtraBackupKeepsThePasswordToItself(t *testing.T) {
	e := fakeTool(t, `cat /proc/$$/cmdline /proc/$$/environ
echo "Executing FLUSH TABLES WITH READ LOCK..." >&2; echo "All tables unlocked" >&2
grep -c 'password="s3cret"' "${1#--defaults-file=}"; stat -c %a "${1#--defaults-file=}"`)
	var stages []Stage
	p, err := e.Backup(t.Context(), Account{Host: "127.0.0.1", Port: 3306, User: "root", Password: "s3cret"}, t.TempDir(), func(s Stage) { stages = append(stages, s) })
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(p.Stdout)
	if err = errors.Join(err, p.Stdout.Close(), p.Wait()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "s3cret") {
		t.Error("the password is in the tool's arguments or environment")
	}
	if !strings.Contains(string(out), "--lock-ddl=ON") || !strings.HasSuffix(string(out), "1\n600\n") {
		t.Errorf("the tool was given %q", out)
	}
	if d := cmp.Diff([]Stage{HoldingCommits, Finishing}, stages); d != "" {
		t.Error(d)
	}
}

func TestXtraPairing(t *testing.T) {
	tests := []struct {
		name, built, server string
		want                bool
	}{
		{"2.4 and 5.7", "5.7.26", "5.7.44-log", true},
		{"2.4 and Percona Server 5.7", "5.7.44", "5.7.44-48", true},
		{"2.4 and 5.6", "5.7.44", "5.6.51", true},
		{"2.4 and 8.0", "5.7.44", "8.0.36", false},
		{"2.4 and 5.5", "5.7.44", "5.5.62", false},
		{"2.3 and 5.6", "5.6.24", "5.6.51", false},
		{"8.0.6 and its own", "8.0.14", "8.0.14", true},
		{"8.0.6 and a newer one", "8.0.14", "8.0.15", false},
		{"8.0.33 and an older one", "8.0.33", "8.0.28", true},
		{"8.0.33 and a newer one", "8.0.33", "8.0.34", false},
		{"8.0.34 and a newer one", "8.0.34", "8.0.46", true},
		{"8.0.35 and an older one", "8.0.35", "8.0.20", true},
		{"8.0.35 and Percona Server", "8.0.35", "8.0.36-28", true},
		{"8.0 and 5.7", "8.0.35", "5.7.44", false},
		{"8.0 and 8.4", "8.0.35", "8.4.0", false},
		{"8.4 and 8.4", "8.4.0", "8.4.10", true},
		{"8.4 and 8.0", "8.4.0", "8.0.36", false},
		{"8.4 and 9.7", "8.4.0", "9.7.4", false},
		{"8.3 and 8.4", "8.3.0", "8.4.0", false},
		{"9.1 and 9.1", "9.1.0", "9.1.2", true},
		{"9.1 and 9.2", "9.1.0", "9.2.0", false},
		{"9.7 and 9.7", "9.7.1", "9.7.4", true},
		{"MariaDB", "8.0.35", "10.11.18-MariaDB", false},
		{"MariaDB of old, with a number of MySQL's", "5.7.44", "5.7.0-MariaDB", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := XtraBackup{Program: "xtrabackup"}.CheckPairing(mysqlVersion(t, tt.built), mysqlVersion(t, tt.server))
			if tt.want && err != nil {
				t.Error(err)
			}
			if !tt.want && (!errors.Is(err, ErrPairing) || !strings.Contains(err.Error(), xtraPairs)) {
				t.Errorf("err = %v, want ErrPairing with the table", err)
			}
		})
	}
}

// The words are those of the real tools, in their order.
func TestXtraStages(t *testing.T) {
	type step struct {
		line string
		want Stage
	}
	for name, steps := range map[string][]step{
		"8.0.35, InnoDB alone": {
			{"2025-07-28T01:01:33.024512+03:00 0 [Note] [MY-011825] [Xtrabackup] Using server version 8.0.42-0ubuntu0.24.04.2", ""},
			{"2025-07-28T01:01:33.026489+03:00 0 [Note] [MY-011825] [Xtrabackup] Executing LOCK INSTANCE FOR BACKUP ...", Waiting},
			{"2025-07-28T01:01:33.027167+03:00 0 [Note] [MY-011825] [Xtrabackup] uses posix_fadvise().", ""},
			{"2025-07-28T01:01:33.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] cd to /var/lib/mysql/", Copying},
			{"2025-07-28T01:01:34.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] Streaming ./ibdata1", ""},
			{"2025-07-28T01:01:35.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] >> log scanned up to (19200924)", ""},
			{"2025-07-28T01:01:36.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] Executing FLUSH NO_WRITE_TO_BINLOG BINARY LOGS", ""},
			{"2025-07-28T01:01:36.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] Selecting LSN and binary log position from p_s.log_status", ""},
			{"2025-07-28T01:01:36.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] Executing FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS...", ""},
			{"2025-07-28T01:01:36.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] Executing UNLOCK INSTANCE", ""},
			{"2025-07-28T01:01:36.027207+03:00 0 [Note] [MY-011825] [Xtrabackup] All tables unlocked", Finishing},
		},
		"8.0.26, with tables of MyISAM": {
			{"211119 20:46:07 Executing LOCK INSTANCE FOR BACKUP...", Waiting},
			{"xtrabackup: cd to /www/server/mysqldata/data3308/", Copying},
			{"211119 20:46:09 Executing FLUSH NO_WRITE_TO_BINLOG TABLES...", HoldingCommits},
			{"211119 20:46:09 Executing FLUSH TABLES WITH READ LOCK...", HoldingCommits},
			{"211119 20:46:09 [01] Streaming ./shop/legacy.MYD to <STDOUT>", ""},
			{"211119 20:46:10 Executing UNLOCK TABLES", ""},
			{"211119 20:46:10 All tables unlocked", Finishing},
		},
		"2.4 and Percona Server": {
			{"xtrabackup: cd to /var/lib/mysql", Copying},
			{"161122 13:37:08 Executing LOCK TABLES FOR BACKUP...", HoldingDDL},
			{"161122 13:37:08 Starting to backup non-InnoDB tables and files", ""},
			{"161122 13:37:09 Executing LOCK BINLOG FOR BACKUP...", HoldingCommits},
			{"161122 13:37:09 Executing UNLOCK BINLOG", ""},
			{"161122 13:37:09 All tables unlocked", Finishing},
		},
		"2.4 and MySQL": {
			{"xtrabackup: cd to /var/lib/mysql", Copying},
			{"180122 19:47:54 Executing FLUSH NO_WRITE_TO_BINLOG TABLES...", HoldingCommits},
			{"180122 19:47:54 Executing FLUSH TABLES WITH READ LOCK...", HoldingCommits},
			{"180122 19:47:55 All tables unlocked", Finishing},
		},
	} {
		r := &xtraStages{}
		for _, s := range steps {
			if got := r.read(s.line); got != s.want {
				t.Errorf("%s: %s: %q, want %q", name, s.line, got, s.want)
			}
		}
	}
}

func TestXtraPrepareMovesTheIndex(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"the data directory's", "./binlog.000002\n", "./binlog.000002\n"},
		{"another directory's", "/var/log/mysql/binlog.000002\n", "./binlog.000002\n"},
		{"without a directory", "binlog.000002\n", "./binlog.000002\n"},
		{"of a file that did not come", "/var/log/mysql/binlog.000001\n", "/var/log/mysql/binlog.000001\n"},
		{"empty", "", ""},
		{"an empty line", "\n", "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			index := filepath.Join(dir, "binlog.index")
			for path, text := range map[string]string{index: tt.text, filepath.Join(dir, "binlog.000002"): "\xfebin"} {
				if err := os.WriteFile(path, []byte(text), 0o640); err != nil { //nolint:gosec // a server's mode
					t.Fatal(err)
				}
			}
			// The tool sees what came, and has the last word on whether it is prepared.
			e := fakeTool(t, `cd "${4#--target-dir=}" && cat binlog.index > seen`)
			if err := e.Prepare(t.Context(), dir, 1<<20); err != nil {
				t.Fatal(err)
			}
			for name, want := range map[string]string{"binlog.index": tt.want, "seen": tt.text, "binlog.000002": "\xfebin"} {
				if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v; want %q", name, got, err, want)
				}
			}
		})
	}
	if err := fakeTool(t, "echo no redo >&2; exit 1").Prepare(t.Context(), t.TempDir(), 1<<20); !errors.Is(err, ErrTool) || !strings.Contains(err.Error(), "no redo") {
		t.Errorf("a prepare that failed: %v", err)
	}
}

// A server does not start when its index names a log that is not there, which is what an
// index of a donor with logs elsewhere does.
func TestXtraPrepareLetsTheServerStart(t *testing.T) {
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Skip(err)
	}
	s, _ := startInstallation(t, in, "--log-bin=binlog")
	execute(t, s.DB(), "CREATE DATABASE shop")
	cfg := s.Config()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(cfg.DataDir, "binlog.index")
	text, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	shipped := filepath.Base(lines[len(lines)-1])
	if err := os.WriteFile(index, []byte("/elsewhere/"+shipped+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = in.Start(t.Context(), cfg); err == nil {
		s.Kill()
		t.Error("the server started with the index as it came")
	}
	if err := fakeTool(t, "").Prepare(t.Context(), cfg.DataDir, 1<<20); err != nil {
		t.Fatal(err)
	}
	if s, err = in.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	var name string
	if err := s.DB().QueryRowContext(t.Context(), "SELECT SUBSTRING_INDEX(@@log_bin_basename, '/', -1)").Scan(&name); err != nil || name != "binlog" {
		t.Errorf("log_bin %q, %v", name, err)
	}
}
