package member

import (
	"testing"

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
		n.know(tt.status)
		if d := cmp.Diff(tt.want, n.Container(func() replicate.Container { return kube })()); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}
