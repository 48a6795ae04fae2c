package testserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

const rootPassword = `it's a "pass\word"` //nolint:gosec // of servers that live for one test

// dataDirOfChild makes this test program another program, which starts a server on that data
// directory and waits. The server's name is its first argument.
const dataDirOfChild = "TESTSERVER_CHILD_DATA_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dataDirOfChild); dir != "" {
		child(context.Background(), dir)
	}
	goleak.VerifyTestMain(m)
}

func child(ctx context.Context, dataDir string) {
	in, err := All[os.Args[1]](ctx)
	if err != nil {
		panic(err)
	}
	s, err := in.Start(ctx, Config{DataDir: dataDir})
	if err != nil {
		panic(err)
	}
	fmt.Println(s.Pid())
	select {} // until it is killed
}

// found is an installed server. The test is skipped if it is not installed.
func found(t *testing.T, find func(context.Context) (Installation, error)) Installation {
	t.Helper()
	in, err := find(t.Context())
	if errors.Is(err, ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func initialised(t *testing.T, in Installation) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := in.Initialise(t.Context(), dir, rootPassword); err != nil {
		t.Fatal(err)
	}
	return dir
}

func started(t *testing.T, in Installation, cfg Config) *Server {
	t.Helper()
	cfg.RootPassword = rootPassword
	s, err := in.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

func query[T any](t *testing.T, s *Server, text string) T {
	t.Helper()
	var value T
	if err := s.DB().QueryRowContext(t.Context(), text).Scan(&value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

func exec1(t *testing.T, s *Server, text string) {
	t.Helper()
	if _, err := s.DB().ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestStart(t *testing.T) {
	for name, find := range All {
		t.Run(name, func(t *testing.T) {
			in := found(t, find)
			confDir := t.TempDir()
			conf := "[mysqld]\nperformance_schema = ON\nserver_id = 7\nmax_connections = 50\n"
			if err := os.WriteFile(filepath.Join(confDir, "a.cnf"), []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			s := started(t, in, Config{
				DataDir: initialised(t, in),
				ConfDir: confDir,
				Extra:   []string{"--max-connections=60"},
			})
			type settings struct{ PoolSize, PerformanceSchema, ServerID, MaxConnections int }
			var got settings
			row := s.DB().QueryRowContext(t.Context(),
				"SELECT @@innodb_buffer_pool_size, @@performance_schema, @@server_id, @@max_connections")
			if err := row.Scan(&got.PoolSize, &got.PerformanceSchema, &got.ServerID, &got.MaxConnections); err != nil {
				t.Fatal(err)
			}
			want := settings{PoolSize: 64 << 20, PerformanceSchema: 1, ServerID: 7, MaxConnections: 60}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("settings: defaults, then ConfDir, then Extra should count (-want +got):\n%s", diff)
			}
			if got := query[string](t, s, "SELECT @@version"); !strings.HasPrefix(got, in.Version) {
				t.Errorf("server is of version %s, the installation of %s", got, in.Version)
			}
			accounts := query[string](t, s, "SELECT GROUP_CONCAT(User, '@', Host ORDER BY User, Host) FROM mysql.user")
			wantAccounts := "mariadb.sys@localhost,root@%,root@localhost"
			if in.Flavor == MySQL {
				wantAccounts = "mysql.infoschema@localhost,mysql.session@localhost,mysql.sys@localhost,root@%,root@localhost"
			}
			if accounts != wantAccounts {
				t.Errorf("accounts %s, want %s", accounts, wantAccounts)
			}
			if _, err := os.Stat(s.Socket()); err != nil {
				t.Error(err)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(s.runDir); !os.IsNotExist(err) {
				t.Errorf("%s was left behind (%v)", s.runDir, err)
			}
		})
	}
}

func TestKillAndStartAgain(t *testing.T) {
	for name, find := range All {
		t.Run(name, func(t *testing.T) {
			in := found(t, find)
			s := started(t, in, Config{DataDir: initialised(t, in)})
			exec1(t, s, "CREATE DATABASE d")
			exec1(t, s, "CREATE TABLE d.t (a INT PRIMARY KEY) ENGINE=InnoDB")
			exec1(t, s, "INSERT INTO d.t VALUES (42)")
			s.Kill()
			<-s.Exited()

			again := started(t, in, s.Config())
			if got := query[int](t, again, "SELECT a FROM d.t"); got != 42 {
				t.Errorf("row has %d, want 42", got)
			}
			if again.Config().Addr != s.Config().Addr || again.Pid() == s.Pid() {
				t.Errorf("second server is process %d on %s", again.Pid(), again.Config().Addr)
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	in := found(t, MariaDB1011)
	dataDir := initialised(t, in)
	running := started(t, in, Config{DataDir: dataDir})
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"wrong option", Config{DataDir: t.TempDir(), Extra: []string{"--no-such-option"}}, "no-such-option"},
		{"address taken", running.Config(), "address already in use"},
		{"long socket", Config{DataDir: dataDir, Socket: "/tmp/" + strings.Repeat("x", 103)}, "longer than 107"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := in.Start(t.Context(), test.cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// The installed programs work together: backup, extraction, prepare, and a server on the result.
func TestPrograms(t *testing.T) {
	for name, find := range All {
		if strings.HasPrefix(name, MySQL) {
			continue // it has no backup tool
		}
		t.Run(name, func(t *testing.T) {
			in := found(t, find)
			source := started(t, in, Config{DataDir: initialised(t, in)})
			exec1(t, source, "CREATE DATABASE d")
			copied := filepath.Join(t.TempDir(), "copy")
			if err := os.Mkdir(copied, 0o750); err != nil {
				t.Fatal(err)
			}

			backup := exec.CommandContext(t.Context(), in.Backup, "--no-defaults", "--backup", "--stream=xbstream",
				"--user=root", "--password="+rootPassword, "--socket="+source.Socket(), "--target-dir="+t.TempDir())
			extract := exec.CommandContext(t.Context(), in.Mbstream, "-x", "-C", copied)
			var stream, report bytes.Buffer
			backup.Stdout, backup.Stderr, extract.Stdin = &stream, &report, &stream
			if err := errors.Join(backup.Run(), extract.Run()); err != nil {
				t.Fatalf("%v\n%s", err, tail(report.Bytes()))
			}
			out, err := exec.CommandContext(t.Context(), in.Backup, "--prepare", "--target-dir="+copied).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, tail(out))
			}
			replica := started(t, in, Config{DataDir: copied})
			if got := query[int](t, replica, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'd'"); got != 1 {
				t.Error("the copy lacks the source's database")
			}
		})
	}
}

// A server does not outlive a program that is killed, whether a wrapper starts it or not.
func TestServerDiesWithProgram(t *testing.T) {
	for _, name := range []string{"mariadb-10.11", "mysql-9.7"} {
		t.Run(name, func(t *testing.T) {
			in := found(t, All[name])
			program := exec.CommandContext(t.Context(), os.Args[0], name) //nolint:gosec // this test program itself
			program.Env = append(os.Environ(), dataDirOfChild+"="+initialised(t, in), "TMPDIR="+t.TempDir())
			out, err := program.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := program.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			_, scanErr := fmt.Fscan(out, &pid)
			if err := program.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = program.Wait() // killed
			if scanErr != nil {
				t.Fatal(scanErr)
			}
			deadline, ticker := time.After(time.Minute), time.NewTicker(10*time.Millisecond)
			defer ticker.Stop()
			for alive(pid) {
				select {
				case <-ticker.C:
				case <-deadline:
					t.Fatalf("server %d is still there", pid)
				}
			}
		})
	}
}

// alive says whether the process runs. A zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && syscall.Kill(pid, 0) == nil && !strings.Contains(string(stat), ") Z ")
}

func TestInitialiseRefusesData(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ibdata1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Installation{}).Initialise(t.Context(), dir, ""); err == nil {
		t.Error("no error for a directory that is not empty")
	}
}

func TestParseVersion(t *testing.T) {
	tests := []struct{ name, line, want string }{
		{"machine", "/usr/sbin/mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)", "10.11.19-MariaDB-0+deb12u1"},
		{"11.8", "/r/mariadbd  Ver 11.8.6-MariaDB-0+deb13u1 from Debian for debian-linux-gnu", "11.8.6-MariaDB-0+deb13u1"},
		{"none", "mariadbd: error while loading shared libraries", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseVersion(test.line)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("version %q, error %v, want %q", got, err, test.want)
			}
		})
	}
}
