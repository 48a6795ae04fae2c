package fence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests run Run in a process of its own: this test's program, as "run", and as the watchdog.
func TestMain(m *testing.M) {
	if os.Args[0] == WatchdogName {
		if err := Watchdog(); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	}
	if text := os.Getenv("FENCE_RUN"); text != "" {
		c := Config{Stdout: os.Stdout, Stderr: os.Stderr, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
		if err := json.Unmarshal([]byte(text), &configured{&c.Command, &c.Socket, &c.StopWait, &c.Crashes, &c.Within}); err != nil {
			panic(err)
		}
		end, err := Run(c)
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			os.Exit(120)
		}
		os.Exit(end.Code)
	}
	os.Exit(m.Run())
}

// configured is what a test says of a Config.
type configured struct {
	Command  *[]string
	Socket   *string
	StopWait *time.Duration
	Crashes  *int
	Within   *time.Duration
}

// running is a Run under test.
type running struct {
	*Client
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	stdout *lockedBuffer
	ended  chan struct{}
}

// runScript runs a shell script as the server.
func runScript(t *testing.T, script string, set ...func(*Config)) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "run") //nolint:usetesting // a socket's path is bounded at 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := Config{Command: []string{"sh", "-c", script}, Socket: filepath.Join(dir, "run.sock"), StopWait: 500 * time.Millisecond, Crashes: 2, Within: time.Minute}
	for _, f := range set {
		f(&c)
	}
	text, err := json.Marshal(configured{&c.Command, &c.Socket, &c.StopWait, &c.Crashes, &c.Within})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Client: NewClient(c.Socket), t: t, dir: dir, stdout: &lockedBuffer{}, ended: make(chan struct{})}
	r.cmd = exec.Command(os.Args[0]) //nolint:noctx,gosec // itself; ended below
	r.cmd.Env = append(os.Environ(), "FENCE_RUN="+string(text), "DIR="+dir)
	r.cmd.Dir = dir
	r.cmd.Stdout, r.cmd.Stderr = r.stdout, r.stdout
	if c.Stdout != nil {
		r.cmd.Stdout, r.cmd.Stderr = c.Stdout, c.Stderr
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() {
		r.Close()
		_ = r.cmd.Process.Kill()
		<-r.ended
		if t.Failed() {
			t.Log(r.stdout.String())
		}
	})
	r.until("Run answers", func() bool { _, err := r.Status(t.Context()); return err == nil })
	return r
}

// until waits for something, for a minute at most: a slow machine takes its time.
func (r *running) until(what string, holds func() bool) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	r.t.Fatalf("not in time: %s", what)
}

func (r *running) status() Status {
	r.t.Helper()
	s, err := r.Status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// another waits until another server runs than that of the status.
func (r *running) another(before Status) Status {
	r.t.Helper()
	var s Status
	r.until("another server", func() bool {
		s = r.status()
		return s.State == Running && s.Boot != before.Boot
	})
	return s
}

// code waits until Run has ended, and gives its exit code.
func (r *running) code() int {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(time.Minute):
		r.t.Fatal("Run has not ended")
	}
	return r.cmd.ProcessState.ExitCode()
}

func (r *running) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) arm(s Status, lasts time.Duration) {
	r.t.Helper()
	if _, err := r.Arm(r.t.Context(), Permission{Boot: s.Boot, Term: 1, Until: Now() + lasts}); err != nil {
		r.t.Fatal(err)
	}
}

// stalls watches by how much the machine wakes too late who sleeps. What it returns ends that, and is
// by how much Run and the test may be late for that alone: each of them is woken more than once.
func stalls() (allowed func() time.Duration) {
	end, said := make(chan struct{}), make(chan time.Duration)
	go func() {
		const pause = 5 * time.Millisecond
		var worst time.Duration
		for {
			begun := Now()
			select {
			case <-end:
				said <- 4 * worst
				return
			case <-time.After(pause):
				worst = max(worst, Now()-begun-pause)
			}
		}
	}()
	return func() time.Duration { close(end); return <-said }
}

// alive says that a process lives. A zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

// child is the id of the watchdog, or of another child of Run with that name.
func (r *running) child(name string) int {
	var pid int
	r.until("a child "+name, func() bool {
		out, _ := exec.Command("pgrep", "-P", strconv.Itoa(r.cmd.Process.Pid), "-f", name).Output() //nolint:noctx // it does not wait
		pid, _ = strconv.Atoi(strings.TrimSpace(string(out)))
		return pid > 0
	})
	return pid
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const forever = `exec sleep 1000`
