package fence

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

const permissionEnded = "its permission ended"

// supervisor is Run's state. One goroutine, the loop, has all of it: nothing in the loop waits for
// a client, for a file of the volume or for the reader of the log; but before a server starts, for
// freeSockets.
type supervisor struct {
	Config
	path string

	signals, children chan os.Signal
	joins, leaves     chan *session
	asks              chan ask
	says              chan func()
	printed           chan string // the boot identity of a server all of whose output has been read
	over              chan struct{}
	clock             *timer
	dog               *watchdog
	pause, sweep      <-chan time.Time
	stopDue, dogDue   <-chan time.Time

	server    *started // nil: none runs
	boot      string
	state     State
	starts    int
	term      uint64
	until     time.Duration // 0: it has no permission
	why       string        // why it is being ended, empty: it is not
	held      bool
	stopping  os.Signal
	clearing  bool // its other processes have not all ended
	done      bool
	crashes   []time.Duration
	startedAt time.Duration
	last      *End
	ended     *output // of last

	sessions   []*session
	controller *session
}

// loop returns when Run is to end. The error says that the server could not be started again.
func (s *supervisor) loop() error {
	var err error
	for !s.done && err == nil {
		select {
		case sig := <-s.signals:
			s.signal(sig)
		case <-s.children:
			s.reap()
		case <-s.clock.C:
			s.expire()
		case a := <-s.asks:
			s.answer(a)
		case x := <-s.joins:
			s.join(x)
		case x := <-s.leaves:
			s.leave(x)
		case boot := <-s.printed:
			s.completeOutput(boot)
		case <-s.stopDue:
			s.kill("it had a permission when it was to stop")
		case <-s.pause:
			err = s.start()
		case <-s.sweep:
			err = s.clear()
		case <-s.dogDue:
			s.dogDue = nil
			if err := s.dog.start(); err != nil {
				s.say(func() { s.Log.Error("Cannot start the watchdog.", "err", err) })
				s.dogDue = time.After(time.Second)
			}
			s.order()
		}
	}
	return err
}

// say logs without waiting: a log that nobody reads costs lines, not the fence.
func (s *supervisor) say(what func()) {
	select {
	case s.says <- what:
	default:
	}
}

// start starts a server.
func (s *supervisor) start() error {
	s.pause = nil
	switch freed, err := freeSockets(s.SocketDirs); {
	case err != nil:
		s.say(func() {
			s.Log.Warn("Locks that a killed server has left may still be there.", "removed", freed, "error", err)
		})
	case len(freed) > 0:
		s.say(func() { s.Log.Info("Removed locks of sockets on which nobody listens.", "files", freed) })
	}
	server, err := launch(s.path, s.Config)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCommand, err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // it does not fail
	s.starts++
	s.server, s.boot, s.state, s.startedAt = server, fmt.Sprintf("%d-%s", s.starts, hex.EncodeToString(random[:])), Running, Now()
	s.why, s.until = "", 0
	s.order()
	boot, log := s.boot, s.Log
	go func() {
		server.output.open.Wait()
		select {
		case s.printed <- boot:
		case <-s.over:
		}
	}()
	s.say(func() { log.Info("Started the server.", "boot", boot, "pid", server.pid) })
	s.push()
	return nil
}

// order has both timers as the state is.
func (s *supervisor) order() {
	o := order{until: s.until}
	if s.server != nil {
		o.group = s.server.pid
	}
	if err := errors.Join(s.clock.set(o.until), s.dog.tell(o)); err != nil && o.until > 0 {
		s.kill("its timer cannot be set: " + err.Error())
	}
}

// expire kills a server whose permission is over.
func (s *supervisor) expire() {
	switch {
	case s.server == nil || s.until == 0:
	case Now() < s.until:
		s.order()
	default:
		s.kill(permissionEnded)
	}
}

// kill ends all of the server's processes at once.
func (s *supervisor) kill(why string) {
	if s.server == nil {
		return
	}
	killGroup(s.server.pid)
	s.ending(why)
}

// end ends the server: gracefully, unless it has a permission. A graceful end may answer commits
// that wait for an acknowledgement.
func (s *supervisor) end(why string, by syscall.Signal) {
	switch {
	case s.server == nil:
	case s.until > 0:
		s.kill(why)
	default:
		_ = syscall.Kill(s.server.pid, by)
		s.ending(why)
	}
}

