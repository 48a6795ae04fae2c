package fence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Nothing that comes over the socket, and nobody who does not read, stops the timer or the answers
// to others.
func TestHostile(t *testing.T) {
	r := runScript(t, forever)
	s := r.status()
	r.arm(s, time.Minute)
	path := filepath.Join(r.dir, "run.sock")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v %v", info, err)
	}
	connect := func() net.Conn {
		conn, err := net.Dial("unix", path) //nolint:noctx // it is there
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		return conn
	}
	for _, line := range []string{
		"garbage\n", "\n", "{}\n", `{"version":2,"do":"kill"}` + "\n", `{"version":1,"do":"explode"}` + "\n",
		`{"version":1,"do":"kill","boot":"","later":1}` + "\n", `{"version":1,"do":"arm","until":-1,"term":-1}` + "\n",
		`{"version":1,"do":"arm","until":1e99}` + "\n", "\x00\xff\n", strings.Repeat("[", 4000) + "\n",
	} {
		conn := connect()
		_, _ = io.WriteString(conn, line)
		if said, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(said, `"refused":"request"`) {
			t.Errorf("%.40q is answered with %q, %v", line, said, err)
		}
	}
	long := connect()
	_, _ = io.WriteString(long, strings.Repeat("x", 1<<20))
	if _, err := long.Read(make([]byte, 1)); err == nil {
		t.Error("a long line is answered")
	}
	for range 100 { // silent ones, and watchers that never read
		_, _ = io.WriteString(connect(), `{"version":1,"do":"watch"}`+"\n")
		connect()
	}
	if now := r.status(); now.Boot != s.Boot || now.Until == 0 {
		t.Errorf("%+v", now)
	}
	// The timer, with all of them there: how long it takes them to come is the machine's.
	if _, err := r.Disarm(t.Context(), s.Boot, 1); err != nil {
		t.Fatal(err)
	}
	noisy := connect()
	machine := stalls()
	r.arm(s, time.Second)
	until := Now() + time.Second
	_, _ = io.WriteString(noisy, "garbage\n")
	r.until("the server is dead", func() bool { return !alive(s.PID) })
	if late := Now() - until; late > 300*time.Millisecond+machine() {
		t.Errorf("killed %s after the deadline", late)
	}
}

// A command that an earlier client sent does not count after one of a later client.
func TestOneController(t *testing.T) {
	r := runScript(t, forever)
	s := r.status()
	r.arm(s, time.Minute)
	later := NewClient(filepath.Join(r.dir, "run.sock"))
	defer later.Close()
	if _, err := later.Arm(t.Context(), Permission{Boot: s.Boot, Term: 1, Until: Now() + 2*time.Minute}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Disarm(t.Context(), s.Boot, 1); !errors.Is(err, ErrAway) {
		t.Errorf("Disarm of the earlier client: %v", err)
	}
	if now, err := later.Status(t.Context()); err != nil || now.Until == 0 {
		t.Errorf("%+v %v", now, err)
	}
}

// A Run that is stopped does not hold a client up.
func TestClientPatience(t *testing.T) {
	r := runScript(t, forever)
	r.signal(syscall.SIGSTOP)
	r.until("Run is stopped", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.cmd.Process.Pid))
		return bytes.Contains(stat, []byte(") T "))
	})
	machine := stalls()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := r.Status(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second+machine() {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	r.signal(syscall.SIGCONT)
	r.status()
}

// A second Run at the same socket is refused; the socket of one that was killed is not in the way.
func TestSocketInUse(t *testing.T) {
	r := runScript(t, forever)
	r.status()
	if _, err := listen(filepath.Join(r.dir, "run.sock")); err == nil || !strings.Contains(err.Error(), "another understudy run") {
		t.Error(err)
	}
	r.signal(syscall.SIGKILL)
	r.code()
	l, err := listen(filepath.Join(r.dir, "run.sock"))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
