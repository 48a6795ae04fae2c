package member

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"understudy/clone/volume"
	"understudy/k8s"
	"understudy/replicate"
)

// Image watches the server's image while it makes the data directory. Its end is proven by the mark
// of its last script or, where our scripts are not mounted, by a server that answers in a container
// that never restarted.
type Image struct {
	volume *volume.Volume
	// container looks at the server's container; nil without Kubernetes.
	container func(context.Context) (k8s.Container, error)
	// answers says whether the server answers on TCP.
	answers func() bool
	log     *slog.Logger

	answering duration

	mu   sync.Mutex
	seen k8s.Container
	err  error // of the last look; it is errNotLooked before the first
	// answered is for how long the server had answered then.
	answered time.Duration
	// futile are the restarts that were seen while the data directory was empty: what ended then had
	// made nothing, and what makes the directory now was not interrupted.
	futile int
}

// statusLag is the time for which a server has to have answered before its container's restarts
// count: the kubelet reports them to the API server with a delay of at most ten seconds (syncPeriod
// in kubernetes/pkg/kubelet/status/status_manager.go).
const statusLag = 15 * time.Second

var (
	errNotLooked = errors.New("the server's container has not been looked at yet")
	errNoKube    = errors.New("without Kubernetes only the mark of the image's last script shows its end")
)

// NewImage watches the server's image of the member. answers says whether the server answers, run
// how often it was started.
func (m *Member) NewImage(answers func() bool, run *RunNotes) *Image {
	i := &Image{volume: m.Volume, answers: answers, log: m.Log, err: errNotLooked}
	if m.Kube.client == nil {
		i.err = errNoKube
		return i
	}
	i.container = func(ctx context.Context) (k8s.Container, error) {
		c, err := m.Kube.client.Container(ctx, m.Kube.container)
		if err != nil {
			return c, err
		}
		return run.withStarts(c)
	}
	return i
}

// Run looks at the container for as long as the image may be at work.
func (i *Image) Run(ctx context.Context, phase func() volume.Phase, interval time.Duration) {
	if i.container == nil {
		return
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for phase() == volume.Initialising {
		if err := i.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			i.log.Warn("the end of the server's image could not be recorded, will retry", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look reads the container's restarts, and writes the mark of the image's end where they prove it.
func (i *Image) look(ctx context.Context, now time.Time) error {
	answering := i.answering.see(now, i.answers())
	seen, err := i.container(ctx)
	marks, marksErr := i.volume.Marks() // after the container: its restarts are known late, never early
	i.mu.Lock()
	i.seen, i.err, i.answered = seen, err, answering
	if err == nil && marksErr == nil && !marks.Filled {
		i.futile = seen.Restarts
	}
	restarted := seen.Restarts > i.futile
	i.mu.Unlock()
	if err != nil || restarted || answering < statusLag {
		return nil //nolint:nilerr // state reports it
	}
	if marksErr != nil || marks.Begun || marks.Ended {
		return marksErr // the image runs our scripts, and the last one writes the mark
	}
	i.log.Info("the server's image is done: the server answers, and its container has not restarted since the data directory was empty")
	return i.volume.MarkEnded()
}

// state is what is known of the image now.
func (i *Image) state(attempt int) replicate.Image {
	i.mu.Lock()
	seen, lookErr, restarted, answered := i.seen, i.err, i.seen.Restarts > i.futile, i.answered
	i.mu.Unlock()
	marks, err := i.volume.Marks()
	s := replicate.Image{
		Filled: marks.Filled, Begun: marks.Begun, Ended: marks.Ended, Restarted: restarted, End: seen.End,
		Untold:  i.container != nil && lookErr == nil && !restarted && answered < statusLag,
		Attempt: attempt, Last: volume.MaxAttempts,
	}
	switch {
	case err != nil:
		s.Unproven, s.Unprovable = err.Error(), true
	case lookErr != nil:
		s.Unproven = lookErr.Error()
		s.Unprovable = !errors.Is(lookErr, k8s.ErrAway) && !errors.Is(lookErr, errNotLooked)
	case s.Untold && s.Begun && answered > 0:
		s.Unproven = "the mark of its last script is missing, though a server answers; whether its container was restarted is waited for"
	default:
		s.Unproven = fmt.Sprintf("the mark of its last script is missing; without it, the restarts of the server's container (%d) decide after it has answered for %v", seen.Restarts, statusLag)
	}
	return s
}
