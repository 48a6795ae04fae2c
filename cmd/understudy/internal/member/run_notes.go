package member

import (
	"context"
	"fmt"
	"sync"
	"time"

	"understudy/replicate"
	"understudy/replicate/fence"
)

// RunNotes is what understudy run says of the server's process, for the texts of /readyz and
// status. The zero value knows nothing, as where the server's container has another first process.
type RunNotes struct {
	mu     sync.Mutex
	status *fence.Status // nil: run does not answer
}

// Keep follows run at the socket until ctx ends. While nobody listens it tries again every
// interval.
func (n *RunNotes) Keep(ctx context.Context, socket string, interval time.Duration) {
	client := fence.NewClient(socket)
	for ctx.Err() == nil {
		_ = client.Watch(ctx, func(s fence.Status) { n.know(&s) }) // ends when run does
		n.know(nil)
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

func (n *RunNotes) know(s *fence.Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.status = s
}

// Container returns, for the agent, what run knows of the server, and what others know where it
// knows nothing.
func (n *RunNotes) Container(others func() replicate.Container) func() replicate.Container {
	return func() replicate.Container {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.status == nil || n.status.Last == nil {
			return others()
		}
		last := n.status.Last
		c := replicate.Container{Restarts: n.status.Starts - 1, Failed: !last.Asked, State: fmt.Sprintf("the server's process ended last with %s (%d starts)", last, n.status.Starts)}
		if n.status.State == fence.Held {
			c.State += ", and is held by request"
		}
		return c
	}
}
