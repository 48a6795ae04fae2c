//go:build faults

package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/network"
	"understudy/e2e/testserver"
)

// TestDirect is the part of the matrix with a server of MySQL that hands over its data itself:
// there is no tool, and what dies is the server or the sidecar.
func TestDirect(t *testing.T) {
	t.Parallel()
	in, err := testserver.MySQL97(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	d := newDonor(t, in, "--max-rate=256MiB")
	s := site{
		part: 2, target: d.member.Host + ":3307", flags: []string{"--secret-file=" + d.set.SecretFile(), "--stall-timeout=3s", "--resume-grace=6s"},
		more: []string{"--prepare"}, flavor: "mysql", wait: "60s", check: directCopy, boot: d.boot, released: d.released, settled: d.settledDirect,
	}
	d.calibrate(t, s)
	s.run(t, append(d.overConnections("direct"), d.directRows()...)) // the writer ends with the last row
}

// directCopy checks that a copy is one that a server can start on.
func directCopy(dir string, _ bool) error {
	text, err := os.ReadFile(filepath.Join(dir, "understudy_clone_info"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), "backup_type = full-prepared") {
		return fmt.Errorf("not prepared: %s", text)
	}
	for _, name := range []string{"ibdata1", "mysql.ibd", "undo_001", "undo_002", "#innodb_redo/#ib_redo0", "mysql", "shop/ledger.ibd"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "#understudy*")); err != nil || len(left) > 0 {
		return fmt.Errorf("changes were not carried out: %q, %w", left, err)
	}
	return nil
}

func (d *donor) directRows() []row {
	zstd := zstdCut()
	zstd.kind = "direct: compressed, connection reset"
	slow := slowNetwork()
	slow.kind, slow.faults = "direct: throttled", slow.faults[:1]
	return []row{
		onTheNetwork("direct: connection cut", on((*network.Link).Cut), resumed, d.places(4)),
		onTheNetwork("direct: connection dead without a word", on((*network.Link).Die), resumed, d.places(2)),
		onTheNetwork("direct: bit flipped under TLS", on((*network.Link).Flip), resumed, d.places(2)),
		zstd, slow,
		onTheNetwork("direct: joiner frozen beyond the limit", freeze, resumed, d.places(6)[1:3]),
		onTheNetwork("direct: sidecar frozen for a moment", d.freezeSidecar, complete, d.places(2)),
		d.directInitKilled(), d.directDiskFull(), d.directSidecarKilled(), d.directServerKilled(),
	}
}

// directInitKilled kills init as bytes come, and while it carries out what was changed meanwhile.
func (d *donor) directInitKilled() row {
	r := onTheNetwork("direct: init killed", kill, nextRun, d.places(3))
	r.faults = append(r.faults, fault{name: "preparing", env: []string{"UNDERSTUDY_FAILPOINT=preparing"}, then: nextRun, boot: true})
	for i := range r.faults {
		r.faults[i].init = true
	}
	return r
}

// directDiskFull is known beforehand, or comes when somebody else fills the volume.
func (d *donor) directDiskFull() row {
	r := onTheNetwork("direct: disk full", fillVolume, refused, d.places(6)[1:4])
	for i := range r.faults {
		r.faults[i].disk, r.faults[i].code, r.faults[i].say = 400<<20, 1, "no space left"
	}
	r.faults = append(r.faults, fault{name: "announced", disk: 48 << 20, then: refused, code: 3, say: "the volume has 48.0 MiB free"})
	return r
}

// fillVolume leaves nothing of the joiner's volume, in a file whose name is that of nothing that it
// makes.
func fillVolume(j *joiner, _ *network.Link) {
	f, err := os.Create(filepath.Join(j.volume(), "mysql"))
	if err != nil {
		return // the clone completes, which is not what the row says
	}
	defer func() { _ = f.Close() }()
	for b := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(b)
	}
}

// directSidecarKilled leaves a clone in the server that nobody takes; the next one ends it.
func (d *donor) directSidecarKilled() row {
	r := onTheNetwork("direct: sidecar restarted", d.restart, restarted, d.places(4)[1:3])
	for i := range r.faults {
		r.faults[i].init, r.faults[i].boot = true, i == 0
	}
	return r
}

func (d *donor) directServerKilled() row {
	r := onTheNetwork("direct: server killed", d.restartServer, restarted, d.places(4)[1:2])
	for i := range r.faults {
		r.faults[i].init, r.faults[i].boot = true, true
	}
	return r
}

// freezeSidecar stops the donor's sidecar for less than the joiner's patience.
func (d *donor) freezeSidecar(_ *joiner, l *network.Link) {
	pid := d.member.Sidecar().Pid()
	_ = syscall.Kill(pid, syscall.SIGSTOP) // without it the row ends in the same way
	l.Go(func() {
		l.Wait(time.Second)
		_ = syscall.Kill(pid, syscall.SIGCONT)
	})
}

// restartServer kills the donor's server, and has it started again as the kubelet does.
func (d *donor) restartServer(_ *joiner, l *network.Link) {
	d.stopWriter() // it would take it for a loss
	d.member.Server.Kill()
	l.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		_ = d.member.StartServer(ctx) // without one nothing else succeeds
	})
}

// settledDirect checks that nobody is cloned by the server any more, either.
func (d *donor) settledDirect(t *testing.T) {
	t.Helper()
	d.settled(t)
	within(t, patience, func() error {
		var n int
		err := d.member.Server.DB().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_command = 'Clone'").Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d connections of a clone are left in the server", n)
		}
		return err
	})
}
