package volume

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var asked = Request{By: "db-1", Reason: "errant", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Errant: "0-101-8"}

// member makes a volume with complete old data, a request, and a complete new copy in staging.
func member(t *testing.T) (*Volume, Journal) {
	t.Helper()
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, map[string]string{"mysql/ibdata1": "old", "mysql/mysql/x": "", "mysql/ib_logfile0": serverRedo})
	if err := errors.Join(v.WriteJournal(Journal{Phase: Attached, ID: "first"}), WriteRequest(root, asked)); err != nil {
		t.Fatal(err)
	}
	j := Journal{Phase: Preparing, ID: "next", Donor: "db-0"}
	staging, err := v.NewStaging(j.ID)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, staging, map[string]string{"ibdata1": "new", "mysql/x": "", "xtrabackup_info": percona, "xtrabackup_checkpoints": full})
	return v, j
}

// verdict is what init would do next.
func verdict(t *testing.T, v *Volume) (Verdict, Facts) {
	t.Helper()
	f, err := v.Facts(false, false)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := Decide(f)
	return got, f
}

func content(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// swapped checks what a swap has to leave, whichever way it came there.
func swapped(t *testing.T, v *Volume) {
	t.Helper()
	if got, f := verdict(t, v); got != Keep || f.Journal.Phase != Published || f.Journal.ID != "next" || f.Journal.Replaces != nil || f.Request != nil {
		t.Errorf("verdict %s, journal %+v", got, f.Journal)
	}
	if got := content(t, v.Live(), "ibdata1"); got != "new" {
		t.Errorf("the live directory is the %s one", got)
	}
	if got := content(t, v.meta("replaced-next"), "ibdata1"); got != "old" {
		t.Errorf("what was moved aside is the %s one", got)
	}
	var why Replaced
	if err := json.Unmarshal([]byte(content(t, v.meta("replaced-next.json"))), &why); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(asked, why.Request); d != "" || why.Donor != "db-0" || why.ReplacedAt.IsZero() {
		t.Errorf("%+v\n%s", why, d)
	}
	if last, err := LastRequest(v.root); err != nil || last == nil || !cmp.Equal(asked, *last) {
		t.Errorf("the last request is %+v, %v", last, err)
	}
	entries, err := os.ReadDir(v.meta(""))
	if err != nil || len(entries) != 5 { // journal, last-reseed, lock, and the two that are replaced
		t.Errorf("%v, %v", entries, err)
	}
	if _, err := os.Stat(filepath.Join(v.Live(), newCopyName)); err == nil {
		t.Error("the mark is left")
	}
}

func TestSwap(t *testing.T) {
	v, j := member(t)
	if got, f := verdict(t, v); got != Reseed || !cmp.Equal(asked, *f.Request) {
		t.Fatalf("verdict %s, %+v", got, f.Request)
	}
	if _, err := v.Swap(j, asked); err != nil {
		t.Fatal(err)
	}
	swapped(t, v)
}

// A file system that cannot exchange two names, and a crash between the two renames that
// take its place, after which the kubelet makes the empty sub-path again.
func TestSwapWithoutExchange(t *testing.T) {
	v, j := member(t)
	v.exchange = func(string, string) error { return unix.EINVAL }
	if _, err := v.Swap(j, asked); err != nil {
		t.Fatal(err)
	}
	swapped(t, v)

	for _, made := range []bool{false, true} {
		v, j := member(t)
		v.exchange = func(string, string) error {
			if err := os.Rename(v.Live(), v.meta("replaced-next")); err != nil {
				t.Error(err)
			}
			if made {
				if err := v.MakeLive(); err != nil {
					t.Error(err)
				}
			}
			return errCut
		}
		if _, err := v.Swap(j, asked); !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		got, f := verdict(t, v)
		if got != FinishSwap {
			t.Fatalf("verdict %s", got)
		}
		if _, err := v.FinishSwap(*f.Journal); err != nil {
			t.Fatal(err)
		}
		swapped(t, v)
	}
}

var errCut = errors.New("cut")

// The swap is resumed from every state that a crash can leave.
func TestFinishSwap(t *testing.T) {
	states := []struct {
		name string
		make func(*testing.T, *Volume)
	}{
		{"only the journal says it", func(*testing.T, *Volume) {}},
		{"exchanged", func(t *testing.T, v *Volume) {
			t.Helper()
			if err := exchange(v.meta("staging-next"), v.Live()); err != nil {
				t.Fatal(err)
			}
		}},
		{"moved aside", func(t *testing.T, v *Volume) {
			t.Helper()
			err := errors.Join(exchange(v.meta("staging-next"), v.Live()), os.Rename(v.meta("staging-next"), v.meta("replaced-next")))
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"request closed", func(t *testing.T, v *Volume) {
			t.Helper()
			err := errors.Join(
				exchange(v.meta("staging-next"), v.Live()), os.Rename(v.meta("staging-next"), v.meta("replaced-next")), v.CloseRequest(),
			)
			if err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, tt := range states {
		t.Run(tt.name, func(t *testing.T) {
			v, j := member(t)
			v.exchange = func(string, string) error { return errCut }
			if _, err := v.Swap(j, asked); !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			v.exchange = exchange
			tt.make(t, v)
			got, f := verdict(t, v)
			if got != FinishSwap {
				t.Fatalf("verdict %s, %+v", got, f)
			}
			if err := v.Sweep(f.Journal.ID); err != nil { // as init does
				t.Fatal(err)
			}
			if _, err := v.FinishSwap(*f.Journal); err != nil {
				t.Fatal(err)
			}
			swapped(t, v)
		})
	}
}

// A swap whose new copy is gone is no reason to touch the old one, nor to call it new.
func TestSwapWithoutCopy(t *testing.T) {
	v, j := member(t)
	v.exchange = func(string, string) error { return errCut }
	if _, err := v.Swap(j, asked); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	if err := v.Sweep(""); err != nil {
		t.Fatal(err)
	}
	if got, _ := verdict(t, v); got != Refuse {
		t.Errorf("verdict %s", got)
	}
	if got := content(t, v.Live(), "ibdata1"); got != "old" {
		t.Errorf("the live directory is %q", got)
	}
}

func TestReplaceable(t *testing.T) {
	v, j := member(t)
	if err := v.Replaceable(); err != nil {
		t.Error(err)
	}
	// As a server does, except for the kind of lock: a process does not see its own of the other.
	f, err := os.OpenFile(filepath.Join(v.Live(), "ibdata1"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if err := v.Replaceable(); !errors.Is(err, ErrServerRuns) {
		t.Errorf("err = %v", err)
	}
	if _, err := v.Swap(j, asked); !errors.Is(err, ErrServerRuns) {
		t.Errorf("err = %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, _ := verdict(t, v); got != Reseed || v.Replaceable() != nil {
		t.Errorf("after it has gone: %s, %v", got, v.Replaceable())
	}
}

func TestRequest(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	if r, err := ReadRequest(root); r != nil || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	if err := errors.Join(v.CloseRequest(), WriteRequest(root, asked), v.WithdrawRequest()); err != nil {
		t.Fatal(err)
	}
	if r, err := LastRequest(root); r != nil || err != nil {
		t.Errorf("withdrawn, and remembered: %+v, %v", r, err)
	}
	fill(t, root, map[string]string{".understudy/reseed": "please"})
	if _, err := v.Facts(false, false); !errors.Is(err, ErrJournal) || !strings.Contains(err.Error(), ".understudy/reseed") {
		t.Errorf("err = %v", err)
	}
}

// Only what a reseed has replaced is removed, and what an earlier removal has left.
func TestRemoveReplaced(t *testing.T) {
	root := t.TempDir()
	v := open(t, root)
	fill(t, root, map[string]string{
		".understudy/replaced-a/x": "", ".understudy/replaced-b/x": "", ".understudy/replaced-b.json": "{}", ".understudy/replaced-c.json": "{}", "mysql/x": "",
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if gone, err := v.RemoveReplaced(ended); gone != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", gone, err)
	}
	gone, err := v.RemoveReplaced(t.Context())
	if d := cmp.Diff([]string{v.meta("replaced-b"), v.meta("replaced-c")}, gone); d != "" || err != nil {
		t.Error(d, err)
	}
	left, err := filepath.Glob(v.meta("replaced-*"))
	if d := cmp.Diff([]string{v.meta("replaced-a")}, left); d != "" || err != nil {
		t.Error(d, err)
	}
}
