package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"understudy/clone/xbstream"
	"understudy/replicate/flavor"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestArgs(t *testing.T) {
	e := MariaDBBackup{Program: "mariadb-backup", Parallel: 3}
	want := []string{
		"mariadb-backup", "--defaults-file=/v/b/client.cnf", "--backup", "--stream=xbstream", "--slave-info", "--parallel=3", "--target-dir=/v/b/work",
	}
	if d := cmp.Diff(want, e.backupArgs("/v/b/client.cnf", "/v/b/work")); d != "" {
		t.Error(d)
	}
	want = []string{"mariadb-backup", "--defaults-file=/v/s/backup-my.cnf", "--prepare", "--use-memory=1048576", "--target-dir=/v/s"}
	if d := cmp.Diff(want, e.prepareArgs("/v/s", 1<<20)); d != "" {
		t.Error(d)
	}
}

// Unless told otherwise, a backup reads with one thread for each core, but never with many.
func TestParallel(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for cores, want := range map[int]int{1: 1, 3: 3, 64: 4} {
		runtime.GOMAXPROCS(cores)
		if got := parallel(0); got != want {
			t.Errorf("%d threads on %d cores, want %d", got, cores, want)
		}
	}
	if got := parallel(9); got != 9 {
		t.Errorf("%d threads of 9", got)
	}
}

// The real tool says which layout it recovers: the copy's, not its own default.
func TestPrepareTakesTheCopysSettings(t *testing.T) {
	const layout = "ibdata1:12M;ibdata2:12M:autoextend"
	_, account := startServer(t, "--innodb-data-file-path="+layout)
	var said bytes.Buffer
	e := MariaDBBackup{Program: "mariadb-backup", Log: slog.New(slog.NewTextHandler(&said, nil))}
	p, err := e.Backup(t.Context(), account, t.TempDir(), func(Stage) {})
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = xbstream.Extract(t.Context(), p.Stdout, root, xbstream.Options{})
	if err = errors.Join(err, p.Stdout.Close(), p.Wait(), root.Close()); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	if err := e.Prepare(t.Context(), root.Name(), minPrepareMemory); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(said.String(), "innodb_data_file_path = "+layout) {
		t.Errorf("the tool said\n%s", &said)
	}
}

func TestOptionFileQuotes(t *testing.T) {
	got := string(optionFile("mariadb-backup", Account{Host: "127.0.0.1", Port: 3306, User: "root", Password: "a\"b\\c#d\ne"}, "protocol=tcp")) //nolint:gosec // a password to quote
	want := "[mariadb-backup]\nhost=\"127.0.0.1\"\nport=3306\nuser=\"root\"\npassword=\"a\\\"b\\\\c#d\\ne\"\nprotocol=tcp\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestBackupKeepsThePasswordToItself(t *testing.T) {
	dir := t.TempDir()
	// Any program shows what a tool is given: this one prints its arguments and environment.
	script := filepath.Join(t.TempDir(), "tool")
	writeScript(t, script, `cat /proc/$$/cmdline /proc/$$/environ; stat -c %a "${1#--defaults-file=}"`)
	e := MariaDBBackup{Program: script, Log: slog.New(slog.DiscardHandler)}
	p, err := e.Backup(t.Context(), Account{Host: "127.0.0.1", Port: 3306, User: "root", Password: "s3cret"}, dir, func(Stage) {})
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
	if !strings.HasSuffix(string(out), "600\n") {
		t.Errorf("mode of the option file: %q", out)
	}
}

func writeScript(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil { //nolint:gosec // it has to be executable
		t.Fatal(err)
	}
}

func TestChildFailure(t *testing.T) {
	p, err := child{argv: []string{"/bin/sh", "-c", "echo first >&2; echo the disk is on fire >&2; exit 3"}, stdout: true}.start(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, p.Stdout)
	_ = p.Stdout.Close()
	if err := p.Wait(); !errors.Is(err, ErrTool) || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "on fire") {
		t.Errorf("err = %v", err)
	}
	if _, err := (child{argv: []string{"/nonexistent/tool"}, stdout: true}).start(t.Context(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a missing tool started")
	}
}

