package clone

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"understudy/clone/engine"
)

// ErrCommitBlock is returned when a backup was stopped because it kept the donor's server from
// committing for too long.
var ErrCommitBlock = errors.New("the backup held off the server's commits for too long")

// guard puts the server's commits before the clone. A backup that is about to hold locks must not
// wait for the network any more. A backup that blocks commits for too long is stopped, which frees
// the locks.
type guard struct {
	limit  time.Duration
	giveUp context.CancelCauseFunc

	mu     sync.Mutex
	stage  engine.Stage
	since  time.Time
	locked func() // called when the backup is about to take locks
	freed  func() // called when it has none
	timer  *time.Timer
}

// stopTime is how long it takes until a tool has ended and the server has noticed.
const stopTime = time.Second

func newGuard(limit time.Duration, stop context.CancelCauseFunc) *guard {
	return &guard{limit: limit, giveUp: stop, stage: engine.Copying, since: time.Now()}
}

// watch sets the function that is called, perhaps more than once, when the backup is about to take
// locks.
func (g *guard) watch(locked, freed func()) {
	g.mu.Lock()
	g.locked, g.freed = locked, freed
	g.mu.Unlock()
	g.act()
}

// reached notes a stage.
func (g *guard) reached(s engine.Stage) {
	g.mu.Lock()
	g.stage, g.since = s, time.Now()
	g.mu.Unlock()
	g.act()
}

func (g *guard) act() {
	g.mu.Lock()
	stage, locked, freed := g.stage, g.locked, g.freed
	switch {
	case stage == engine.HoldingCommits && g.timer == nil:
		g.timer = time.AfterFunc(max(g.limit-stopTime, g.limit/2), func() {
			g.giveUp(fmt.Errorf("%w: longer than %v allows", ErrCommitBlock, g.limit))
		})
	case stage == engine.Finishing && g.timer != nil:
		g.timer.Stop()
	}
	g.mu.Unlock()
	switch {
	case locked == nil:
	case stage == engine.HoldingDDL || stage == engine.HoldingCommits:
		locked()
	case stage == engine.Copying:
		freed()
	}
}

// phase describes the stage. Where no bytes may come, it contains the time, so that it changes
// while the backup lives.
func (g *guard) phase() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stage == engine.Copying || g.stage == engine.Finishing {
		return string(g.stage)
	}
	return fmt.Sprintf("%s, %d s", g.stage, int(time.Since(g.since).Seconds()))
}

func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
	}
}
