package lead

import (
	"context"
	"errors"
	"strings"
	"testing"

	"understudy/replicate/failover"
)

// lostFence is understudy run as err has it.
type lostFence struct {
	Fence
	err error
}

func (f *lostFence) Boot(context.Context) (string, error) { return "1", f.err }

// A member whose server nobody could end does not stand for election; one time without an answer is
// none that counts.
func TestUnfenced(t *testing.T) {
	t.Parallel()
	run := &lostFence{err: errors.New("nobody listens")}
	c := &Controller{Config: Config{Fence: run, Timings: failover.DefaultTimings}}
	for _, step := range []struct {
		err  error
		want string
	}{{run.err, ""}, {run.err, "nobody listens"}, {nil, ""}, {run.err, ""}, {run.err, "nobody listens"}} {
		run.err = step.err
		c.tryFence(t.Context())
		if got := c.fenceTrouble(); (got != "") != (step.want != "") || !strings.Contains(got, step.want) {
			t.Errorf("%q, want %q", got, step.want)
		}
	}
}