func (s *supervisor) ending(why string) {
	if s.why == "" {
		s.why = why
	}
	s.state = Ending
	s.push()
}

// signal does what a signal to Run asks for.
func (s *supervisor) signal(sig os.Signal) {
	number, _ := sig.(syscall.Signal)
	if !slices.Contains(stopping, sig) {
		if s.server != nil {
			_ = syscall.Kill(s.server.pid, number)
		}
		return
	}
	s.stopping = sig
	switch {
	case s.server != nil && s.until > 0:
		if s.stopDue == nil {
			s.stopDue = time.After(s.StopWait)
		}
		s.push()
	case s.server != nil:
		s.stopDue = nil
		s.end("understudy run was told to stop", number)
	case !s.clearing:
		s.done = true
	}
}

// reap takes all children that have ended.
func (s *supervisor) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil || pid <= 0:
			return
		case s.server != nil && pid == s.server.pid:
			s.died(status)
		case pid == s.dog.pid:
			s.dog.ended()
			s.dogDue = time.After(100 * time.Millisecond)
		}
	}
}

// died is called when the server's first process has ended. The others of its group are killed: one
// may be the server itself, under a script.
func (s *supervisor) died(status syscall.WaitStatus) {
	killGroup(s.server.pid)
	how, code := describe(status)
	if s.until > 0 && Now() >= s.until {
		s.why = cmp.Or(s.why, permissionEnded) // the watchdog may have killed it
	}
	asked := s.why != ""
	switch {
	case asked && status.Signaled() && (status.Signal() == syscall.SIGKILL || status.Signal() == syscall.SIGTERM):
		how = "killed: " + s.why
	case status.Signaled() && status.Signal() == syscall.SIGKILL && countOOM() > s.server.ooms:
		how += ": the container's memory was used up"
	}
	s.last = &End{Boot: s.boot, At: Now(), How: how, Code: code, Asked: asked, Output: s.server.output.last()}
	if !asked {
		s.crashes = append(s.crashes, s.last.At)
	}
	s.ended = s.server.output
	s.server, s.boot, s.until, s.why, s.state, s.stopDue = nil, "", 0, "", Pausing, nil
	s.order()
	s.push()
	last, log := *s.last, s.Log
	s.say(func() { log.Warn("The server has ended.", "boot", last.Boot, "how", last.How, "asked", last.Asked) })
	s.clearing = true
	s.sweep = time.After(0)
}

// completeOutput adds what the server that ended last printed at its end, which may be read after
// its end was seen.
func (s *supervisor) completeOutput(boot string) {
	if s.last == nil || s.last.Boot != boot {
		return
	}
	last := *s.last // the one before has been given away
	last.Output = s.ended.last()
	s.last = &last
	s.push()
}

