package member

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"understudy/clone/volume"
	"understudy/k8s"
	"understudy/replicate"
)

// imageRig is an image at work on a volume, and what the API server says of its container.
type imageRig struct {
	*Image

	root      string
	container k8s.Container
	err       error
	answer    bool
	now       time.Time
}

func newImageRig(t *testing.T) *imageRig {
	t.Helper()
	r := &imageRig{root: t.TempDir(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	v, err := volume.Open(t.Context(), r.root, time.Second, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	if err := v.StartEmpty(1); err != nil {
		t.Fatal(err)
	}
	r.Image = &Image{
		volume: v, log: slog.New(slog.DiscardHandler), err: errNotLooked,
		container: func(context.Context) (k8s.Container, error) { return r.container, r.err },
		answers:   func() bool { return r.answer },
	}
	return r
}

func (r *imageRig) write(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(r.root, "mysql", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// lasts looks every two seconds for so long, and decides.
func (r *imageRig) lasts(t *testing.T, d time.Duration) replicate.Action {
	t.Helper()
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(2 * time.Second) {
		if err := r.look(t.Context(), r.now); err != nil {
			t.Fatal(err)
		}
	}
	facts := replicate.Facts{Answers: r.answer}
	if !r.answer {
		facts.Trouble = "connection refused"
	}
	return replicate.Decide(replicate.Standing{Recorded: replicate.Recorded{Initialising: true, Image: r.state(1)}}, facts)
}

// What proves that the server's image is done, and what does not.
func TestImage(t *testing.T) {
	const begun, ended, data = ".understudy-begun", ".understudy-ended", "ibdata1"
	killed := k8s.Container{Restarts: 1, End: "OOMKilled, exit code 137"}
	for _, tt := range []struct {
		name      string
		files     []string
		answer    bool
		container k8s.Container
		err       error
		last      time.Duration
		want      replicate.Step
		says      string
	}{
		{"it works", []string{data}, false, k8s.Container{}, nil, time.Hour, replicate.Wait, "does not answer"},
		{"its last script has run", []string{begun, ended}, true, k8s.Container{}, nil, time.Second, replicate.MarkComplete, ""},
		{"it was restarted after that", []string{begun, ended}, true, killed, nil, time.Second, replicate.MarkComplete, ""},
		{"it was killed at its scripts, and Kubernetes has not said how", []string{begun}, true, k8s.Container{}, nil, time.Second, replicate.Wait, ""},
		{"it was killed at its scripts, and Kubernetes does not say how", []string{begun}, true, k8s.Container{}, nil, statusLag + 4*time.Second, replicate.StartOver, "attempt 1 of 3"},
		{"it was killed at its scripts", []string{begun}, true, killed, nil, time.Second, replicate.StartOver, "attempt 1 of 3); its container ended: OOMKilled"},
		{"it was killed at its scripts, and there is no Kubernetes", []string{begun}, true, k8s.Container{}, errNoKube, time.Second, replicate.StartOver, "attempt 1 of 3"},
		{"it was killed before, and its server crashes", []string{data}, false, killed, nil, time.Second, replicate.StartOver, "OOMKilled"},
		{"it could not begin", nil, false, killed, nil, time.Hour, replicate.Wait, "does not answer"},
		{"it runs no scripts, and answers", []string{data}, true, k8s.Container{}, nil, statusLag, replicate.Wait, "decide"},
		{"it runs no scripts, and has answered", []string{data}, true, k8s.Container{}, nil, statusLag + 4*time.Second, replicate.MarkComplete, ""},
		{"it runs no scripts, and was restarted", []string{data}, true, killed, nil, time.Hour, replicate.StartOver, ""},
		{"it runs no scripts, and the API server is away", []string{data}, true, k8s.Container{}, k8s.ErrAway, time.Hour, replicate.Wait, "away"},
		{"it runs no scripts, and the Role is narrow", []string{data}, true, k8s.Container{}, k8s.ErrForbidden, time.Hour, replicate.Report, "forbids"},
		{"it runs no scripts, and there is no Kubernetes", []string{data}, true, k8s.Container{}, errNoKube, time.Hour, replicate.Report, "without Kubernetes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newImageRig(t)
			r.write(t, tt.files...)
			r.answer, r.container, r.err = tt.answer, tt.container, tt.err
			// What is not asked here: the login and the flavour, which come later.
			if a := r.lasts(t, tt.last); a.Step != tt.want || !strings.Contains(a.Reason, tt.says) {
				t.Errorf("%s (%s), want %s", a.Step, a.Reason, tt.want)
			}
		})
	}
}

// A container that ended before it had made anything interrupted nothing. One that ends later did.
func TestImageBeganLate(t *testing.T) {
	r := newImageRig(t)
	r.container = k8s.Container{Restarts: 2, End: "Error, exit code 1: no password"}
	r.lasts(t, 4*time.Second)
	r.write(t, "ibdata1")
	if a := r.lasts(t, 4*time.Second); a.Step != replicate.Wait {
		t.Errorf("the third one is at work: %s (%s)", a.Step, a.Reason)
	}
	r.answer = true
	if a := r.lasts(t, statusLag+4*time.Second); a.Step != replicate.MarkComplete {
		t.Errorf("it has ended: %s (%s)", a.Step, a.Reason)
	}

	r = newImageRig(t)
	r.container = k8s.Container{Restarts: 2}
	r.lasts(t, 4*time.Second)
	r.write(t, "ibdata1")
	r.container.Restarts = 3
	if a := r.lasts(t, 4*time.Second); a.Step != replicate.StartOver {
		t.Errorf("the third one was killed: %s (%s)", a.Step, a.Reason)
	}
}

// An interrupted image makes room for init.
func TestImageStartsOver(t *testing.T) {
	r := newRig(t)
	r.first, r.status.Primary = true, true
	r.status.Action = replicate.Action{Step: replicate.StartOver, Reason: "it was killed"}
	r.lasts(t, 4*time.Second)
	if r.asked != 0 {
		t.Error("evicted at the first looks: the mark may be there at the next")
	}
	r.lasts(t, 6*time.Second)
	if r.asked != 1 || len(r.events) != 1 || r.events[0] != "ImageInterrupted" {
		t.Errorf("evicted %d times, said %q", r.asked, r.events)
	}
	r.evict = k8s.ErrBudget
	r.lasts(t, 20*time.Second)
	if r.asked != 3 || len(r.events) != 2 {
		t.Errorf("evicted %d times, said %q", r.asked, r.events)
	}
}

// The marks are removed when the directory is recorded as complete: a directory that is emptied
// later must count as empty.
func TestImageRecorded(t *testing.T) {
	r := newImageRig(t)
	r.write(t, ".understudy-begun", ".understudy-ended", "ibdata1")
	record, err := newRecord(r.volume, nil)
	if err != nil {
		t.Fatal(err)
	}
	record.image = r.state
	if s := record.Standing(); !s.Initialising || !s.Image.Ended || s.Image.Attempt != 1 {
		t.Errorf("%+v", s)
	}
	if err := record.MarkComplete(); err != nil {
		t.Fatal(err)
	}
	if s := record.Standing(); s.Initialising || s.Image != (replicate.Image{}) || record.Phase() != volume.Published {
		t.Errorf("%+v", s)
	}
	text, err := os.ReadFile(filepath.Join(r.root, ".understudy", "journal"))
	if err != nil || bytes.Contains(text, []byte("attempt")) {
		t.Errorf("%s, %v", text, err)
	}
	if entries, err := os.ReadDir(filepath.Join(r.root, "mysql")); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
