//go:build faults

package faults

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/network"
	"understudy/e2e/process"
)

// fault is one line of the matrix.
type fault struct {
	// name is where it strikes.
	name string
	// donor changes the donor that replays, network the proxy before it.
	donor   func(*recorded)
	network func(*joiner, *network.Proxy)
	// init takes the clone by init instead of by clone-from.
	init bool
	// flags are added to the joiner's, env to its environment.
	flags, env []string
	// disk is the size of the volume, where it is small.
	disk int64
	// boot starts a server on the copy.
	boot bool
	// then is what must follow; code and say are those of a refusal.
	then outcome
	code int
	say  string
}

// row is one kind of fault.
type row struct {
	kind   string
	faults []fault
}

// site is what a table is run against.
type site struct {
	part int // of the closing table
	// target is where the donor answers; with none, each fault has its own that replays.
	target string
	// flags are the joiner's, more those of clone-from alone.
	flags, more []string
	// flavor is the server's; empty: MariaDB's.
	flavor string
	// wait is how long init may wait for a donor.
	wait string
	// check looks at a clone that is said to be complete.
	check func(dir string, prepared bool) error
	// boot starts a server on a prepared one.
	boot func(ctx context.Context, dir, config string) error
	// released fails when the donor still holds something for these streams.
	released func(streams []string) error
	// settled looks at the donor after each row.
	settled func(t *testing.T)
}

const (
	// timeout bounds one fault.
	timeout = 4 * time.Minute
	// patience is how long after its end something of it may be left: longer than any time that the
	// programs give one another here.
	patience = 40 * time.Second
)

// run puts the table into effect. Every fault counts as ended as its row says, or the test fails.
func (s site) run(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		r.faults = sample(r.faults)
		k := total.open(s.part, r.kind, r.faults[0].then, len(r.faults))
		t.Run(r.kind, func(t *testing.T) {
			for _, f := range r.faults {
				t.Run(f.name, func(t *testing.T) {
					if s.target == "" { // the tool's clones of one server wait for one another
						t.Parallel()
					}
					s.one(t, k, f)
				})
			}
		})
		if s.settled != nil {
			s.settled(t)
		}
	}
}

// atLeast is how many faults of a kind a sample has, if there are as many.
const atLeast = 4

// sample is every SAMPLE-th fault of a kind, but at least some: SAMPLE in the environment, 1 without
// it. Which ones changes from day to day.
func sample(faults []fault) (some []fault) {
	every, err := strconv.Atoi(cmp.Or(os.Getenv("SAMPLE"), "1"))
	if err != nil || every < 1 {
		panic("SAMPLE is no number above 0: " + os.Getenv("SAMPLE"))
	}
	every = max(1, min(every, len(faults)/atLeast))
	for i := time.Now().YearDay() % every; i < len(faults); i += every {
		some = append(some, faults[i])
	}
	return some
}

// one has one fault happen.
func (s site) one(t *testing.T, k *kindAccount, f fault) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	target := s.target
	var d *recorded
	if target == "" {
		d = replay()
		if f.donor != nil {
			f.donor(d)
		}
		target = d.listen(t)
	}
	j := &joiner{
		site: s, fault: f, donor: target, dir: t.TempDir(), started: make(chan struct{}), name: "j" + strconv.FormatInt(joiners.Add(1), 10),
	}
	if f.network != nil || s.target != "" {
		p := network.New(t, "127.0.0.1:0", target)
		j.donor = p.Addr()
		if f.network != nil {
			f.network(j, p)
		}
	}
	if err := j.prepare(t); err != nil {
		t.Fatal(err)
	}
	got := j.clone(ctx, t)
	if f.then == nextRun && got == outcomes && j.code == killed {
		j.emptyOrComplete(t)
		j.fault.env = nil
		if got = j.clone(ctx, t); got <= restarted {
			got = nextRun
		}
		if f.init && strings.Contains(j.said, "the donor is busy") {
			t.Error("it was told that the donor is busy, with what was left of itself")
		}
	}
	total.add(k, got)
	if got != f.then {
		t.Errorf("it was to be %s, and is %s (exit code %d)", f.then, got, j.code)
	}
	j.clean(t, d)
	if t.Failed() {
		t.Logf("the joiner said:\n%s", tail(j.log.String()))
	}
}

func tail(text string) string { return text[max(len(text)-6000, 0):] }

// joiner takes the clone of one fault.
type joiner struct {
	site  site
	fault fault
	donor string // where it asks
	dir   string
	// name is the first part of a member's: a donor ends the earlier clone of one that asks again.
	name  string
	child *process.Process
	// started is closed when there is a child for the first time.
	started chan struct{}
	code    int
	log     bytes.Buffer // of all its runs
	said    string       // by the last one
}

// killed is the exit code of a process that a signal ended.
const killed = -1

var joiners atomic.Int64

func (j *joiner) volume() string { return filepath.Join(j.dir, "volume") }

// live is where a clone is looked for that is complete.
func (j *joiner) live() string {
	if j.fault.init {
		return filepath.Join(j.volume(), "mysql")
	}
	return filepath.Join(j.volume(), "copy")
}

