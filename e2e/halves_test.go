package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"understudy/e2e/set"
	"understudy/e2e/testserver"
)

// Copies that other tools have left as the data directory. A truncated one is moved aside on a
// replica and refused on the first ordinal, wherever it was cut. One that was prepared and restored
// with --copy-back is adopted, and replication begins where it ends.
func TestHalvesAndRestored(t *testing.T) {
	t.Parallel()
	in := install(t)
	ctx, s := newSet(t, in, nil)
	m0 := primary(ctx, t, s, 4<<20)
	_, finish := write(ctx, t, m0)
	file := filepath.Join(t.TempDir(), "stream.xbstream")
	r, err := s.Call(ctx, nil, "clone-from", m0.Host, "--to", file, "--set=db", "--secret-file="+s.SecretFile())
	if err != nil || r.Code != 0 {
		t.Fatalf("clone-from: %d, %v\n%s", r.Code, err, r.Stderr)
	}
	stream, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	// 90 % of it, as an interrupted clone of the tutorial leaves it.
	m1 := s.Member(1)
	unstream(ctx, t, in, m1, stream[:len(stream)*9/10])
	first := filepath.Join(t.TempDir(), "volume")
	if err := os.CopyFS(first, os.DirFS(m1.Volume)); err != nil {
		t.Fatal(err)
	}
	r, err = s.Call(ctx, nil, append(s.Member(0).InitFlags(), "--volume="+first)...)
	if err != nil || r.Code != 3 || !strings.Contains(r.LastLine(), "cut short, or never prepared") || !strings.Contains(r.LastLine(), "restore a complete copy") {
		t.Errorf("the first ordinal: %d, %v: %s", r.Code, err, r.LastLine())
	}
	if _, err := os.Stat(filepath.Join(first, "mysql", "ibdata1")); err != nil {
		t.Errorf("the first ordinal's directory was touched: %v", err)
	}
	up(ctx, t, m1)
	if aside, err := filepath.Glob(filepath.Join(m1.Volume, ".understudy", "replaced-*", "ibdata1")); err != nil || len(aside) != 1 {
		t.Errorf("moved aside: %v, %v", aside, err)
	}

	// All of it, prepared, and restored by the tool.
	m2 := s.Member(2)
	backup := filepath.Join(t.TempDir(), "backup")
	unpackInto(ctx, t, in, backup, stream)
	if err := m2.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--prepare"}, {"--copy-back", "--datadir=" + m2.Live()}} {
		cmd := exec.CommandContext(ctx, in.Backup, append([]string{"--no-defaults", "--target-dir=" + backup}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if r := initCode(ctx, t, m2, 0); !strings.Contains(r.Stderr, `"verdict":"adopt"`) {
		t.Errorf("a restored copy:\n%s", r.Stderr)
	}
	up(ctx, t, m2)
	finish(m1, m2)
}

// unstream unpacks a stream into a member's data directory.
func unstream(ctx context.Context, t *testing.T, in testserver.Installation, m *set.Member, stream []byte) {
	t.Helper()
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	unpackInto(ctx, t, in, m.Live(), stream)
}

// unpackInto unpacks a stream that may be truncated: the unpacker's exit code is ignored.
func unpackInto(ctx context.Context, t *testing.T, in testserver.Installation, dir string, stream []byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, in.Mbstream, "-x", "-C", dir)
	cmd.Stdin = bytes.NewReader(stream)
	_ = cmd.Run()
}
