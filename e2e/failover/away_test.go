//go:build failover

package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/set"
)

// awayFor is for how long the API server is away in one test: AWAY, such as 10m.
func awayFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("AWAY")
	if text == "" {
		return 36 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// writesOn has the writer go on for a time, and no write fails.
func (w *writer) writesOn(ctx context.Context, lasts time.Duration) {
	w.f.t.Helper()
	w.mu.Lock()
	w.err = nil
	w.mu.Unlock()
	begin := w.count()
	for end := time.Now().Add(lasts); time.Now().Before(end) && ctx.Err() == nil; {
		before := w.count()
		time.Sleep(min(2*time.Second, time.Until(end)))
		w.mu.Lock()
		err := w.err
		w.mu.Unlock()
		if err != nil || w.count() == before {
			w.f.t.Fatalf("writes failed, or stood still, %v before the end: %v", time.Until(end).Round(time.Second), err)
		}
	}
	w.f.t.Logf("%d rows in %v, none failed, the longest pause was %v", w.count()-begin, lasts, w.pause().Round(time.Millisecond))
}

// renewed is when the Lease was renewed last, by the renewer's clock.
func (f *fixture) renewed(ctx context.Context) time.Time {
	f.t.Helper()
	var lease struct {
		Spec struct {
			RenewTime time.Time `json:"renewTime"`
		} `json:"spec"`
	}
	if err := json.Unmarshal([]byte(f.must(f.api.Do(ctx, http.MethodGet, leases+"/db", "", ""))), &lease); err != nil {
		f.t.Fatal(err)
	}
	return lease.Spec.RenewTime
}

// unchanged waits until the Lease is renewed again, in the term that it was in.
func (f *fixture) unchanged(ctx context.Context, before record) {
	f.t.Helper()
	begun := time.Now()
	f.await(ctx, "the Lease is renewed again", func() (bool, string) {
		at := f.renewed(ctx)
		return at.After(begun), at.String()
	})
	if r := f.lease(ctx); r.Term != before.Term || r.Holder != before.Holder {
		f.t.Errorf("%s led term %d, and now it is %+v", before.Holder, before.Term, r)
	}
}

// The API server does not answer, then there is none, then it is back: no write fails, and the same
// member leads. Promises that still run hinder no planned change.
func TestAway(t *testing.T) {
	away := awayFor(t)
	ctx, cancel := context.WithTimeout(t.Context(), timeout+away)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required")
	w, stop := f.begin(ctx)
	r := f.named(ctx, 2)
	w.pause()
	f.api.Signal(syscall.SIGSTOP)
	w.writesOn(ctx, away/2)
	f.api.Signal(syscall.SIGCONT)
	f.unchanged(ctx, r)
	w.writesOn(ctx, 3*time.Second)
	f.api.Kill()
	w.writesOn(ctx, away-away/2)
	if err := f.api.Again(ctx); err != nil {
		t.Fatal(err)
	}
	f.unchanged(ctx, r)
	w.writesOn(ctx, 100*time.Millisecond)
	if _, err := f.switchover(ctx, "db-1"); err != nil {
		t.Fatal(err)
	}
	w.more(ctx, 50)
	pause := w.pause()
	t.Logf("a switchover at once: writes were away for %v", pause.Round(10*time.Millisecond))
	if longest := 5 * time.Second; pause > longest {
		t.Errorf("the next leader has waited for promises to end")
	}
	f.moved(ctx, r)
	stop()
	f.check(ctx, w)
}

// closes waits until a member's server is not open for writes.
func (f *fixture) closes(ctx context.Context, w *writer, m *set.Member) {
	f.t.Helper()
	i := 0
	for f.Member(i) != m {
		i++
	}
	f.await(ctx, m.Name()+" is closed", func() (bool, string) {
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		var open bool
		err := w.dbs[i].QueryRowContext(short, "SELECT "+f.isOpen()).Scan(&open)
		return err != nil || !open, "it is open"
	})
}

// Without the API server, and with one member that says nothing: the leader ends when its permission
// does, and nobody leads until the API server is back.
func TestAwayAndOneSilent(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required")
	w, stop := f.begin(ctx)
	r := f.named(ctx, 2)
	w.pause()
	f.api.Signal(syscall.SIGSTOP)
	w.writesOn(ctx, 10*time.Second)
	f.Member(2).Sidecar().Signal(syscall.SIGSTOP) // its server receives and acknowledges on
	silent := time.Now()
	f.closes(ctx, w, f.byName(r.Holder))
	if after := time.Since(silent); after < time.Second || after > 8*time.Second {
		t.Errorf("it was closed %v after a member has gone silent", after)
	}
	time.Sleep(8 * time.Second) // promises and permissions have ended
	count := w.count()
	time.Sleep(2 * time.Second)
	if w.count() != count {
		t.Error("somebody takes writes")
	}
	f.api.Signal(syscall.SIGCONT)
	f.Member(2).Sidecar().Signal(syscall.SIGCONT)
	f.moved(ctx, r)
	w.more(ctx, 50)
	sum.away(w.pause(), false)
	f.rejoin(ctx, f.byName(r.Holder))
	stop()
	f.check(ctx, w)
}

// way is another way to the API server, which can be cut.
type way struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

// reroute has a member find the API server through a way of its own. It has not started yet.
func (f *fixture) reroute(m *set.Member) *way {
	f.t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(f.api.Host, "0")) //nolint:noctx // a test's
	if err != nil {
		f.t.Fatal(err)
	}
	w := &way{listener: listener, to: net.JoinHostPort(f.api.Host, strconv.Itoa(f.api.Port))}
	f.t.Cleanup(func() { _ = listener.Close() })
	go w.serve()
	f.ways = map[string]int{m.Name(): listener.Addr().(*net.TCPAddr).Port} //nolint:forcetypeassert // of TCP
	return w
}

func (w *way) serve() {
	for {
		in, err := w.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.to) //nolint:noctx // a test's
		w.mu.Lock()
		if err != nil || w.isCut {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			w.mu.Unlock()
			continue
		}
		w.conns = append(w.conns, in, out)
		w.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			go func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = pair[0].Close()
			}()
		}
	}
}

// cut ends all connections, and lets none through until it is mended.
func (w *way) cut(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = is
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

// command is the API server's, for the member that the arguments name by the way that it has.
func (f *fixture) command(program string, args ...string) *exec.Cmd {
	cmd := f.api.Command(program, args...)
	for name, port := range f.ways {
		if slices.Contains(args, "--pod-name="+name) {
			cmd.Env = append(cmd.Env, fmt.Sprintf("KUBERNETES_SERVICE_PORT=%d", port))
		}
	}
	return cmd
}

// The API server is away for the leader only: it goes on, as the others follow it.
func TestAwayForTheLeader(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	f := newFixture(ctx, t, 3, true, "--semi-sync=required")
	way := f.reroute(f.Member(0))
	w, stop := f.begin(ctx)
	r := f.named(ctx, 2)
	w.pause()
	way.cut(true)
	w.writesOn(ctx, awayFor(t)/2)
	if now := f.lease(ctx); now.Term != r.Term || now.Holder != r.Holder {
		t.Errorf("%s led term %d, and now it is %+v", r.Holder, r.Term, now)
	}
	way.cut(false)
	f.unchanged(ctx, r)
	w.writesOn(ctx, 3*time.Second)
	stop()
	f.check(ctx, w)
}