// clear ends what the server has left behind. When nothing is left, and its output has been read,
// it goes on.
func (s *supervisor) clear() error {
	left := slices.DeleteFunc(offspring(), func(pid int) bool { return pid == s.dog.pid })
	for _, pid := range left {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if len(left) > 0 {
		s.sweep = time.After(20 * time.Millisecond)
		s.reap()
		return nil
	}
	s.sweep, s.clearing = nil, false
	return s.next()
}

// next says what follows a server that has ended.
//
//	what is seen                                      next
//	------------------------------------------------  ---------------------------------
//	Run was told to stop                              Run ends
//	it crashed more often than is allowed             Run ends
//	it was stopped by Stop                            held
//	it was asked to end, and had run for a second     started at once
//	it crashed for the first time in the time         started at once
//	else                                              started after 1 s, 2 s, 4 s, 8 s …
func (s *supervisor) next() error {
	s.crashes = slices.DeleteFunc(s.crashes, func(at time.Duration) bool { return Now()-at > s.Within })
	n := len(s.crashes)
	switch {
	case s.stopping != nil, !s.last.Asked && n > s.Crashes:
		s.done = true
		return nil
	case s.held:
		s.state = Held
		s.push()
		return nil
	}
	var wait time.Duration
	switch {
	case !s.last.Asked && n > 1:
		wait = time.Second << min(n-2, 10)
	case s.last.Asked && s.last.At-s.startedAt < time.Second:
		wait = time.Second
	}
	if wait == 0 {
		return s.start()
	}
	s.pause = time.After(wait)
	return nil
}

// join takes a new connection.
func (s *supervisor) join(x *session) {
	if len(s.sessions) >= mostSessions {
		oldest := slices.IndexFunc(s.sessions, func(o *session) bool { return o != s.controller })
		s.leave(s.sessions[oldest])
	}
	s.sessions = append(s.sessions, x)
	go s.serve(x)
}

// leave ends a connection. Its requests that are under way do not count.
func (s *supervisor) leave(x *session) {
	x.closed = true
	_ = x.conn.Close()
	s.sessions = slices.DeleteFunc(s.sessions, func(o *session) bool { return o == x })
	if s.controller == x {
		s.controller = nil
	}
}

// push tells the watchers. One that has not read the change before gets this one instead.
func (s *supervisor) push() {
	for _, x := range s.sessions {
		if x.updates == nil {
			continue
		}
		select {
		case <-x.updates:
		default:
		}
		x.updates <- s.status()
	}
}

func (s *supervisor) status() Status {
	st := Status{
		State: s.state, Boot: s.boot, Starts: s.starts, Crashes: len(s.crashes), Term: s.term, Until: s.until, Now: Now(),
		Stopping: s.stopping != nil, Last: s.last,
	}
	if s.server != nil {
		st.PID, st.Output = s.server.pid, s.server.output.last()
	}
	return st
}

// answer carries out a request.
func (s *supervisor) answer(a ask) {
	if a.from.closed {
		close(a.reply)
		return
	}
	var said answer
	switch a.what.Do {
	case doStatus:
	case doWatch:
		a.from.updates = make(chan Status, 1)
	default:
		if s.controller != nil && s.controller != a.from {
			s.leave(s.controller)
		}
		s.controller = a.from
		if refused, detail := s.command(a.what); refused != "" {
			said.Refused, said.Detail = refused, detail
		}
	}
	st := s.status()
	said.Status = &st
	a.reply <- said
}

// command carries out a command, or gives the code of its refusal.
func (s *supervisor) command(r request) (refused, detail string) {
	if r.Do != doStart && r.Boot != s.boot {
		return "boot", fmt.Sprintf("it runs %q, and %q was named", s.boot, r.Boot)
	}
	switch r.Do {
	case doArm:
		return s.arm(r)
	case doDisarm:
		switch {
		case r.Term < s.term:
			return "term", fmt.Sprintf("%d, and %d was named", s.term, r.Term)
		case s.state != Running:
			return "ending", s.why
		}
		s.until = 0
		s.order()
		if s.stopping != nil {
			s.signal(s.stopping)
		}
		s.push()
	case doKill:
		s.kill(r.Why)
	case doRestart:
		s.end(r.Why, syscall.SIGTERM)
	case doStop:
		s.held = true
		if s.pause != nil {
			s.pause, s.state = nil, Held
			s.push()
		}
		s.end(r.Why, syscall.SIGTERM)
	case doStart:
		s.held = false
		if s.server == nil && !s.clearing {
			s.pause = time.After(0)
		}
	}
	return "", ""
}

// arm extends the permission:
//
//	what is seen                                          answer
//	----------------------------------------------------  -------------------
//	another server runs, or none                          ErrBoot
//	it is being ended                                     ErrEnding
//	Run was told to stop, and it has no permission        ErrEnding
//	a later term was armed                                ErrTerm
//	it has ended already                                  ErrPast
//	it ends more than Longest ahead                       ErrFar
//	the permission that it has ends later                 that one stays
//	else                                                  it is the permission
func (s *supervisor) arm(r request) (refused, detail string) {
	now := Now()
	switch {
	case s.server == nil:
		return "boot", "no server runs"
	case s.state != Running:
		return "ending", s.why
	case s.stopping != nil && s.until == 0:
		return "ending", "understudy run was told to stop"
	case r.Term < s.term:
		return "term", fmt.Sprintf("%d, and %d was named", s.term, r.Term)
	case r.Until <= now:
		return "past", fmt.Sprintf("at %s, and it is %s", r.Until, now)
	case r.Until > now+Longest:
		return "far", fmt.Sprintf("at %s, it is %s, and %s is allowed", r.Until, now, Longest)
	}
	s.term = r.Term
	s.until = max(s.until, r.Until)
	s.order()
	if s.state != Running { // its timer cannot be set
		return "ending", s.why
	}
	return "", ""
}
