package member

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"understudy/k8s"
	"understudy/replicate"
	"understudy/replicate/fence"
)

// RunNotes is what understudy run says of the server's process. The zero value has not asked yet.
type RunNotes struct {
	// Stopping, if not nil, is called when run has been told to stop, and the server has a permission.
	Stopping func(ctx context.Context)

	mu     sync.Mutex
	status *fence.Status // nil: run does not answer, and err says why
	err    error
}

// Keep follows run at the socket until ctx ends. While nobody listens it tries again every
// interval.
func (n *RunNotes) Keep(ctx context.Context, socket string, interval time.Duration) {
	client := fence.NewClient(socket)
	for ctx.Err() == nil {
		told := false
		err := client.Watch(ctx, func(s fence.Status) {
			n.know(&s, nil)
			if s.Stopping && s.Until > 0 && !told && n.Stopping != nil {
				told = true
				go n.Stopping(ctx)
			}
		})
		n.know(nil, err)
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
}

func (n *RunNotes) know(s *fence.Status, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.status, n.err = s, err
}

// withStarts adds to what Kubernetes says of the server's container that run started servers again
// in it: to an image that makes a data directory, these are restarts. The error says that their
// number is not known.
func (n *RunNotes) withStarts(c k8s.Container) (k8s.Container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.status != nil && n.status.Last != nil:
		c.Restarts += max(1, n.status.Starts-1) // one that has ended is about to be started again
		c.End = n.status.Last.String()
	case n.status == nil && n.err == nil:
		return c, errNotLooked
	case n.status == nil && !errors.Is(n.err, fence.ErrAway): // away: it is another first process
		return c, fmt.Errorf("ask how often the server was started: %w", n.err)
	}
	return c, nil
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
