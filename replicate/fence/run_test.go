package fence

import (
	"bytes"
	"errors"
	"fmt"
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

// A server whose permission is over is killed, and another one is started without permission.
func TestDeadline(t *testing.T) {
	r := runScript(t, `sleep 1000 & exec sleep 1000`) // two processes of one group
	s := r.status()
	machine := stalls()
	until := Now() + 400*time.Millisecond
	if _, err := r.Arm(t.Context(), Permission{Boot: s.Boot, Term: 3, Until: until}); err != nil {
		t.Fatal(err)
	}
	r.until("the server is dead", func() bool { return !alive(s.PID) })
	if late := Now() - until; late < 0 || late > 200*time.Millisecond+machine() {
		t.Errorf("killed %s after the deadline", late)
	}
	next := r.another(s)
	if next.Until != 0 || next.Term != 3 || next.Crashes != 0 || next.Last.Boot != s.Boot || next.Last.How != "killed: its permission ended" || next.Last.Code != 137 || !next.Last.Asked {
		t.Errorf("after it: %+v, last %+v", next, next.Last)
	}
	if out, err := exec.Command("pgrep", "-g", strconv.Itoa(s.PID)).Output(); err == nil { //nolint:noctx // it does not wait
		t.Errorf("processes of the killed group: %s", out)
	}
}

// The timers count CLOCK_BOOTTIME, Run's and the watchdog's.
func TestBootTime(t *testing.T) {
	r := runScript(t, forever)
	r.arm(r.status(), time.Minute)
	for _, pid := range []int{r.cmd.Process.Pid, r.child(WatchdogName)} {
		r.until("a timer of CLOCK_BOOTTIME that is set", func() bool {
			infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
			for _, path := range infos {
				info, _ := os.ReadFile(path)
				if bytes.Contains(info, []byte("clockid: 7\n")) && !bytes.Contains(info, []byte("it_value: (0, 0)")) {
					return true
				}
			}
			return false
		})
	}
}

// An extension holds, an earlier end does not shorten it, and Disarm ends it.
func TestExtended(t *testing.T) {
	r := runScript(t, forever)
	s := r.status()
	for range 12 {
		r.arm(s, 2*time.Second)
		r.arm(s, 200*time.Millisecond)
		time.Sleep(200 * time.Millisecond)
	}
	if _, err := r.Disarm(t.Context(), s.Boot, 1); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2200 * time.Millisecond)
	if now := r.status(); now.Boot != s.Boot || now.Until != 0 || !alive(s.PID) {
		t.Errorf("after Disarm: %+v", now)
	}
}