func (j *joiner) prepare(t *testing.T) error {
	t.Helper()
	for _, dir := range []string{j.volume(), filepath.Join(j.dir, "conf.d")} {
		if err := os.Mkdir(dir, 0o750); err != nil {
			return err
		}
	}
	if j.fault.disk == 0 {
		return nil
	}
	if err := syscall.Mount("tmpfs", j.volume(), "tmpfs", 0, fmt.Sprintf("size=%d,mode=0750", j.fault.disk)); err != nil {
		return fmt.Errorf("mount a small tmpfs, which needs root: %w", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(j.volume(), syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return nil
}

func (j *joiner) args() ([]string, error) {
	common := slices.Concat([]string{"--set=db"}, j.site.flags, j.fault.flags)
	if !j.fault.init {
		return slices.Concat([]string{"clone-from", j.donor, "--to=" + j.live()}, common, j.site.more), nil
	}
	_, port, err := net.SplitHostPort(j.donor)
	if err != nil {
		return nil, err
	}
	return append([]string{
		"init", "--flavor=" + cmp.Or(j.site.flavor, "mariadb"), "--pod-name=" + j.name + "-2", "--first-ordinal=1", "--members=1",
		"--peer-host=127.0.0.{ordinal}", "--clone-port=" + port, "--volume=" + j.volume(), "--config-dir=" + filepath.Join(j.dir, "conf.d"),
		"--clone-listen=127.0.0.1:0", "--health-listen=127.0.0.1:0", "--wait=" + j.site.wait,
	}, common...), nil
}

// clone runs the joiner to its end and says how that was; outcomes stands for an end that
// no table has.
func (j *joiner) clone(ctx context.Context, t *testing.T) outcome {
	t.Helper()
	args, err := j.args()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, args...) //nolint:noctx // process.Start's children end in other ways
	cmd.Env = append(os.Environ(), j.fault.env...)
	cmd.Stderr = io.MultiWriter(&said, &j.log)
	if j.child, err = process.Start(cmd, false); err != nil {
		t.Fatal(err)
	}
	select {
	case <-j.started:
	default:
		close(j.started)
	}
	select {
	case <-j.child.Exited():
	case <-ctx.Done():
		j.child.Kill()
		t.Errorf("the joiner did not end within %v", timeout)
		return outcomes
	}
	j.code, j.said = cmd.ProcessState.ExitCode(), said.String()
	switch j.code {
	case 0:
		return j.succeeded(ctx, t)
	case killed:
		return outcomes
	}
	return j.failed(t)
}

// succeeded checks the clone and tells how it came.
func (j *joiner) succeeded(ctx context.Context, t *testing.T) outcome {
	t.Helper()
	if err := j.whole(ctx); err != nil {
		total.halfClone()
		t.Errorf("taken for complete: %v", err)
		return outcomes
	}
	switch {
	case strings.Contains(j.said, "clone will be tried again"):
		return restarted
	case strings.Contains(j.said, "connection to the donor broke"):
		return resumed
	}
	return complete
}

func (j *joiner) whole(ctx context.Context) error {
	if err := j.site.check(j.live(), j.fault.init || slices.Contains(slices.Concat(j.fault.flags, j.site.more), "--prepare")); err != nil {
		return err
	}
	if j.fault.boot {
		if err := j.site.boot(ctx, j.live(), filepath.Join(j.dir, "conf.d")); err != nil {
			return err
		}
	}
	if left := j.leftovers(); len(left) > 0 {
		return fmt.Errorf("beside it lies %q", left)
	}
	return nil
}

// failed checks that a refusal says what it has to, and that nothing can be started.
func (j *joiner) failed(t *testing.T) outcome {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(j.said), "\n")
	last := lines[len(lines)-1]
	if j.code != j.fault.code || j.fault.say == "" || !strings.Contains(last, j.fault.say) {
		t.Errorf("exit code %d, not %d with %q: %s", j.code, j.fault.code, j.fault.say, last)
	}
	left := j.leftovers()
	if entries, err := os.ReadDir(j.live()); err == nil && len(entries) > 0 {
		left = append(left, j.live())
	}
	if len(left) > 0 {
		total.halfClone()
		t.Errorf("refused, and left %q", left)
	}
	return refused
}

// leftovers are the files on the volume that are neither the clone nor the journal.
func (j *joiner) leftovers() []string {
	var left []string
	for _, dir := range []string{"..", ".", ".understudy"} {
		entries, err := os.ReadDir(filepath.Join(j.volume(), dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			switch name := filepath.Join(dir, e.Name()); name {
			case "../volume", "../conf.d", ".understudy", "mysql", "copy", ".understudy/journal", ".understudy/lock", ".understudy/snapshot":
			default:
				left = append(left, name)
			}
		}
	}
	return left
}

// emptyOrComplete looks at what a killed init left: no server may find a part of a clone.
func (j *joiner) emptyOrComplete(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(j.live())
	if err != nil || len(entries) == 0 {
		return
	}
	if err := j.site.check(j.live(), true); err != nil {
		total.halfClone()
		t.Errorf("the killed joiner left a part: %v", err)
	}
}

var streamIDs = regexp.MustCompile(`"stream":"([0-9A-Za-z-]+)"`)

// clean checks that nothing of the fault outlives it.
func (j *joiner) clean(t *testing.T, d *recorded) {
	t.Helper()
	var streams []string
	for _, m := range streamIDs.FindAllStringSubmatch(j.log.String(), -1) {
		streams = append(streams, m[1])
	}
	within(t, patience, func() error {
		if pids, err := processes(j.dir); err != nil || len(pids) > 0 {
			return fmt.Errorf("processes of the joiner: %v, %w", pids, err)
		}
		if d != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.serving > 0 {
				return fmt.Errorf("%d connections for streams", d.serving)
			}
		}
		if j.site.released != nil {
			return j.site.released(streams)
		}
		return nil
	})
}
