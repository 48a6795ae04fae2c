package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"understudy/e2e/load"
	"understudy/e2e/network"
	"understudy/e2e/set"
)

// mountTmpfs puts a small file system on dir until the test ends.
func mountTmpfs(t *testing.T, dir string, size int64) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0750", size)); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// Two joiners at once: the second is told "busy" at once, waits, and gets its clone. The first one's
// goes on until that has been said.
func TestTwoJoiners(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m0 := primary(ctx, t, s, 24<<20)
	slow := network.New(t, s.Host(0)+":3317", s.Host(0)+":3307")
	slow.Rate.Store(2 << 20)
	// Ordinal 2 asks ordinal 1's address, where the donor answers as well.
	network.New(t, s.Host(1)+":3307", s.Host(0)+":3307")
	m1, m2 := s.Member(1), s.Member(2)
	var wg sync.WaitGroup
	wg.Go(func() {
		if r, err := m1.Init(ctx, nil, "--clone-port=3317"); err != nil || r.Code != 0 {
			t.Errorf("the first joiner: %d, %v\n%s", r.Code, err, r.Stderr)
		}
	})
	defer wg.Wait()
	eventually(t, time.Minute, "the first joiner's clone runs", func() bool { return slow.Passed.Load() > 1<<20 })
	byHand, err := s.Call(ctx, nil, "clone-from", s.Host(0), "--to", filepath.Join(t.TempDir(), "copy"), "--set=db", "--secret-file="+s.SecretFile())
	if err != nil || byHand.Code != 4 || !strings.Contains(byHand.LastLine(), "busy") {
		t.Errorf("by hand: %d, %v: %s", byHand.Code, err, byHand.LastLine())
	}
	second, err := m2.StartInit()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the second joiner waits", func() bool {
		said, err := os.ReadFile(filepath.Join(m2.Dir, "init.log"))
		return err == nil && strings.Contains(string(said), "waiting for a donor") && strings.Contains(string(said), "the donor is busy")
	})
	slow.Rate.Store(0)
	if err := second.Err(); err != nil {
		t.Errorf("the second joiner: %v", err)
	}
	wg.Wait()
	isComplete(t, m1)
	isComplete(t, m2)
	nothingLeft(t, m0)
}

// Two inits on one volume, as after a forced deletion: the second waits for the lock
// and finds everything done.
func TestTwoInits(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	primary(ctx, t, s, 8<<20)
	m := s.Member(1)
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	runs := make([]set.Run, 2)
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			r, err := s.Call(ctx, nil, m.InitFlags()...)
			if err != nil || r.Code != 0 {
				t.Errorf("init %d: %d, %v\n%s", i, r.Code, err, r.Stderr)
			}
			runs[i] = r
		})
	}
	wg.Wait()
	both := runs[0].Stderr + runs[1].Stderr
	if strings.Count(both, `"verdict":"clone"`) != 1 || strings.Count(both, `"verdict":"keep"`) != 1 || !strings.Contains(both, "release the volume") {
		t.Errorf("they did not take turns:\n%s", both)
	}
	isComplete(t, m)
}

var (
	syncedFile = regexp.MustCompile(`(?:fsync|fdatasync)\(\d+<([^>]+)>\)\s+= 0`)
	syncedFS   = regexp.MustCompile(`syncfs\(\d+<([^>]+)>\)\s+= 0`)
	forWriting = regexp.MustCompile(`open(?:at|at2)?\(.*O_(?:WRONLY|RDWR).*\)\s+= \d+<([^>]+)>`)
	renamed    = regexp.MustCompile(`rename(?:at|at2)?\((?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]+)", (?:AT_FDCWD(?:<[^>]*>)?, )?"([^"]+)"`)
)

