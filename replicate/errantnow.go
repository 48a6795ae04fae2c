package replicate

import (
	"context"
	"sync"
	"time"
)

// errantEvery is how long an answer of Agent.Errant counts.
const errantEvery = 10 * time.Second

// errantNow is what was found out last, for all who ask.
type errantNow struct {
	mu   sync.Mutex
	text string
	at   time.Time
}

// Errant says what a replica that runs has and its source lacks, whoever wrote it; empty:
// nothing, or, while the source does not answer, nothing that is known. It asks the source
// every few seconds at most, and takes a few seconds at most. It is safe to call from any
// goroutine.
func (a *Agent) Errant() string {
	s := a.Status()
	if c := s.Facts.Channel; s.Primary || c == nil || !c.UsingGTID {
		return ""
	}
	a.errantNow.mu.Lock()
	defer a.errantNow.mu.Unlock()
	if time.Since(a.errantNow.at) < errantEvery {
		return a.errantNow.text
	}
	ctx, cancel := context.WithTimeout(context.Background(), sourceTimeout)
	defer cancel()
	if found, err := a.lackedBySource(ctx, s.Facts); err != nil {
		a.log.Debug("the source was not asked what it lacks", "error", err)
	} else {
		a.errantNow.text = found
	}
	a.errantNow.at = time.Now()
	return a.errantNow.text
}

// lackedBySource looks at our own server first: what it executes meanwhile, the source has, too.
func (a *Agent) lackedBySource(ctx context.Context, f Facts) (string, error) {
	source, err := a.source()
	if err != nil {
		return "", err
	}
	d := dialectOf(f.Version)
	ours, err := readPossessions(ctx, a.db, d)
	if err != nil {
		return "", err
	}
	theirs, _, err := askSource(ctx, source, d)
	if err != nil {
		return "", err
	}
	c, err := theirs.compare(ours, "", f.Version.Flavor, f.ServerID)
	return c.errant.String(), err
}
