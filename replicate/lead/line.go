package lead

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// line is the Lease as this member knows it.
type line struct {
	lease Lease
	log   *slog.Logger

	asking sync.Mutex // one request at a time

	mu   sync.Mutex
	seen view
}

// view is what is known of the Lease.
type view struct {
	// version is nil before the first read, record where the Lease has none, or one that cannot be
	// read: see bad.
	version Version
	record  *failover.Record
	bad     error
	// beatAt and phaseAt are since when the same beat, and the same term in the same phase, have been
	// seen.
	beatAt, phaseAt time.Duration
	// unsure says that a write may land yet, from this version.
	unsure bool
	// mayName are the members that the Lease names once a write has landed that may land yet.
	mayName []string
	// away is why the API server did not answer last; empty: it did.
	away string
}

func (l *line) view() view {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen
}

// cutOff says why the member cannot take up what the Lease gives it: elected, it would not know.
func (v view) cutOff() string {
	if v.away == "" {
		return ""
	}
	return "the API server does not answer it: " + v.away
}

// read asks for the Lease.
func (l *line) read(ctx context.Context) error {
	l.asking.Lock()
	defer l.asking.Unlock()
	v, err := l.lease.Read(ctx)
	if err != nil {
		l.fail(err)
		return err
	}
	l.see(v, false)
	return nil
}

func (l *line) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.away = err.Error()
}

// see takes an answer in. landed says that it is the answer to a write: nothing earlier lands any
// more.
func (l *line) see(v Version, landed bool) {
	record, bad := decode(v.Record())
	l.mu.Lock()
	defer l.mu.Unlock()
	s, now := &l.seen, fence.Now()
	if s.version == nil || s.version.Beat() != v.Beat() {
		s.beatAt = now
		landed = true // what was sent from the version before cannot land on this one
	}
	if !samePhase(s.record, record) || s.version == nil {
		s.phaseAt = now
		if record != nil {
			l.log.Info("the Lease", "term", record.Term, "phase", record.Phase, "holder", record.Holder, "mode", record.Mode, "acknowledgers", record.Acknowledgers)
		}
	}
	s.version, s.record, s.bad, s.away = v, record, bad, ""
	if s.unsure = s.unsure && !landed; !s.unsure {
		s.mayName = nil
	}
}

func decode(text string) (*failover.Record, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // documented at view
	}
	r, err := failover.Decode(text)
	if err != nil {
		return nil, err
	}
	return &r, nil
}

func samePhase(a, b *failover.Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Term == b.Term && a.Phase == b.Phase && a.Holder == b.Holder
}

// errMoved is returned by swap when the Lease is not what it was.
var errMoved = errors.New("the Lease has changed")

// swap writes next if the Lease still says what was seen; a renewal in between does not matter. It
// returns when it was sent. After an error it may land yet: what the Lease says is to be read
// again.
func (l *line) swap(ctx context.Context, from view, next failover.Record) (sent time.Duration, err error) {
	text, err := next.Encode()
	if err != nil {
		return 0, err
	}
	l.asking.Lock()
	defer l.asking.Unlock()
	now := l.view()
	if now.version == nil || now.version.Record() != from.version.Record() {
		return 0, errMoved
	}
	l.mu.Lock()
	l.seen.mayName = append(slices.Clone(l.seen.mayName), next.Members...) // before it may land
	l.mu.Unlock()
	sent = fence.Now()
	v, err := l.lease.Write(ctx, now.version, text, next.Holder)
	if err != nil {
		l.mu.Lock()
		l.seen.unsure, l.seen.away = true, err.Error()
		l.mu.Unlock()
		if v, readErr := l.lease.Read(ctx); readErr == nil { // a conflict, or whether it has landed
			l.see(v, false)
			if v.Record() == text && text != now.version.Record() {
				return sent, nil
			}
		}
		return 0, fmt.Errorf("write term %d, %s, held by %q: %w", next.Term, next.Phase, next.Holder, err)
	}
	l.see(v, true)
	return sent, nil
}