// A publish under strace, of init and of clone-from: before the rename every file and directory of
// the clone is synced, or the file system is on a descriptor from before the clone once nothing
// writes to the clone any more. Both parent directories are synced after it.
func TestPublishIsDurable(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed: apt-get install strace")
	}
	ctx, s := newSet(t, install(t), nil)
	m0 := primary(ctx, t, s, 1<<20)
	m := s.Member(1)
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	durable := func(to string, folders []string, args ...string) {
		t.Helper()
		trace := filepath.Join(t.TempDir(), "trace")
		args = append([]string{"-f", "-y", "-s", "4096", "-e", "trace=fsync,fdatasync,syncfs,open,openat,openat2,rename,renameat,renameat2", "-o", trace, program}, args...)
		if out, err := exec.CommandContext(ctx, strace, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		text, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		staging, before, after := split(t, string(text), to)
		var missing []string
		whole := before[filepath.Join(m.Volume, ".understudy", "lock")]
		err = filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
			rel, relErr := filepath.Rel(to, path)
			if err != nil || relErr != nil {
				return fmt.Errorf("%w %w", err, relErr)
			}
			if !whole && !before[filepath.Join(staging, rel)] {
				missing = append(missing, rel)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(missing) > 0 {
			t.Errorf("%s: %d paths were synced before the rename; not among them: %q", to, len(before), missing)
		}
		for _, dir := range folders {
			if !after[dir] {
				t.Errorf("%s: %s was not synced after the rename", to, dir)
			}
		}
	}
	durable(m.Live(), []string{m.Volume, filepath.Join(m.Volume, ".understudy")}, m.InitFlags()...)
	dir := t.TempDir()
	for _, name := range []string{"copy", "copy.xbstream"} {
		to := filepath.Join(dir, name)
		durable(to, []string{dir}, "clone-from", m0.Host, "--to", to, "--set=db", "--secret-file="+s.SecretFile())
	}
}

// resumed matches the second line of a call that strace prints on two lines, as another thread
// interrupted it.
var resumed = regexp.MustCompile(`^(\d+)\s+<\.\.\. \w+ resumed>`)

// wholeCalls joins the two lines of such calls, thread by thread.
func wholeCalls(trace string) []string {
	var whole []string
	begun := map[string]string{} // by thread
	for line := range strings.Lines(trace) {
		if first, found := strings.CutSuffix(line, " <unfinished ...>\n"); found {
			thread, _, _ := strings.Cut(first, " ")
			begun[thread] = first
			continue
		}
		if m := resumed.FindStringSubmatch(line); m != nil {
			line = begun[m[1]] + line[len(m[0]):]
		}
		whole = append(whole, line)
	}
	return whole
}

// split finds the rename that publishes, and what was synced before and after it: files,
// directories, and files on which the whole file system was synced after the clone was last opened
// for writing.
func split(t *testing.T, trace, to string) (staging string, before, after map[string]bool) {
	t.Helper()
	before, after = map[string]bool{}, map[string]bool{}
	now, wholeFS := before, false
	var late []string // opened for writing since the file system was synced
	for _, line := range wholeCalls(trace) {
		if f := syncedFS.FindStringSubmatch(line); f != nil {
			wholeFS, late = true, nil
			now[f[1]] = true
		}
		if f := forWriting.FindStringSubmatch(line); f != nil {
			late = append(late, f[1])
		}
		if f := syncedFile.FindStringSubmatch(line); f != nil {
			now[f[1]] = true
		}
		if r := renamed.FindStringSubmatch(line); r != nil && r[2] == to {
			staging, now = r[1], after
			for _, path := range late {
				if strings.HasPrefix(path, staging+"/") {
					t.Errorf("%s was opened for writing after the file system was synced", path)
				}
			}
			if !wholeFS && filepath.Ext(to) == "" {
				t.Error("the file system was not synced before the rename")
			}
		}
	}
	if staging == "" {
		t.Fatalf("no rename to %s in the trace:\n%s", to, trace)
	}
	return staging, before, after
}

// Directories from before understudy: a plain server's, the tutorial's in each of its states, and a
// foreign one.
func TestAdoption(t *testing.T) {
	t.Parallel()
	ctx, s := newSet(t, install(t), nil)
	m0 := primary(ctx, t, s, 4<<20)
	_, finish := write(ctx, t, m0)

	// The tutorial's clone: prepared, its info file turned into SQL, never run.
	m1 := s.Member(1)
	tutorialClone(ctx, t, s, m1)
	up(ctx, t, m1)
	if got := channel(ctx, t, m1)["Using_Gtid"]; got != "No" {
		t.Errorf("the tutorial's position was not used: Using_Gtid=%s", got)
	}

	// The tutorial's clone that was truncated: moved aside, and the member is cloned.
	m2 := s.Member(2)
	tutorialClone(ctx, t, s, m2)
	for _, name := range []string{"xtrabackup_info", "xtrabackup_checkpoints"} {
		if err := os.Remove(filepath.Join(m2.Live(), name)); err != nil {
			t.Fatal(err)
		}
	}
	up(ctx, t, m2)
	aside, err := filepath.Glob(filepath.Join(m2.Volume, ".understudy", "replaced-*", "ibdata1"))
	if err != nil || len(aside) != 1 {
		t.Errorf("moved aside: %v, %v", aside, err)
	}

	// Foreign files: refused, and untouched.
	m3 := s.Member(3)
	if err := m3.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m3.Live(), 0o750); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(m3.Live(), "PG_VERSION")
	if err := os.WriteFile(foreign, []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := initCode(ctx, t, m3, 3)
	if !strings.Contains(r.LastLine(), "PG_VERSION") {
		t.Errorf("last line %q", r.LastLine())
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
	finish(m1, m2)

	// A primary's directory without a journal, as the tutorial leaves it on ordinal 0.
	if err := s.Down(ctx); err != nil {
		t.Fatal(err)
	}
	want := binlogs(t, m0)
	if err := os.RemoveAll(filepath.Join(m0.Volume, ".understudy")); err != nil {
		t.Fatal(err)
	}
	up(ctx, t, m0)
	if got := binlogs(t, m0); len(got) != len(want)+1 {
		t.Errorf("the program logs were %v and are %v", want, got)
	}
	if sums, err := load.Checksums(ctx, m0.Server.DB()); err != nil || sums["shop.ledger"].Rows == 0 {
		t.Errorf("%v, %v", sums, err)
	}
}

func binlogs(t *testing.T, m *set.Member) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(m.Live(), "*-bin.0*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// tutorialClone makes the files that the tutorial's containers leave before they start replication.
func tutorialClone(ctx context.Context, t *testing.T, s *set.Set, m *set.Member) {
	t.Helper()
	if err := m.MakeDirs(); err != nil {
		t.Fatal(err)
	}
	r, err := s.Call(ctx, nil, "clone-from", s.Host(0), "--to", m.Live(), "--prepare", "--set=db", "--secret-file="+s.SecretFile())
	if err != nil || r.Code != 0 {
		t.Fatalf("clone-from: %d, %v\n%s", r.Code, err, r.Stderr)
	}
	info := filepath.Join(m.Live(), "xtrabackup_binlog_info")
	text, err := os.ReadFile(info)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	change := fmt.Sprintf("CHANGE MASTER TO MASTER_LOG_FILE='%s',\nMASTER_LOG_POS=%s", fields[0], fields[1])
	if err := os.WriteFile(filepath.Join(m.Live(), "change_master_to.sql.in"), []byte(change), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(info); err != nil {
		t.Fatal(err)
	}
}
