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

// outgoing is one clone that is being given. It outlives the connections that carry it. Its life:
//
//	starting ───▶ attached ◀───▶ detached
//	    │                           │
//	    └──────────▶ settled ◀──────┘
//	                    │
//	                    ▼
//	                forgotten
//
// end(cause) leads to forgotten from every state: it interrupts the connection, which leaves the
// stream detached.
type outgoing struct {
	id, member string
	begun      time.Time
	grace      time.Duration           // how long a joiner may stay away
	expired    func()                  // called when a joiner has stayed away for longer
	cancel     context.CancelCauseFunc // stops the backup
	pumped     chan struct{}           // closed when the backup has ended
	encoding   Encoding

	mu      sync.Mutex
	state   state       // enter sets it
	turn    *attachment // the connection that carries the stream; nil without one
	timer   *time.Timer // runs while there is none
	cause   error       // why end was called
	ring    *replay     // nil before the backup began, and once the stream is forgotten
	backup  Backup
	raw     int64     // bytes of the xbstream made so far
	digest  string    // of all of it, once it is whole
	err     error     // why it is not whole
	arrived time.Time // when a report last said that bytes arrive, or that all did which were sent
}

// state is how far the life of a stream is.
type state int

const (
	// starting: its backup has no first byte yet. Only this state, attached and detached take a
	// slot.
	starting state = iota
	// attached: a connection carries it.
	attached
	// detached: none does, and grace runs.
	detached
	// settled: its end is known. A connection may carry its last bytes again until grace is over.
	settled
	// forgotten: its bytes are gone. A joiner that comes back within grace hears why.
	forgotten
)

// follows are the states that may follow each state.
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
	leave context.CancelCauseFunc // with errEnded the joiner still hears how the stream ended
	left  chan struct{}           // closed when the turn is over
}

var (
	errTakenOver = errors.New("the joiner has another connection")
	errSilent    = errors.New("the joiner reports no more")
	errEnded     = errors.New("the clone has been ended")
)

// enter changes the state, or is false when the diagram has no such arrow. o.mu is held.
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

// takesSlot says whether nobody else may have its slot.
func (o *outgoing) takesSlot() bool { return o.current() < settled }

// attach makes the caller's connection the one that carries the stream, from offset on, once the
// one before has left. The caller detaches it.
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
	o.enter(attached) // what is settled stays so
	if a.ring.reported() {
		out.lives() // from now on: it has to report on this connection, too
	}
	return ctx, a, nil
}

// detach ends the turn of a connection.
func (o *outgoing) detach(a *attachment) {
	a.leave(nil)
	a.out.stop()
	o.mu.Lock()
	o.turn = nil
	if !o.enter(detached) {
		o.await() // settled before
	}
	o.mu.Unlock()
	close(a.left)
}

// report takes the joiner's word that it lives and has all bytes before offset: its connection gets
// time for the next piece, or it gets grace for another connection. A report changes nothing when
// no byte has arrived for longer than patience although there were some. It is false when the bytes
// are gone.
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
	o.cause = cmp.Or(o.cause, cause) // from now on no connection can attach
	turn := o.turn
	o.mu.Unlock()
	o.cancel(cause)
	if turn != nil {
		turn.leave(errEnded)
		<-turn.left
	}
	<-o.pumped
}

// settle notes how the stream ended, and is true for the first caller.
func (o *outgoing) settle(err error) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.enter(settled) {
		return false
	}
	o.err = cmp.Or(o.err, err)
	return true
}

// forget lets go of the memory.
func (o *outgoing) forget() {
	o.mu.Lock()
	had := o.enter(forgotten)
	o.mu.Unlock()
	if had {
		debug.FreeOSMemory()
	}
}

// trailers are what the end of the stream proves, or why it came early.
func (o *outgoing) trailers() (status string, raw int64, digest string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	status, err = "0", cmp.Or(o.err, o.cause)
	if err != nil {
		status = "1"
	}
	return status, o.raw, o.digest, err
}

// progress is how much of the xbstream has been made, and of how much.
func (o *outgoing) progress() (raw, total int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.raw, o.backup.Header.EstimatedBytes
}

// giving describes the stream to others.
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
