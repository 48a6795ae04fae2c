//go:build replication

package replication

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// A member whose volume is full reports it, whatever its server does: commits of a primary hang,
// and a replica's server may not even answer. It also reports when there is room again.
func TestFullVolume(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small tmpfs needs root")
	}
	t.Parallel()
	onBoth(t, fullVolume)
}

const full = "the volume is full: less than 25 MiB of 512 MiB are free"

func fullVolume(t *testing.T, in testserver.Installation) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), playTimeout)
	defer cancel()
	f := newFixture(t, in, "--min-free=1MiB")
	t.Cleanup(func() {
		if t.Failed() {
			f.show(t)
		}
	})
	for _, m := range []*set.Member{f.p, f.r1} {
		onTmpfs(t, m, 512<<20)
		if err := m.Up(ctx); err != nil {
			t.Fatal(err)
		}
	}
	f.run(ctx, t, f.p, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b LONGBLOB)")
	for _, tt := range []struct {
		m     *set.Member
		words string
	}{
		{f.r1, full}, // and, where the server goes on to answer, what it cannot do
		{f.p, "the primary is open for writes, but " + full + "; commits wait or fail"},
	} {
		empty := fill(t, tt.m.Volume)
		stop := f.insert(ctx, t)
		f.reports(ctx, t, tt.m, full)
		f.until(ctx, t, tt.m.Name()+" says that its volume is full", func() bool {
			_, body, err := tt.m.Get(ctx, "/readyz")
			return err == nil && strings.Contains(body, tt.words)
		})
		_, body, err := tt.m.Get(ctx, "/metrics")
		if err != nil || !strings.Contains(body, "\nunderstudy_member_needs_help 1") || !strings.Contains(body, "\nunderstudy_volume_size_bytes 5.36870912e+08") {
			t.Errorf("/metrics of %s do not tell (%v):\n%s", tt.m.Name(), err, body)
		}
		stop()
		empty()
		f.hasRoom(ctx, t, tt.m)
	}
	f.says(ctx, t, f.p, "trouble is over", full)
	if status, body, err := f.p.Get(ctx, "/readyz"); err != nil || status != http.StatusOK || strings.Contains(body, "full") {
		t.Errorf("when there is room again, the primary answers %d, %q (%v)", status, body, err)
	}
}

// hasRoom waits until a member is ready that has room again. MySQL's server looks again only after a
// minute, MariaDB's may abort: "Out of disk space in rollback".
func (f *fixture) hasRoom(ctx context.Context, t *testing.T, m *set.Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	for {
		select {
		case <-m.Server.Exited():
			if err := m.StartServer(ctx); err != nil {
				t.Fatal(err)
			}
		default:
		}
		status, body, err := m.Get(ctx, "/readyz")
		if err == nil && status == http.StatusOK && !strings.Contains(body, "full") {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: /readyz answers %d, %q (%v)", m.Name(), status, body, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// onTmpfs puts a member's volume on a small file system until the test ends.
func onTmpfs(t *testing.T, m *set.Member, size int64) {
	t.Helper()
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", m.Volume, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0750", size)); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if m.Server != nil {
			m.Server.Kill() // one that waits for room does not end
		}
		if err := syscall.Unmount(m.Volume, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// fill fills a file system until the function that it returns is called.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// insert commits large rows on the primary until it is stopped, or until a commit hangs or fails.
func (f *fixture) insert(ctx context.Context, t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	db, done := f.p.Server.DB(), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := db.ExecContext(ctx, "INSERT INTO d.t (b) VALUES (REPEAT('x', 100000))"); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond) // a few megabytes a second
		}
	}()
	return func() { cancel(); <-done }
}
