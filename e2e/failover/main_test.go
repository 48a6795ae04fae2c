//go:build failover

// Package failover tests sets whose primary the Lease names, with real servers and a real API
// server, all on loopback.
package failover

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"understudy/e2e/apiserver"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

var program string

func TestMain(m *testing.M) {
	os.Exit(set.WithProgram(func(built string) int {
		program = built
		code := m.Run()
		sum.print()
		return code
	}))
}

// sums is what all tests have seen.
type sums struct {
	mu                    sync.Mutex
	faults, lost, doubles int
	crash, node, planned  []time.Duration // for how long writes were away
	former, tails         int             // leaders that came back as replicas, and those that had a tail
}

var sum sums

func (s *sums) away(d time.Duration, crash bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults++
	if crash {
		s.crash = append(s.crash, d)
	} else {
		s.node = append(s.node, d)
	}
}

// other counts a fault whose time without writes is in none of the percentiles.
func (s *sums) other() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults++
}

func (s *sums) switched(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults++
	s.planned = append(s.planned, d)
}

// returned counts a former leader that has come back.
func (s *sums) returned(withTail bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.former++
	if withTail {
		s.tails++
	}
}

func (s *sums) print() {
	at := func(all []time.Duration, part float64) string {
		if len(all) == 0 {
			return "-"
		}
		slices.Sort(all)
		return fmt.Sprintf("%.1f", all[int(part*float64(len(all)-1)+0.5)].Seconds())
	}
	if s.former > 0 {
		fmt.Printf("former leaders: %d came back, %d with a tail\n", s.former, s.tails)
	}
	fmt.Printf("e2e-failover: %d faults, %d acknowledged commits lost, %d double primaries, crash p50 %s s p99 %s s, node loss p50 %s s p99 %s s, switchover p50 %s s p99 %s s\n",
		s.faults, s.lost, s.doubles, at(s.crash, 0.5), at(s.crash, 0.99), at(s.node, 0.5), at(s.node, 0.99), at(s.planned, 0.5), at(s.planned, 0.99))
}

const (
	// timeout bounds one test, longest what it waits for: both are for machines that are busy with
	// other things. What must be quick is measured where it happens.
	timeout = 20 * time.Minute
	longest = 6 * time.Minute
)

// fixture is a set by Lease.
type fixture struct {
	*set.Set
	t   *testing.T
	api *apiserver.Server
	dir string
	n   int
	// acks is how many acknowledgers the first term names in the end.
	acks int
	// mariaDB says that its servers are MariaDB's.
	mariaDB bool
	// ways are the ports at which members find the API server that go another way than the others.
	ways map[string]int
	// uids are those of pods that have been made. Members may be removed side by side.
	removing sync.Mutex
	uids     map[string]string
	// wanted, if there is one, gets the faults that are found: a test provokes them.
	wanted chan finding
}

// finding is what must not be: rows that were lost, or members that were open at one instant.
type finding struct {
	lost, doubles int
	text          string
}

const leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"

// engine is the server of the set: the one that ENGINE names, mysql, mariadb or a series of one.
func engine(ctx context.Context, t *testing.T) testserver.Installation {
	t.Helper()
	name := cmp.Or(os.Getenv("ENGINE"), "mysql")
	name = cmp.Or(map[string]string{"mysql": "mysql-9.7", "mariadb": "mariadb-10.11"}[name], name)
	find, ok := testserver.All[name]
	if !ok {
		t.Fatalf("ENGINE=%s: no such server is known", name)
	}
	in, err := find(ctx)
	if err != nil {
		t.Skip(err)
	}
	return in
}

// newFixture starts an API server and makes a set of n members, none of which runs.
func newFixture(ctx context.Context, t *testing.T, n int, run bool, flags ...string) *fixture {
	t.Helper()
	in := engine(ctx, t)
	dir := t.TempDir()
	if keep := os.Getenv("KEEP"); keep != "" {
		dir = filepath.Join(keep, t.Name())
		if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
			t.Fatal(err)
		}
	}
	api := filepath.Join(dir, "api")
	if err := os.Mkdir(api, 0o750); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, dir: dir, n: n, acks: 2, mariaDB: in.Flavor == testserver.MariaDB, uids: map[string]string{}}
	var err error
	f.api, err = apiserver.Start(ctx, api)
	if errors.Is(err, apiserver.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.api.Stop)
	f.must(f.api.Do(ctx, http.MethodPost, leases, "application/json", `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"db"}}`))
	flags = append([]string{"--kube=on", "--namespace=default", "--primary=lease", fmt.Sprintf("--members=%d", n)}, flags...)
	f.Set, err = set.New(set.Config{Binary: program, Install: in, Run: run, Dir: dir, Command: f.command, InitFlags: initFlags(flags), SidecarFlags: flags})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		for i := range n {
			f.Member(i).KillSidecar()
			if s := f.Member(i).Server; s != nil {
				s.Kill()
			}
		}
		_ = f.Down(ctx)
		if t.Failed() {
			f.showLogs()
		}
	})
	return f
}

