package lead

import (
	"context"
	"errors"
	"testing"
	"time"

	"understudy/replicate/fence"
)

// stuckServer says for how long a commit has been under way.
type stuckServer struct {
	Server
	commit time.Duration
	err    error
}

func (s stuckServer) Stuck(_ context.Context, since time.Duration) (bool, error) {
	return s.commit >= since, s.err
}

// A server is taken for one that waits for room only while it would not look for it by itself, and only
// where a commit is older than the room.
func TestWaitsForRoom(t *testing.T) {
	t.Parallel()
	errFull := errors.New("full")
	var run Fence = &own{}
	for name, row := range map[string]struct {
		again  time.Duration // ago; 0: there was room all the time
		full   error
		held   int
		commit time.Duration
		err    error
		ends   bool // another commit has ended since the first look
		fence  Fence
		want   bool
	}{
		"a commit is older than the room":       {fence: run, again: 5 * time.Second, commit: 7 * time.Second, want: true},
		"others end":                            {fence: run, again: 5 * time.Second, commit: 7 * time.Second, ends: true},
		"understudy run is not there":           {again: 5 * time.Second, commit: 7 * time.Second},
		"it is younger":                         {fence: run, again: 5 * time.Second, commit: 4 * time.Second},
		"there is room since now":               {fence: run, again: time.Second, commit: 7 * time.Second},
		"the server has looked for it":          {fence: run, again: 2 * time.Minute, commit: 3 * time.Minute},
		"there was room all the time":           {fence: run, commit: 7 * time.Second},
		"there is none":                         {fence: run, again: 5 * time.Second, commit: 7 * time.Second, full: errFull},
		"commits wait for replicas":             {fence: run, again: 5 * time.Second, commit: 7 * time.Second, held: 1},
		"it is not known what the server is at": {fence: run, again: 5 * time.Second, commit: 7 * time.Second, err: errSilent},
	} {
		c := &Controller{Config: Config{Server: stuckServer{commit: row.commit, err: row.err}, Fence: row.fence}, fenced: "1"}
		c.state.Held = row.held
		c.disk.failed = row.full
		if row.again > 0 {
			c.disk.again = fence.Now() - row.again
		}
		looks := func() bool { return c.waitsForRoom(t.Context()) != "" }
		if looks() {
			t.Errorf("%s: at the first look", name)
		}
		c.disk.stuckAt -= roomSettles // as if that had been then
		if row.ends {
			c.state.Executed = "more"
		}
		if got := looks(); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