// Whoever is stopped, the server dies at the deadline.
func TestStopped(t *testing.T) {
	for name, stop := range map[string]func(r *running, s Status) []int{
		"the server":   func(_ *running, s Status) []int { return []int{s.PID} },
		"run":          func(r *running, _ Status) []int { return []int{r.cmd.Process.Pid} },
		"the watchdog": func(r *running, _ Status) []int { return []int{r.child(WatchdogName)} },
	} {
		t.Run(name, func(t *testing.T) {
			r := runScript(t, forever)
			s := r.status()
			pids := stop(r, s)
			r.arm(s, 500*time.Millisecond)
			for _, pid := range pids {
				if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			machine := stalls()
			until := Now() + 500*time.Millisecond
			r.until("the server is dead", func() bool { return !alive(s.PID) })
			if late := Now() - until; late > 400*time.Millisecond+machine() {
				t.Errorf("killed %s after the deadline", late)
			}
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
			if next := r.another(s); next.Last.How != "killed: its permission ended" || next.Crashes != 0 {
				t.Errorf("after it: %+v", next.Last)
			}
		})
	}
}

// A Run that is killed takes the server with it, and a watchdog that is killed comes back.
func TestKilled(t *testing.T) {
	t.Run("run", func(t *testing.T) {
		r := runScript(t, forever)
		s := r.status()
		r.signal(syscall.SIGKILL)
		r.until("the server is dead", func() bool { return !alive(s.PID) })
	})
	t.Run("the watchdog", func(t *testing.T) {
		r := runScript(t, forever)
		s := r.status()
		r.arm(s, 1500*time.Millisecond)
		first := r.child(WatchdogName)
		_ = syscall.Kill(first, syscall.SIGKILL)
		r.until("another watchdog", func() bool { return r.child(WatchdogName) != first })
		r.signal(syscall.SIGSTOP)
		r.until("the server is dead", func() bool { return !alive(s.PID) })
		r.signal(syscall.SIGCONT)
	})
}

// What a command names has to be what runs.
func TestRefused(t *testing.T) {
	r := runScript(t, forever)
	first := r.status()
	r.arm(first, time.Minute)
	if _, err := r.Kill(t.Context(), first.Boot, "a test"); err != nil {
		t.Fatal(err)
	}
	s := r.another(first)
	if s.Last.How != "killed: a test" {
		t.Errorf("ended: %s", s.Last.How)
	}
	in := func(d time.Duration) time.Duration { return Now() + d }
	for _, tt := range []struct {
		name string
		p    Permission
		want error
	}{
		{"an earlier server", Permission{first.Boot, 9, in(time.Minute)}, ErrBoot},
		{"no server", Permission{"", 9, in(time.Minute)}, ErrBoot},
		{"past", Permission{s.Boot, 9, Now()}, ErrPast},
		{"far", Permission{s.Boot, 9, in(Longest + time.Minute)}, ErrFar},
		{"allowed", Permission{s.Boot, 9, in(time.Minute)}, nil},
		{"an earlier term", Permission{s.Boot, 8, in(time.Minute)}, ErrTerm},
	} {
		if _, err := r.Arm(t.Context(), tt.p); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if _, err := r.Disarm(t.Context(), s.Boot, 8); !errors.Is(err, ErrTerm) {
		t.Errorf("Disarm of an earlier term: %v", err)
	}
	if _, err := r.Kill(t.Context(), first.Boot, ""); !errors.Is(err, ErrBoot) {
		t.Errorf("Kill of an earlier server: %v", err)
	}
	if now := r.status(); now.Boot != s.Boot || now.Term != 9 {
		t.Errorf("after refusals: %+v", now)
	}
}

// Signals reach the server; SIGTERM ends a server without permission gracefully, and Run has its
// status.
func TestSignals(t *testing.T) {
	const script = `trap 'echo hup' HUP; trap 'echo end; exit 7' TERM; echo up; while :; do sleep 0.05; done`
	r := runScript(t, script)
	r.until("it is up", func() bool { return strings.Contains(r.stdout.String(), "up\n") })
	r.signal(syscall.SIGHUP)
	r.until("HUP", func() bool { return strings.Contains(r.stdout.String(), "hup\n") })
	r.signal(syscall.SIGTERM)
	if code := r.code(); code != 7 || !strings.Contains(r.stdout.String(), "end\n") {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "run.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if _, err := r.Status(t.Context()); !errors.Is(err, ErrAway) {
		t.Errorf("Status: %v", err)
	}
}

// A server with a permission is killed on SIGTERM, after StopWait; a sidecar that disarms in time
// has it ended gracefully.
func TestStopWithPermission(t *testing.T) {
	const script = `trap 'echo end; exit 0' TERM; echo up; while :; do sleep 0.05; done`
	up := func(r *running) Status {
		r.until("it is up", func() bool { return strings.Contains(r.stdout.String(), "up\n") })
		return r.status()
	}
	t.Run("left", func(t *testing.T) {
		r := runScript(t, script)
		r.arm(up(r), time.Minute)
		began := time.Now()
		r.signal(syscall.SIGTERM)
		if code := r.code(); code != 137 || strings.Contains(r.stdout.String(), "end\n") || time.Since(began) < 500*time.Millisecond {
			t.Errorf("exit code %d after %s", code, time.Since(began))
		}
	})
	t.Run("disarmed", func(t *testing.T) {
		r := runScript(t, script, func(c *Config) { c.StopWait = time.Minute })
		s := up(r)
		r.arm(s, time.Minute)
		stopping := make(chan struct{})
		go func() {
			var once sync.Once
			_ = r.Watch(t.Context(), func(s Status) {
				if s.Stopping {
					once.Do(func() { close(stopping) })
				}
			})
		}()
		time.Sleep(50 * time.Millisecond) // it watches
		r.signal(syscall.SIGTERM)
		<-stopping
		if _, err := r.Disarm(t.Context(), s.Boot, 1); err != nil {
			t.Fatal(err)
		}
		if code := r.code(); code != 0 || !strings.Contains(r.stdout.String(), "end\n") {
			t.Errorf("exit code %d", code)
		}
	})
}

// A server that crashes is started again, with growing pauses, and not for ever; Run has its status
// then.
func TestCrashes(t *testing.T) {
	for name, tt := range map[string]struct {
		script, how string
		code        int
	}{
		"exit":   {`echo start >>starts; echo unknown variable >&2; exit 5`, "exit status 5", 5},
		"signal": {`echo start >>starts; echo unknown variable >&2; kill -SEGV $$`, "killed by SIGSEGV", 139},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			r := runScript(t, tt.script)
			var s Status
			r.until("the second one has ended, and its output was read", func() bool {
				s = r.status()
				return s.Crashes == 2 && len(s.Last.Output) > 0
			})
			if s.State != Pausing || s.Last.How != tt.how || s.Last.Code != tt.code || s.Last.Asked || strings.Join(s.Last.Output, "\n") != "unknown variable" {
				t.Errorf("%+v, last %+v", s, s.Last)
			}
			if code := r.code(); code != tt.code {
				t.Errorf("exit code %d", code)
			}
			starts, _ := os.ReadFile(filepath.Join(r.dir, "starts"))
			if n := bytes.Count(starts, []byte("\n")); n != 3 || time.Since(began) < time.Second {
				t.Errorf("%d starts in %s", n, time.Since(began))
			}
		})
	}
}