// The reason comes first, and what a tool said before and after it later.
func TestChildFailureHasItsReason(t *testing.T) {
	chatter := func(n int) string {
		return fmt.Sprintf("for i in $(seq %d); do echo line $i of chatter >&2; done; ", n)
	}
	for _, tt := range []struct{ name, says, want string }{
		{
			"refused", chatter(30) + `echo "[ERROR] [MY-011825] [Xtrabackup] failed to execute query 'LOCK INSTANCE FOR BACKUP' : 1227 Access denied" >&2; ` + chatter(2) + `echo "[ERROR] giving up" >&2; exit 1`,
			"exit status 1: [ERROR] [MY-011825] [Xtrabackup] failed to execute query 'LOCK INSTANCE FOR BACKUP' : 1227 Access denied (its last lines: line 23",
		},
		{
			"crashed", `echo "[ERROR] InnoDB: no" >&2; echo "03:12:09 UTC - mysqld got signal 11 ;" >&2; ` + chatter(20) + `kill -SEGV $$`,
			"signal: segmentation fault: 03:12:09 UTC - mysqld got signal 11 ; (its last lines: line 9",
		},
		{"without a word of it", "echo hm >&2; exit 1", "exit status 1: hm"},
		{"nothing but it", "echo Error: no >&2; exit 1", "exit status 1: Error: no"},
	} {
		p, err := child{argv: []string{"/bin/sh", "-c", tt.says}}.start(t.Context(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "sh: "+tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestChildIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	// It ignores SIGTERM, and says its own pid.
	p, err := child{argv: []string{"/bin/sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done"}, stdout: true}.start(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, err := p.Stdout.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	cancel()
	err = p.Wait()
	_ = p.Stdout.Close()
	if !errors.Is(err, context.Canceled) || time.Since(begin) > patience { // it would go on for ever
		t.Errorf("stopped after %v: %v", time.Since(begin), err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("pid %d: %v, want it gone", pid, err)
	}
}

func TestPrepareMemory(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	tests := []struct {
		name string
		root fstest.MapFS
		want int64
	}{
		{"v2 in a container", fstest.MapFS{"sys/fs/cgroup/memory.max": file("1073741824\n"), "proc/self/cgroup": file("0::/\n")}, 1073741824 * 2 / 5},
		{"v2 without a limit and a word of our group", fstest.MapFS{"sys/fs/cgroup/memory.max": file("max\n"), "proc/meminfo": file("MemTotal: 9 kB\nMemAvailable:  4194304 kB\n")}, 1 << 30},
		{"v1 in a container", fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("536870912\n")}, 536870912 * 2 / 5},
		{"v1 without a limit", fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, freePrepareMemory},
		{"v1 deeper", fstest.MapFS{
			"proc/self/cgroup": file("5:memory:/kubepods/x\n"),
			"sys/fs/cgroup/memory/kubepods/x/memory.limit_in_bytes": file("1073741824\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":            file("9223372036854771712\n"),
		}, 1073741824 * 2 / 5},
		{"v2, the pod's limit", fstest.MapFS{
			"proc/self/cgroup": file("0::/kubepods.slice/pod1.slice/cri-1.scope\n"), "proc/meminfo": file("MemAvailable:  67108864 kB\n"),
			"sys/fs/cgroup/kubepods.slice/memory.max":                        file("68719476736\n"),
			"sys/fs/cgroup/kubepods.slice/pod1.slice/memory.max":             file("1073741824\n"),
			"sys/fs/cgroup/kubepods.slice/pod1.slice/cri-1.scope/memory.max": file("max\n"),
		}, 1073741824 * 2 / 5},
		{"v2 in a namespace, which hides the pod's limit", fstest.MapFS{
			"proc/self/cgroup": file("0::/\n"), "proc/meminfo": file("MemAvailable:  67108864 kB\n"), "sys/fs/cgroup/memory.max": file("max\n"),
		}, freePrepareMemory},
		{"v2 on the machine itself", fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "proc/meminfo": file("MemAvailable:  4194304 kB\n")}, 1 << 30},
		{"v1, the pod's limit", fstest.MapFS{
			"proc/self/cgroup": file("5:memory:/kubepods/pod1/1\n"), "proc/meminfo": file("MemAvailable:  67108864 kB\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
			"sys/fs/cgroup/memory/memory.stat":           file("cache 1\nhierarchical_memory_limit 1073741824\nhierarchical_memsw_limit 9223372036854771712\n"),
		}, 1073741824 * 2 / 5},
		{"v1 on the machine, the pod's limit", fstest.MapFS{
			"proc/self/cgroup": file("5:cpu,memory:/kubepods/pod1/1\n"),
			"sys/fs/cgroup/memory/kubepods/pod1/memory.limit_in_bytes":   file("1073741824\n"),
			"sys/fs/cgroup/memory/kubepods/pod1/1/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 1073741824 * 2 / 5},
		{"tiny", fstest.MapFS{"sys/fs/cgroup/memory.max": file("67108864\n")}, minPrepareMemory},
		{"huge", fstest.MapFS{"sys/fs/cgroup/memory.max": file("549755813888\n")}, maxPrepareMemory},
		{"nothing known", fstest.MapFS{}, freePrepareMemory},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := PrepareMemory(tt.root); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestCheckPairing(t *testing.T) {
	e := MariaDBBackup{Program: "mariadb-backup"}
	server := flavor.Version{Flavor: flavor.MariaDB, Major: 10, Minor: 11, Patch: 18}
	if err := e.CheckPairing(flavor.Version{Flavor: flavor.MariaDB, Major: 10, Minor: 11, Patch: 6}, server); err != nil {
		t.Error(err)
	}
	if err := e.CheckPairing(flavor.Version{Flavor: flavor.MariaDB, Major: 11, Minor: 8}, server); !errors.Is(err, ErrPairing) {
		t.Errorf("err = %v, want ErrPairing", err)
	}
}

// The words are those of the real tools, in their order.
func TestStages(t *testing.T) {
	type step struct {
		line string
		want Stage
	}
	for name, steps := range map[string][]step{
		"10.11.19 and 11.8.9, one lock after the other": {
			{"[00] 2026-11-26 00:17:39 Starting BACKUP STAGE START", Waiting},
			{"[00] 2026-11-26 00:17:39 Acquiring BACKUP LOCKS...", ""},
			{"[00] 2026-11-26 00:17:39 Acquired locks for BACKUP STAGE START", Copying},
			{"[00] 2026-11-26 00:17:39 Streaming ./shop/documents.ibd", ""},
			{"[00] 2026-11-26 00:17:39 Finished BACKUP STAGE FLUSH", ""},
			{"[00] 2026-11-26 00:17:39 Started BACKUP STAGE BLOCK_DDL", Waiting},
			{"[00] 2026-11-26 00:17:39 Acquired locks for BACKUP STAGE BLOCK_DDL", HoldingDDL},
			{"[00] 2026-11-26 00:17:39 Starting BACKUP STAGE BLOCK_COMMIT", HoldingCommits},
			{"[00] 2026-11-26 00:17:39 Acquired locks for BACKUP STAGE BLOCK_COMMIT", ""},
			{"[00] 2026-11-26 00:17:40 Finishing BACKUP STAGE BLOCK_COMMIT", ""},
			{"[00] 2026-11-26 00:17:40 All tables unlocked", Finishing},
		},
		"10.6, all locks in one go": {
			{"[01] 2023-01-01 00:00:00 Streaming ./shop/documents.ibd", ""},
			{"[00] 2023-01-01 00:00:00 Acquiring BACKUP LOCKS...", HoldingCommits},
			{"[00] 2023-01-01 00:00:00 All tables unlocked", Finishing},
		},
	} {
		r := &stageReader{}
		for _, s := range steps {
			if got := r.read(s.line); got != s.want {
				t.Errorf("%s: %s: %q, want %q", name, s.line, got, s.want)
			}
		}
	}
}