// initFlags are those of the flags that init has, too.
func initFlags(flags []string) []string {
	var own []string
	for _, flag := range flags {
		name, _, _ := strings.Cut(flag, "=")
		switch name {
		case "--kube", "--namespace", "--primary", "--members", "--semi-sync":
			own = append(own, flag)
		}
	}
	return own
}

func (f *fixture) must(text string, err error) string {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

func (f *fixture) showLogs() {
	for i := range f.n {
		text, _ := os.ReadFile(filepath.Join(f.Member(i).Dir, "sidecar.log"))
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		f.t.Logf("%s's sidecar, %d lines:\n%s", f.Member(i).Name(), len(lines), strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}

// uid makes the member's pod, if there is none yet, and returns its uid.
func (f *fixture) uid(ctx context.Context, m *set.Member) string {
	f.t.Helper()
	if uid := f.uids[m.Name()]; uid != "" {
		return uid
	}
	const pods = "/api/v1/namespaces/default/pods"
	text, err := f.api.Do(ctx, http.MethodGet, pods+"/"+m.Name(), "", "")
	if err != nil {
		text = f.must(f.api.Do(ctx, http.MethodPost, pods, "application/json", fmt.Sprintf(
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"labels":{"app":"db"}},"spec":{"containers":[{"name":"server","image":"none"}]}}`, m.Name())))
	}
	var pod struct {
		Metadata struct {
			UID string `json:"uid"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(text), &pod); err != nil {
		f.t.Fatal(err)
	}
	f.uids[m.Name()] = pod.Metadata.UID
	return pod.Metadata.UID
}

// role is the label of a member's pod.
func (f *fixture) role(ctx context.Context, m *set.Member) string {
	f.t.Helper()
	var pod struct {
		Metadata struct {
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(f.must(f.api.Do(ctx, http.MethodGet, "/api/v1/namespaces/default/pods/"+m.Name(), "", ""))), &pod); err != nil {
		f.t.Fatal(err)
	}
	return pod.Metadata.Labels["understudy/role"]
}

// up brings a member up, and does not wait until it is ready.
func (f *fixture) up(ctx context.Context, m *set.Member) {
	f.t.Helper()
	uid := "--pod-uid=" + f.uid(ctx, m)
	r, err := m.Init(ctx, nil, uid)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("init of %s ended with %d: %s", m.Name(), r.Code, r.LastLine())
	}
	if err == nil {
		err = m.StartSidecar(uid)
	}
	if err == nil {
		err = m.StartServer(ctx)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// record is the part of the Lease's term record that matters here.
type record struct {
	Term          int            `json:"term"`
	Phase         string         `json:"phase"`
	Holder        string         `json:"holder"`
	Mode          string         `json:"mode"`
	Acknowledgers []acknowledger `json:"acknowledgers"`
	Members       []string       `json:"members"`
}

type acknowledger struct {
	Member  string `json:"member"`
	Receipt string `json:"receipt"`
}

func (f *fixture) lease(ctx context.Context) (r record) {
	f.t.Helper()
	text, err := f.api.Do(ctx, http.MethodGet, leases+"/db", "", "")
	if err != nil {
		return r
	}
	var lease struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal([]byte(text), &lease); err != nil {
		f.t.Fatal(err)
	}
	if text := lease.Metadata.Annotations["understudy/term"]; text != "" {
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			f.t.Fatal(err)
		}
	}
	return r
}

// await polls until ok.
func (f *fixture) await(ctx context.Context, what string, ok func() (bool, string)) {
	f.t.Helper()
	f.within(ctx, longest, what, ok)
}

// within polls until ok, for that long.
func (f *fixture) within(ctx context.Context, limit time.Duration, what string, ok func() (bool, string)) {
	f.t.Helper()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		done, word := ok()
		if done {
			f.t.Logf("%s: %v", what, time.Since(begun).Round(10*time.Millisecond))
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("%s: not in time: %s", what, word)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// named waits until the Lease names a leader and as many acknowledgers.
func (f *fixture) named(ctx context.Context, n int) record {
	f.t.Helper()
	var r record
	f.await(ctx, fmt.Sprintf("%d acknowledgers are named", n), func() (bool, string) {
		r = f.lease(ctx)
		return r.Phase == "opened" && r.Holder != "" && len(r.Acknowledgers) == n, fmt.Sprintf("%+v", r)
	})
	return r
}

func (f *fixture) byName(name string) *set.Member {
	for i := range f.n {
		if m := f.Member(i); m.Name() == name {
			return m
		}
	}
	f.t.Fatalf("no member %q", name)
	return nil
}
