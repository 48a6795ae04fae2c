package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Busy is the number of clones being given.
func (s *Server) Busy() int { return len(s.active()) }

// Giving describes the clones being given, the oldest first.
func (s *Server) Giving() []Giving {
	active := s.active()
	slices.SortFunc(active, func(a, b *outgoing) int { return a.begun.Compare(b.begun) })
	var all []Giving
	for _, o := range active {
		all = append(all, o.giving())
	}
	return all
}

// active are the streams that take a slot.
func (s *Server) active() []*outgoing {
	s.mu.Lock()
	defer s.mu.Unlock()
	var active []*outgoing
	for _, o := range s.streams {
		if o.takesSlot() {
			active = append(active, o)
		}
	}
	return active
}

var (
	errDraining  = errors.New("the member is shutting down")
	errReplaced  = errors.New("the same member asked again")
	errDeleted   = errors.New("the joiner ended the clone")
	errAbandoned = errors.New("the joiner's connection broke, and it did not come back in time")
	errLeft      = errors.New("the joiner left before the first byte")
)

// Drain refuses new clones and returns when the running ones have ended. When ctx ends first, Drain
// ends them. The http.Server may still be sending the last bytes: Shutdown waits for them, Close
// cuts them off.
func (s *Server) Drain(ctx context.Context) {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.streamWG.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	s.mu.Lock()
	if s.raw != nil {
		s.raw(errDraining)
	}
	s.mu.Unlock()
	for _, o := range s.active() {
		go s.end(o, errDraining)
	}
	<-ended
}

// admit finds a slot. It ends earlier streams of the same member first: a restart leaves them
// behind, and their own member must not be told "busy".
func (s *Server) admit(member string, cancel context.CancelCauseFunc) (*outgoing, problem, time.Duration) {
	for {
		s.mu.Lock()
		var orphan *outgoing
		busy := 0
		for _, o := range s.streams {
			if o.member == member && o.current() < forgotten {
				orphan = o
			}
			if o.takesSlot() {
				busy++
			}
		}
		switch {
		case s.draining:
			s.mu.Unlock()
			return nil, problem{Code: codeNotServing, Error: errDraining.Error()}, busyRetry
		case orphan == nil && busy >= s.Slots:
			wait := s.wait()
			s.mu.Unlock()
			return nil, problem{Code: codeBusy, Error: fmt.Sprintf("all %d clone slots are taken", s.Slots)}, wait
		case orphan == nil:
			o := &outgoing{
				id: newStreamID(), member: member, begun: time.Now(), grace: s.Grace, cancel: cancel, pumped: make(chan struct{}),
				lanes: 1, sent: map[int]bool{},
			}
			o.expired = func() { s.expire(o) }
			s.streams[o.id] = o
			s.streamWG.Add(1)
			s.mu.Unlock()
			return o, problem{}, 0
		}
		s.mu.Unlock()
		s.end(orphan, errReplaced)
	}
}

// end ends a stream in any state, and returns when its slot is free.
func (s *Server) end(o *outgoing, cause error) {
	o.end(cause)
	s.settle(o, cause)
	o.forget()
	if errors.Is(cause, errDeleted) { // no joiner resumes it
		s.drop(o)
	}
}

// settle frees the slot, once.
func (s *Server) settle(o *outgoing, err error) {
	if !o.settle(err) {
		return
	}
	if bytes, _ := o.progress(); bytes > 0 {
		s.Observe(Outcome{Member: o.member, Bytes: bytes, Took: time.Since(o.begun), Err: err})
	}
	s.streamWG.Done()
}

// expire is called when a joiner has been without a connection for Grace.
func (s *Server) expire(o *outgoing) {
	switch o.current() {
	case starting, attached: // the joiner has just come back
	case detached:
		s.end(o, errAbandoned)
	case settled, forgotten:
		s.drop(o)
	}
}

// drop removes a stream.
func (s *Server) drop(o *outgoing) {
	o.forget()
	s.mu.Lock()
	delete(s.streams, o.id)
	s.mu.Unlock()
}

// wait estimates from the progress of the running clones when a slot becomes free. s.mu is held.
func (s *Server) wait() time.Duration {
	const longest = 10 * time.Minute
	best := longest
	for _, o := range s.streams {
		if !o.takesSlot() {
			continue
		}
		left := busyRetry
		if made, total := o.progress(); made > 0 && total > made {
			nanos := float64(time.Since(o.begun)) * float64(total-made) / float64(made)
			left = time.Duration(min(nanos, float64(longest))) // a conversion beyond the range of Duration is undefined
		}
		best = min(best, left)
	}
	return max(best, time.Second)
}