// A command that is not there is said at once.
func TestNoCommand(t *testing.T) {
	_, err := Run(Config{Command: []string{"no-such-server"}})
	if !errors.Is(err, ErrCommand) {
		t.Error(err)
	}
}

// Zombies are reaped, and what a server leaves behind is killed before the next one starts.
func TestOrphans(t *testing.T) {
	r := runScript(t, `setsid sleep 1001 & sh -c 'sleep 0.2 & echo $! >orphan; exit 0'; exec sleep 1000`)
	s := r.status()
	var orphan int
	r.until("the orphan", func() bool {
		text, _ := os.ReadFile(filepath.Join(r.dir, "orphan"))
		orphan, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return orphan > 0
	})
	r.until("the orphan is reaped", func() bool { return errors.Is(syscall.Kill(orphan, 0), syscall.ESRCH) })
	var stray int
	r.until("the stray", func() bool {
		out, _ := exec.Command("pgrep", "-P", strconv.Itoa(s.PID), "-f", "sleep 1001").Output() //nolint:noctx // it does not wait
		stray, _ = strconv.Atoi(strings.TrimSpace(string(out)))
		return stray > 0
	})
	_ = syscall.Kill(s.PID, syscall.SIGKILL)
	r.another(s)
	if alive(stray) {
		t.Error("a process of the server before lives on")
	}
}

// A watcher is told at once that the server died.
func TestWatch(t *testing.T) {
	r := runScript(t, forever)
	s := r.status()
	told := make(chan Status, 16)
	ended := make(chan error)
	go func() { ended <- r.Watch(t.Context(), func(s Status) { told <- s }) }()
	if first := <-told; first.Boot != s.Boot {
		t.Errorf("first told: %+v", first)
	}
	machine := stalls()
	_ = syscall.Kill(s.PID, syscall.SIGKILL)
	began := time.Now()
	for now := range told {
		if now.Boot != s.Boot && now.Last != nil {
			if took := time.Since(began); took > 200*time.Millisecond+machine() || now.Last.How != "killed by SIGKILL" {
				t.Errorf("told after %s: %+v", took, now.Last)
			}
			break
		}
	}
	r.signal(syscall.SIGKILL)
	if err := <-ended; err == nil {
		t.Error("Watch ended without an error")
	}
}

