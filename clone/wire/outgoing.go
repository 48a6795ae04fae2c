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

	mu      sync.Mutex
	state   state       // set by enter
	turn    *attachment // the connection that carries the stream, or nil
	timer   *time.Timer // runs while no connection carries it
	cause   error       // end's cause
	ring    *replay     // nil before the backup began, and once the stream is forgotten
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
	// attached: a connection carries the stream.
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

// attachment is one connection's turn at a stream.
type attachment struct {
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

// attach makes the caller's connection carry the stream from offset on. It ends the turn of an
// earlier connection. The caller calls detach.
func (o *outgoing) attach(ctx context.Context, out *sender, offset int64) (context.Context, *attachment, error) {
	ctx, leave := context.WithCancelCause(ctx)
	a := &attachment{out: out, leave: leave, left: make(chan struct{})}
	out.silent = func() { leave(errSilent) }
	for {
		o.mu.Lock()
		before := o.turn
		if before == nil {
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
	case o.ring.seek(offset) != nil:
		leave(errGone)
		return nil, nil, errGone
	}
	o.turn, a.ring = a, o.ring
	o.stopTimer()
	o.enter(attached) // a settled stream stays settled
	if a.ring.reported() {
		out.lives() // a joiner that has reported has to go on reporting
	}
	return ctx, a, nil
}

// detach ends a connection's turn.
func (o *outgoing) detach(a *attachment) {
	a.leave(nil)
	a.out.stop()
	o.mu.Lock()
	o.turn = nil
	if !o.enter(detached) {
		o.await() // the stream is settled
	}
	o.mu.Unlock()
	close(a.left)
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
	if further || o.arrived.IsZero() || all && o.turn != nil {
		o.arrived = time.Now()
	}
	switch {
	case time.Since(o.arrived) > patience:
	case o.turn != nil:
		o.turn.out.lives()
	case o.timer != nil:
		o.timer.Reset(o.grace)
	}
	return true
}

// end stops the backup and the connection, and returns when both have ended.
func (o *outgoing) end(cause error) {
	o.mu.Lock()
	o.cause = cmp.Or(o.cause, cause) // no connection can attach any more
	turn := o.turn
	o.mu.Unlock()
	o.cancel(cause)
	if turn != nil {
		turn.leave(errEnded)
		<-turn.left
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
		Seconds: time.Since(o.begun).Seconds(), Connected: o.turn != nil,
	}
	if o.ring != nil {
		g.Sent = o.ring.position()
	}
	if o.backup.Phase != nil {
		g.Phase = o.backup.Phase()
	}
	if g.Seconds > 0 {
		g.BytesPerSecond = float64(g.Bytes) / g.Seconds
	}
	return g
}
