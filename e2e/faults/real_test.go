//go:build faults

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/network"
	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// The donor's limits, short enough for a test to wait for their end.
var donorFlags = []string{"--resume-grace=5s", "--stall-timeout=2s"}

// dataSize is about how much the real donor has: more than the buffers on the way hold.
const dataSize = 24 << 20

// TestReal is the part of the matrix with a real server, its sidecar and a writer, over TLS.
func TestReal(t *testing.T) {
	t.Parallel()
	in, err := testserver.MariaDB1011(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := newDonor(t, in)
	s := site{
		part: 1, target: d.member.Host + ":3307", flags: []string{"--secret-file=" + d.set.SecretFile(), "--stall-timeout=3s", "--resume-grace=6s"}, wait: "30s",
		check: realCopy, boot: d.boot, released: d.released, settled: d.settled,
	}
	d.calibrate(t, s)
	s.run(t, append(d.rows(), d.overConnections("real donor")...))
}

// realCopy checks what can be told of a copy whose original goes on changing.
func realCopy(dir string, prepared bool) error {
	if prepared {
		return copyIn(dir, "log-applied")
	}
	return copyIn(dir, "full-backuped")
}

// donor is the real one.
type donor struct {
	set    *set.Set
	member *set.Member
	in     testserver.Installation
	// stopWriter may be called again.
	stopWriter func()
	// size is that of one clone on the wire, descriptors how many the sidecar has at rest.
	size, descriptors int64
}

func newDonor(t *testing.T, in testserver.Installation, flags ...string) *donor {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	// Joiners look for db-1, the first member of their set: see joiner.args.
	first := []string{"--first-ordinal=1"}
	s, err := set.New(set.Config{Binary: program, Install: in, Dir: t.TempDir(), InitFlags: first, SidecarFlags: slices.Concat(first, donorFlags, flags)})
	if err != nil {
		t.Fatal(err)
	}
	m := s.Member(1)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.End(ctx); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(filepath.Join(m.Dir, "sidecar.log")); t.Failed() && err == nil {
			t.Logf("the sidecar said:\n%s", tail(string(text)))
		}
	})
	if err := m.Up(ctx); err != nil {
		t.Fatal(err)
	}
	if err := load.Create(ctx, m.Server.DB()); err != nil {
		t.Fatal(err)
	}
	if err := load.Fill(ctx, m.Server.DB(), 1, dataSize); err != nil {
		t.Fatal(err)
	}
	// A restart makes the redo log short: clones are of one size from now on.
	if err := errors.Join(m.StopServer(ctx), m.StartServer(ctx), m.AwaitReady(ctx)); err != nil {
		t.Fatal(err)
	}
	writer := load.New(m.Server.DB(), load.Config{Seed: 1, Rate: 20})
	done := make(chan error, 1)
	go func() { done <- writer.Run(context.WithoutCancel(ctx)) }()
	stop := sync.OnceFunc(func() {
		writer.Stop()
		if err := <-done; err != nil || writer.Since(load.Mark{}).Commits == 0 {
			t.Errorf("the writer made no commit, or failed: %v", err)
		}
	})
	t.Cleanup(stop)
	return &donor{set: s, member: m, in: in, stopWriter: stop}
}

// calibrate takes a clone to which nothing happens.
func (d *donor) calibrate(t *testing.T, s site) {
	t.Helper()
	passed := make(chan *network.Proxy, 1)
	k := &kindAccount{} // it is no fault
	t.Run("undisturbed", func(t *testing.T) {
		s.one(t, k, fault{network: func(_ *joiner, p *network.Proxy) { passed <- p }, flags: []string{"--prepare"}, boot: true, then: complete})
	})
	d.size = (<-passed).Passed.Load()
	if d.size < dataSize {
		t.Fatalf("a clone has %d bytes", d.size)
	}
	d.descriptors = d.open(t)
}

// places are where connections break: not at the very end, which moves while it is written to.
func (d *donor) places(n int) []place {
	all := []place{{"first bytes", 40 << 10}, {"1 MiB", 1 << 20}}
	for percent := int64(8); percent <= 90; percent += 9 {
		all = append(all, place{fmt.Sprintf("%d %%", percent), d.size * percent / 100})
	}
	return few(all, n)
}

func (d *donor) rows() []row {
	often := oftenCut()
	often.kind = "real donor: " + often.kind
	slow := slowNetwork()
	slow.kind = "real donor: " + slow.kind
	return []row{
		onTheNetwork("real donor: connection cut", on((*network.Link).Cut), resumed, d.places(10)),
		onTheNetwork("real donor: connection reset", on((*network.Link).Reset), resumed, d.places(10)),
		onTheNetwork("real donor: reset seen by the donor only", on((*network.Link).ResetDonor), resumed, d.places(3)),
		onTheNetwork("real donor: another source address", on((*network.Link).Move), resumed, d.places(4)),
		onTheNetwork("real donor: port away for a while", on((*network.Link).Away), resumed, d.places(4)),
		onTheNetwork("real donor: short stall", on((*network.Link).Pause), complete, d.places(4)),
		onTheNetwork("real donor: connection dead without a word", on((*network.Link).Die), resumed, d.places(4)),
		onTheNetwork("real donor: bit flipped under TLS", on((*network.Link).Flip), resumed, d.places(12)),
		often, slow, zstdCut(), d.prepared(),
		onTheNetwork("real donor: joiner frozen beyond the limit", freeze, resumed, d.places(6)[1:3]),
		d.initKilled(), d.toolKilled(), d.toolKilledByHand(), d.restarts(), d.restartsByHand(),
	}
}