// Stop holds the server until Start; Restart ends it gracefully.
func TestStopAndStart(t *testing.T) {
	r := runScript(t, `trap 'echo end; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	ups := func(n int) {
		r.until("it is up", func() bool { return strings.Count(r.stdout.String(), "up\n") == n })
	}
	ups(1)
	s := r.status()
	if _, err := r.Stop(t.Context(), s.Boot, "a swap"); err != nil {
		t.Fatal(err)
	}
	r.until("it is held", func() bool { return r.status().State == Held })
	time.Sleep(1100 * time.Millisecond)
	if now := r.status(); now.PID != 0 || now.Starts != 1 || now.Last.How != "exit status 0" || !now.Last.Asked {
		t.Errorf("held: %+v", now)
	}
	if _, err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s = r.another(s)
	ups(2)
	if _, err := r.Restart(t.Context(), s.Boot, "another option"); err != nil {
		t.Fatal(err)
	}
	r.another(s)
	r.until("two graceful ends", func() bool { return strings.Count(r.stdout.String(), "end\n") == 2 }) // it is passed on later
}

// What is kept of the output is bounded, and has no password; all of it is passed on.
func TestOutput(t *testing.T) {
	var o output
	var passed bytes.Buffer
	var in strings.Builder
	for i := range 100 {
		fmt.Fprintf(&in, "line %d\n", i)
	}
	in.WriteString("GENERATED ROOT PASSWORD: geheim\n\n" + strings.Repeat("x", 100000) + "\nbad \xff byte\r\nunended")
	o.pass(strings.NewReader(in.String()), &passed)
	if passed.String() != in.String() {
		t.Error("not all was passed on")
	}
	kept := o.last()
	want := []string{"line 98", "line 99", "(a line about a password is left out)", strings.Repeat("x", keptBytes), "bad ? byte", "unended"}
	if got := kept[len(kept)-len(want):]; strings.Join(got, "\n") != strings.Join(want, "\n") || len(kept) != keptLines {
		t.Errorf("%d lines, the last %q", len(kept), got)
	}
}

// A log whose reader has gone, or does not read, stops neither the server nor the timer.
func TestLogWithoutReader(t *testing.T) {
	for name, gone := range map[string]bool{"gone": true, "does not read": false} {
		t.Run(name, func(t *testing.T) {
			from, to, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			if gone {
				_ = from.Close()
			}
			const script = `while :; do echo a line; echo another >&2; sleep 0.0001; done`
			r := runScript(t, script, func(c *Config) { c.Stdout, c.Stderr = to, to })
			_ = to.Close()
			time.Sleep(300 * time.Millisecond) // it prints
			s := r.status()
			if s.Starts != 1 {
				t.Errorf("it ended: %+v", s.Last)
			}
			r.arm(s, 300*time.Millisecond)
			machine := stalls()
			until := Now() + 300*time.Millisecond
			r.until("the server is dead", func() bool { return !alive(s.PID) })
			if late := Now() - until; late > 200*time.Millisecond+machine() {
				t.Errorf("killed %s after the deadline", late)
			}
			r.another(s)
		})
	}
}

// What servers print when they fail is told without what follows each failure.
func TestErrorLines(t *testing.T) {
	for _, tt := range []struct {
		name, printed, want string
	}{
		{"MySQL 9.7", "2026-11-29T09:00:00.1Z 0 [Warning] [MY-010099] [Server] Insecure configuration\n" +
			"2026-11-29T09:00:00.2Z 0 [ERROR] [MY-000067] [Server] unknown variable 'nonsense=1'.\n" +
			"2026-11-29T09:00:00.3Z 0 [ERROR] [MY-010119] [Server] Aborting\n" +
			"2026-11-29T09:00:01.0Z 0 [System] [MY-010910] [Server] /usr/sbin/mysqld: Shutdown complete", "exit status 1: [MY-000067] [Server] unknown variable 'nonsense=1'."},
		{"MariaDB", "2026-11-29  9:00:00 0 [ERROR] /usr/sbin/mariadbd: unknown variable 'nonsense=1'\n2026-11-29  9:00:00 0 [ERROR] Aborting", "exit status 1: /usr/sbin/mariadbd: unknown variable 'nonsense=1'"},
		{"many", "[ERROR] a\n[ERROR] b\n[ERROR] c\n[ERROR] d\n[ERROR] d", "exit status 1: b; c; d"},
		{"none", "ready", "exit status 1"},
	} {
		if got := (End{How: "exit status 1", Output: strings.Split(tt.printed, "\n")}).String(); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}
