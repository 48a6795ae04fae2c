package wire

import (
	"cmp"
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// outgoing is a clone that the donor gives. It outlives the connections that carry it. Its states:
//
//	starting ───▶ attached ◀───▶ detached
//	    │                           │
//	    └──────────▶ settled ◀──────┘
//	                    │
//	                    ▼
//	                forgotten
//
// end(cause) leads from every state to forgotten: it interrupts the connection, which leaves the
// stream detached.
type outgoing struct {
	id, member string
	begun      time.Time
	grace      time.Duration           // how long a joiner may stay away
	expired    func()                  // called when grace is over
	cancel     context.CancelCauseFunc // stops the backup
	pumped     chan struct{}           // closed when the backup has ended
	encoding   Encoding
	peer       string // whose connection began it, see peerOf
	lanes      int    // how many connections carry it; 1: one, without lanes

	mu      sync.Mutex
	state   state         // set by enter
	turns   []*attachment // the connections that carry the stream
	sent    map[int]bool  // the lanes of connections that carried theirs to the end
	timer   *time.Timer   // runs while no connection carries it
	cause   error         // end's cause
	ring    *replay       // nil before the backup began, and once the stream is forgotten
	backup  Backup
	raw     int64     // bytes of the xbstream made so far
	digest  string    // of the whole xbstream
	err     error     // why the stream is not whole
	arrived time.Time // time of the last report with progress, or with nothing under way
}

// state is a phase in the life of a stream.
type state int

const (
	// starting: the backup has no first byte. Only starting, attached and detached streams take a
	// slot.
	starting state = iota
	// attached: at least one connection carries the stream, or its lane.
	attached
	// detached: no connection carries it, and grace runs.
	detached
	// settled: its end is known. A connection may still carry its last bytes again, within grace.
	settled
	// forgotten: its bytes are gone. A joiner that comes back within grace learns the cause.
	forgotten
)

// follows has the states that may follow each state.
var follows = [...][]state{
	starting:  {attached, settled},
	attached:  {detached},
	detached:  {attached, settled},
	settled:   {forgotten},
	forgotten: {},
}

// place is where a connection is to carry a stream, or its lane, from.
type place struct {
	offset int64
	lane   int // or noLane
}

// attachment is one connection's turn at a stream.
type attachment struct {
	place

	out   *sender
	ring  *replay
	leave context.CancelCauseFunc // with errEnded the joiner still gets the trailers
	left  chan struct{}           // closed when the turn is over
}

var (
	errTakenOver = errors.New("the joiner has another connection")
	errSilent    = errors.New("the joiner reports no more")
	errEnded     = errors.New("the clone has been ended")
)

// enter changes the state, or returns false when the diagram has no such arrow. o.mu is held.
func (o *outgoing) enter(next state) bool {
	if !slices.Contains(follows[o.state], next) {
		return false
	}
	o.state = next
	switch next {
	case detached, settled:
		o.await()
	case forgotten:
		o.ring = nil
	}
	return true
}

// await begins the joiner's grace. o.mu is held.
func (o *outgoing) await() {
	o.stopTimer()
	o.timer = time.AfterFunc(o.grace, o.expired)
}

func (o *outgoing) stopTimer() {
	if o.timer != nil {
		o.timer.Stop()
	}
}

func (o *outgoing) current() state {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

// takesSlot says whether the stream takes a slot.
func (o *outgoing) takesSlot() bool { return o.current() < settled }

// attach makes the caller's connection carry the stream from a place on. It ends the turn of an
// earlier connection of the same lane; a connection that carries the whole stream ends all turns,
// and from then on there are no lanes. The caller calls detach.
func (o *outgoing) attach(ctx context.Context, out *sender, at place) (context.Context, *attachment, error) {
	ctx, leave := context.WithCancelCause(ctx)
	a := &attachment{place: at, out: out, leave: leave, left: make(chan struct{})}
	out.silent = func() { leave(errSilent) }
	var wrong bool // a lane that is asked for in vain ends no other connection's turn
	for {
		o.mu.Lock()
		before := o.earlier(at.lane)
		wrong = at.lane != noLane && o.ring != nil && !o.ring.hasInLane(at.lane, at.offset)
		if before == nil || wrong {
			break
		}
		o.mu.Unlock()
		before.leave(errTakenOver)
		<-before.left
	}
	defer o.mu.Unlock()
	switch {
	case o.cause != nil || o.state == forgotten:
		err := cmp.Or(o.err, o.cause, errGone)
		leave(err)
		return nil, nil, err
	case wrong || o.seek(at) != nil:
		leave(errGone)
		return nil, nil, errGone
	}
	a.ring = o.ring
	o.turns = append(o.turns, a)
	delete(o.sent, at.lane)
	o.stopTimer()
	o.enter(attached) // a settled stream stays settled
	if a.ring.reported() {
		out.lives() // a joiner that has reported has to go on reporting
	}
	return ctx, a, nil
}

// earlier returns a connection whose turn ends before one of lane begins. o.mu is held.
func (o *outgoing) earlier(lane int) *attachment {
	for _, a := range o.turns {
		if lane == noLane || a.lane == lane {
			return a
		}
	}
	return nil
}

// seek moves the ring's reader, or that of a lane, to a place. o.mu is held.
func (o *outgoing) seek(at place) error {
	if at.lane == noLane {
		return o.ring.seek(at.offset)
	}
	return o.ring.seekLane(at.lane, at.offset)
}

// detach ends a connection's turn. whole says that it carried the stream, or its lane, to the end.
// detach returns true when now all of the stream has been carried to its end.
func (o *outgoing) detach(a *attachment, whole bool) (all bool) {
	a.leave(nil)
	a.out.stop()
	o.mu.Lock()
	if whole {
		o.sent[a.lane] = true
	}
	all = o.sent[noLane] || len(o.sent) == o.lanes
	o.turns = slices.DeleteFunc(o.turns, func(t *attachment) bool { return t == a })
	if len(o.turns) == 0 && !o.enter(detached) {
		o.await() // the stream is settled
	}
	o.mu.Unlock()
	close(a.left)
	return all
}

// report notes that the joiner lives and has all bytes before offset. It extends the deadline of
// the joiner's connection, or the grace without one. Reports do neither when bytes are under way
// and none has arrived for longer than patience. report returns false when the bytes are gone.
func (o *outgoing) report(offset int64, patience time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ring == nil {
		return false
	}
	further, all := o.ring.confirm(offset)
	if further || o.arrived.IsZero() || all && len(o.turns) > 0 {
		o.arrived = time.Now()
	}
	switch {
	case time.Since(o.arrived) > patience:
	case len(o.turns) > 0:
		for _, a := range o.turns {
			a.out.lives()
		}
	case o.timer != nil:
		o.timer.Reset(o.grace)
	}
	return true
}

// end stops the backup and the connections, and returns when all have ended.
func (o *outgoing) end(cause error) {
	o.mu.Lock()
	o.cause = cmp.Or(o.cause, cause) // no connection can attach any more
	turns := slices.Clone(o.turns)
	o.mu.Unlock()
	o.cancel(cause)
	for _, a := range turns {
		a.leave(errEnded)
	}
	for _, a := range turns {
		<-a.left
	}
	<-o.pumped
}

// settle sets the end of the stream. It returns true for the first caller.
func (o *outgoing) settle(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.enter(settled) {
		return false
	}
	o.err = cmp.Or(o.err, err)
	return true
}

// forget frees the memory.
func (o *outgoing) forget() {
	o.mu.Lock()
	had := o.enter(forgotten)
	o.mu.Unlock()
	if had {
		debug.FreeOSMemory()
	}
}

// trailers are the proof that the stream is whole, or why it is not.
func (o *outgoing) trailers() (status string, raw int64, digest string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	status, err = "0", cmp.Or(o.err, o.cause)
	if err != nil {
		status = "1"
	}
	return status, o.raw, o.digest, err
}

// progress is how much of the xbstream has been made, and the estimated total.
func (o *outgoing) progress() (raw, total int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw, o.backup.Header.EstimatedBytes
}

// giving describes the stream for /v1/member.
func (o *outgoing) giving() Giving {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := Giving{
		Stream: o.id, Joiner: o.member, Bytes: o.raw, Total: o.backup.Header.EstimatedBytes,
		Seconds: time.Since(o.begun).Seconds(), Connected: len(o.turns) > 0,
	}
	if o.ring != nil {
		g.Sent, g.Lanes, g.Awaited = o.ring.position(), o.ring.positions(), o.ring.awaited()
	}
	if o.backup.Phase != nil {
		g.Phase = o.backup.Phase()
	}
	if g.Seconds > 0 {
		g.BytesPerSecond = float64(g.Bytes) / g.Seconds
	}
	return g
}
