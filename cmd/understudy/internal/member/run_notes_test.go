package member

import (
	"errors"
	"fmt"
	"testing"

	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/fence"

	"github.com/google/go-cmp/cmp"
)

func TestRunNotes(t *testing.T) {
	kube := replicate.Container{Restarts: 7, State: "the server's container ended"}
	failed := fence.End{How: "exit status 1", Code: 1, Output: []string{"0 [ERROR] unknown variable 'x=1'", "0 [ERROR] Aborting"}}
	for _, tt := range []struct {
		name   string
		status *fence.Status
		want   replicate.Container
	}{
		{"without run", nil, kube},
		{"it never ended", &fence.Status{State: fence.Running, Starts: 1}, kube},
		{
			"it failed", &fence.Status{State: fence.Pausing, Starts: 3, Last: &failed},
			replicate.Container{Restarts: 2, Failed: true, State: "the server's process ended last with exit status 1: unknown variable 'x=1' (3 starts)"},
		},
		{
			"it is held", &fence.Status{State: fence.Held, Starts: 1, Last: &fence.End{How: "exit status 0", Asked: true}},
			replicate.Container{State: "the server's process ended last with exit status 0 (1 starts), and is held by request"},
		},
	} {
		var n RunNotes
		n.know(tt.status, nil)
		if d := cmp.Diff(tt.want, n.Container(func() replicate.Container { return kube })()); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

// To an image that makes a data directory, a server that run started again is a restart of its
// container.
func TestRunNotesAreRestarts(t *testing.T) {
	of := func(s *fence.Status, err error) *RunNotes {
		n := &RunNotes{}
		n.know(s, err)
		return n
	}
	killed := &fence.End{How: "killed by SIGKILL", Code: 137}
	again := k8s.Container{Restarts: 2, End: "killed by SIGKILL"}
	unknown := errors.New("permission denied")
	for _, tt := range []struct {
		name string
		run  *RunNotes
		want k8s.Container
		err  error
	}{
		{"not asked yet", &RunNotes{}, k8s.Container{}, errNotLooked},
		{"without run", of(nil, fmt.Errorf("%w: run.sock", fence.ErrAway)), k8s.Container{}, nil},
		{"run does not let us ask", of(nil, unknown), k8s.Container{}, unknown},
		{"never ended", of(&fence.Status{Starts: 1}, nil), k8s.Container{}, nil},
		{"ended", of(&fence.Status{Starts: 1, Last: killed}, nil), k8s.Container{Restarts: 1, End: "killed by SIGKILL"}, nil},
		{"started again", of(&fence.Status{Starts: 3, Last: killed}, nil), again, nil},
	} {
		got, err := tt.run.withStarts(k8s.Container{})
		if !errors.Is(err, tt.err) || err == nil && got != tt.want {
			t.Errorf("%s: %+v %v", tt.name, got, err)
		}
	}
}