// zstdCut breaks a compressed stream, whose offsets are others.
func zstdCut() row {
	r := onTheNetwork("real donor: compressed, connection reset", on((*network.Link).Reset), resumed, []place{{"64 KiB", 64 << 10}, {"1 MiB", 1 << 20}, {"4 MiB", 4 << 20}})
	for i := range r.faults {
		r.faults[i].flags = []string{"--compress=zstd"}
	}
	return r
}

// prepared goes on until a server runs on what came.
func (d *donor) prepared() row {
	r := onTheNetwork("real donor: reset, then prepared and started", on((*network.Link).Reset), resumed, d.places(3))
	for i := range r.faults {
		r.faults[i].flags, r.faults[i].boot = []string{"--prepare"}, true
	}
	return r
}

// initKilled kills init as bytes come, and at instants.
func (d *donor) initKilled() row {
	r := onTheNetwork("real donor: init killed", kill, nextRun, d.places(4))
	for _, point := range []string{"after-journal-extracted", "preparing", "before-rename", "after-rename"} {
		r.faults = append(r.faults, fault{name: point, env: []string{"UNDERSTUDY_FAILPOINT=" + point}, then: nextRun})
	}
	for i := range r.faults {
		r.faults[i].init = true
	}
	return r
}

// toolKilled kills the backup tool: init takes another clone.
func (d *donor) toolKilled() row {
	r := onTheNetwork("real donor: backup tool killed", d.killTool, restarted, d.places(6)[:4])
	for i := range r.faults {
		r.faults[i].init, r.faults[i].boot = true, i == 0
	}
	return r
}

func (d *donor) toolKilledByHand() row {
	r := onTheNetwork("real donor: backup tool killed, clone-from", d.killTool, refused, d.places(6)[:3])
	for i := range r.faults {
		r.faults[i].code, r.faults[i].say = 5, "failed: backup tool: mariadb-backup: signal: killed"
	}
	return r
}

// restarts kills the sidecar and starts it again.
func (d *donor) restarts() row {
	r := onTheNetwork("real donor: sidecar restarted", d.restart, restarted, d.places(4)[:3])
	for i := range r.faults {
		r.faults[i].init, r.faults[i].boot = true, true
	}
	return r
}

func (d *donor) restartsByHand() row {
	r := onTheNetwork("real donor: sidecar restarted, clone-from", d.restart, refused, d.places(4)[1:3])
	for i := range r.faults {
		r.faults[i].code, r.faults[i].say = 5, "no such stream; was this member restarted?"
	}
	return r
}

// killTool ends the backup tool, as the kernel does that is out of memory.
func (d *donor) killTool(*joiner, *network.Link) {
	pids, _ := processes("--target-dir=" + d.member.Volume) // what it did not find is alive, and the clone completes
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
}

func (d *donor) restart(*joiner, *network.Link) {
	d.member.KillSidecar()
	_ = d.member.StartSidecar() // without one nothing else succeeds
}

// freeze stops the joiner until the donor has lost its patience.
func freeze(j *joiner, l *network.Link) {
	<-j.started
	j.child.Signal(syscall.SIGSTOP)
	l.Go(func() {
		l.Wait(4 * time.Second)
		j.child.Signal(syscall.SIGCONT)
	})
}

// boot starts a server on a copy, and reads from it.
func (d *donor) boot(ctx context.Context, dir, config string) error {
	server, err := d.in.Start(ctx, testserver.Config{DataDir: dir, ConfDir: config, RootPassword: d.set.RootPassword()})
	if err != nil {
		return err
	}
	sums, err := load.Checksums(ctx, server.DB())
	if err == nil && sums["shop.ledger"].Rows == 0 {
		err = fmt.Errorf("the ledger is empty: %v", sums)
	}
	if stopped := server.Stop(ctx); err == nil {
		err = stopped
	}
	return err
}

// released says whether the donor has let go of streams.
func (d *donor) released(streams []string) error {
	for _, id := range streams {
		if pids, err := processes("backup-" + id); err != nil || len(pids) > 0 {
			return fmt.Errorf("backup tools %v, %w", pids, err)
		}
		if _, err := os.Stat(filepath.Join(d.member.Volume, ".understudy", "backup-"+id)); err == nil {
			return fmt.Errorf("working files of the stream %s", id)
		}
	}
	return nil
}

// settled checks, once a row is over, that the donor holds nothing any more.
func (d *donor) settled(t *testing.T) {
	t.Helper()
	within(t, patience, func() error {
		_, body, err := d.member.Get(t.Context(), "/metrics")
		if err != nil {
			return err
		}
		if !strings.Contains(body, "understudy_clone_active 0\n") {
			return fmt.Errorf("the donor still gives clones")
		}
		left, err := filepath.Glob(filepath.Join(d.member.Volume, ".understudy", "backup-*"))
		if err != nil || len(left) > 0 {
			return fmt.Errorf("working files %q, %w", left, err)
		}
		if pids, err := processes("--target-dir=" + d.member.Volume); err != nil || len(pids) > 0 {
			return fmt.Errorf("backup tools %v, %w", pids, err)
		}
		const slack = 4 // connections to the server, and that of this question
		if n := d.open(t); n > d.descriptors+slack {
			return fmt.Errorf("%d open descriptors, %d in the beginning", n, d.descriptors)
		}
		return nil
	})
}

// open counts the sidecar's descriptors.
func (d *donor) open(t *testing.T) int64 {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.member.Sidecar().Pid()))
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(entries))
}
