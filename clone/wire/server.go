package wire

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Backup is one running backup. Its bytes are one raw xbstream.
type Backup struct {
	Header Header
	Stream io.Reader
	// Phase says in a few words what the backup is at. It changes while the backup is
	// alive, even when no bytes come, as "waiting for a lock, 7 s". It may be nil.
	Phase func() string
	// Finish ends the backup, releases all that it held, and says whether its tool
	// ended well. It is called exactly once, also after an early end.
	Finish func() error
}

// Donor is what the server needs of the member that it speaks for.
type Donor interface {
	// Member describes the member; the server fills in the slots and the clones.
	Member(ctx context.Context) Member
	// Backup starts a backup that lives no longer than ctx. An error that wraps
	// ErrNotServing, ErrUnable or ErrBusy is an answer to the joiner, not a fault; that also
	// goes for the error of a backup that ends before its first byte.
	Backup(ctx context.Context, ask Ask) (Backup, error)
}

// Ask is what a joiner asks for.
type Ask struct {
	// StreamID names the stream.
	StreamID string
	// Engines are those whose streams the joiner takes besides those that the tools can unpack.
	Engines []string
}

// maxEngines bounds the names of engines that a joiner can know.
const maxEngines = 16

// Server answers peers. Make one with NewServer.
type Server struct {
	donor Donor
	ServerConfig

	mu       sync.Mutex
	draining bool
	streams  map[string]*outgoing // by id; also those that have ended, for a while
	streamWG sync.WaitGroup
	raw      context.CancelCauseFunc // ends the raw clone that is being given; nil without one
}

// Outcome tells an observer how one stream ended.
type Outcome struct {
	Member string
	// Bytes is the length of the xbstream so far.
	Bytes int64
	Took  time.Duration
	Err   error
}

// ServerConfig are the settings of a Server.
type ServerConfig struct {
	// Slots is how many clones are given at the same time.
	Slots int
	// Stall is how long a joiner may neither take a byte nor report that it lives before
	// its connection is given up. Reports alone keep the connection for ten times as long.
	Stall time.Duration
	// Grace is how long a joiner whose connection broke may stay away before its
	// clone is ended.
	Grace time.Duration
	// Throttle, when set, bounds the bytes a second of all clones together.
	Throttle *Throttle
	// Observe, when set, is called after each stream.
	Observe func(Outcome)
	Log     *slog.Logger
}

// NewServer makes a Server for donor.
func NewServer(donor Donor, c ServerConfig) *Server {
	if c.Observe == nil {
		c.Observe = func(Outcome) {}
	}
	if c.Throttle == nil {
		c.Throttle = NewThrottle(0)
	}
	return &Server{donor: donor, ServerConfig: c, streams: map[string]*outgoing{}}
}

// Handler routes the protocol's requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathMember, s.member)
	mux.HandleFunc("GET "+pathClone, s.clone)
	mux.HandleFunc("GET "+pathClone+"/{id}", s.resume)
	mux.HandleFunc("PUT "+pathClone+"/{id}", s.report)
	mux.HandleFunc("DELETE "+pathClone+"/{id}", s.remove)
	return mux
}

// HTTP makes the server that speaks the protocol. tlsConfig is nil only when the
// operator asked for an open port.
func (s *Server) HTTP(tlsConfig *tls.Config) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s.Handler(),
		TLSConfig:         tlsConfig,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if err := boundSend(c); err != nil {
				s.Log.Debug("send buffer not bounded", "error", err)
			}
			return ctx
		},
		IdleTimeout:    30 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
}

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
		if !o.isSettled() {
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

// Drain takes no new clones and returns when the running ones have ended. When ctx
// ends first, they are ended. The last bytes may still be on their way through the
// http.Server then: Shutdown waits for them, Close would cut them off.
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
		o.cancel(errDraining)
		go s.end(o, errDraining)
	}
	<-ended
}

func (s *Server) member(w http.ResponseWriter, r *http.Request) {
	m := s.donor.Member(r.Context())
	m.Giving = s.Giving()
	m.Slots, m.SlotsBusy = s.Slots, len(m.Giving)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m) // a peer that left is not our error
}

// remove answers DELETE: the joiner has all, or wants no more.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	o := s.find(r)
	if o == nil || o.ring() == nil && o.isSettled() {
		s.refuse(w, http.StatusNotFound, problem{Code: codeRequest, Error: "no such stream"}, 0)
		return
	}
	s.end(o, errDeleted)
	w.WriteHeader(http.StatusNoContent)
}

// report answers PUT: the joiner lives, and has all bytes before the offset.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	offset, err := strconv.ParseInt(r.Header.Get(headerOffset), 10, 64)
	if err != nil || offset < 0 {
		s.refuse(w, http.StatusBadRequest, problem{Code: codeRequest, Error: "the header " + headerOffset + " must say how much has arrived"}, 0)
		return
	}
	if o := s.find(r); o == nil || !o.report(offset, stallShare*s.Stall, s.Grace) {
		s.refuse(w, http.StatusNotFound, problem{Code: codeGone, Error: "no such stream"}, 0)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// find looks a stream up by its id. With the wrong member's name there is none.
func (s *Server) find(r *http.Request) *outgoing {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.streams[r.PathValue("id")]
	if o == nil || o.member != r.Header.Get(headerMember) {
		return nil
	}
	return o
}

// memberName is what a joiner may call itself: it ends up in logs.
var memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)

func (s *Server) clone(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // the pattern lets HEAD through, which must not start a backup
		s.refuse(w, http.StatusMethodNotAllowed, problem{Code: codeRequest, Error: "a clone is asked for with GET"}, 0)
		return
	}
	member := r.Header.Get(headerMember)
	if !memberName.MatchString(member) {
		s.refuse(w, http.StatusBadRequest, problem{Code: codeRequest, Error: "the header " + headerMember + " must name the member that asks"}, 0)
		return
	}
	// The stream outlives the request.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	o, refusal, wait := s.admit(member, cancel)
	if o == nil {
		cancel(nil)
		s.refuse(w, http.StatusServiceUnavailable, refusal, wait)
		return
	}
	o.onEnd = func(f func()) func() bool { return context.AfterFunc(ctx, f) }
	log := s.Log.With("joiner", member, "stream", o.id, "remote", r.RemoteAddr)
	// Until its first byte nobody could come back for it.
	early := context.AfterFunc(r.Context(), func() { cancel(errLeft) })
	err := s.begin(ctx, o, r.Header)
	if !early() && err == nil {
		err = errLeft
	}
	if err != nil {
		s.end(o, err)
		s.refuseFor(w, log, err)
		return
	}
	log.Info("clone started", "estimated_bytes", o.backup.Header.EstimatedBytes, "engine", o.backup.Header.Engine, "encoding", o.encoding)
	s.serve(w, r, o, 0, log)
}

// begin starts the backup and waits for its first byte: a tool that fails at once, as
// over a missing privilege, is told apart from a broken stream.
func (s *Server) begin(ctx context.Context, o *outgoing, h http.Header) error {
	backup, err := s.donor.Backup(ctx, Ask{StreamID: o.id, Engines: strings.SplitN(h.Get(headerEngines), ",", maxEngines)})
	if err != nil {
		close(o.pumped)
		return err
	}
	o.mu.Lock()
	o.encoding = choose(h.Get(headerAccept))
	backup.Header.StreamID, backup.Header.Encoding = o.id, o.encoding
	o.backup = backup
	ring := newReplay(keepFor(h.Get(headerWindow), sendBuffer()), aheadSize)
	o.replay = ring
	o.mu.Unlock()
	go o.pump(ctx)
	if first, err := ring.next(ctx, 1); len(first) > 0 || err != nil {
		return err
	}
	<-o.pumped
	_, _, _, err = o.trailers()
	if isAnswer(err) {
		return err
	}
	return errors.Join(errors.New("the tool wrote nothing"), err)
}

// resume gives a stream again, from where the joiner has it.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	offset, err := strconv.ParseInt(r.Header.Get(headerOffset), 10, 64)
	if err != nil || offset < 0 || r.Method != http.MethodGet {
		s.refuse(w, http.StatusBadRequest, problem{Code: codeRequest, Error: "the header " + headerOffset + " must say from where"}, 0)
		return
	}
	o := s.find(r)
	if o == nil {
		s.refuse(w, http.StatusNotFound, problem{Code: codeGone, Error: "no such stream; was this member restarted?"}, 0)
		return
	}
	s.serve(w, r, o, offset, s.Log.With("joiner", o.member, "stream", o.id, "remote", r.RemoteAddr, "offset", offset))
}

// serve sends a stream until its end, or until the connection breaks.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, o *outgoing, offset int64, log *slog.Logger) {
	out := newSender(w, s.Stall)
	ctx, turn := o.attach(r.Context(), out)
	ring := o.ring()
	if ring == nil || ring.seek(offset) != nil {
		err := errGone
		if ring == nil {
			_, _, _, err = o.trailers()
		}
		s.detach(o, turn)
		s.refuse(w, http.StatusGone, problem{Code: codeGone, Error: oneLine(err)}, 0)
		return
	}
	if ring.reported() { // on an earlier connection: it has to on this one
		out.lives()
	}
	if offset > 0 {
		log.Info("clone resumed")
	}
	whole, err := s.send(ctx, out, o, ring)
	s.detach(o, turn)
	if whole {
		s.settle(o, err)
	}
	if err == nil {
		log.Info("clone given", "bytes", ring.position(), "seconds", time.Since(o.begun).Seconds())
		return
	}
	log.Warn("clone interrupted", "bytes", ring.position(), "error", err)
	if w.Header().Get(trailerStatus) == "" {
		panic(http.ErrAbortHandler) // cuts the connection: no joiner takes that for the end
	}
}

func (s *Server) detach(o *outgoing, a *attachment) {
	o.detach(a, s.Grace, func() {
		if o.isSettled() {
			s.drop(o)
			return
		}
		s.end(o, errAbandoned)
	})
}

// admit finds a slot. The member's own earlier streams, left behind by a restart, are
// ended first so that nobody is told "busy" by its own orphan.
func (s *Server) admit(member string, cancel context.CancelCauseFunc) (*outgoing, problem, time.Duration) {
	for {
		s.mu.Lock()
		var orphan *outgoing
		busy := 0
		for _, o := range s.streams {
			if o.member == member && (!o.isSettled() || o.ring() != nil) {
				orphan = o
			}
			if !o.isSettled() {
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
				id: newStreamID(), member: member, begun: time.Now(), cancel: cancel,
				pumped: make(chan struct{}), done: make(chan struct{}),
			}
			s.streams[o.id] = o
			s.streamWG.Add(1)
			s.mu.Unlock()
			return o, problem{}, 0
		}
		s.mu.Unlock()
		s.end(orphan, errReplaced)
	}
}

// end ends a stream, whatever it is at, and returns when it takes no slot any more.
func (s *Server) end(o *outgoing, cause error) {
	o.cancel(cause)
	<-o.pumped
	for turn := o.turn(); turn != nil; turn = o.turn() {
		<-turn.left
	}
	s.settle(o, cause)
	o.forget()
	if errors.Is(cause, errDeleted) {
		s.drop(o)
	}
}

// settle frees the slot, once. What has ended is remembered for a while, so that a joiner that
// comes back hears why.
func (s *Server) settle(o *outgoing, err error) {
	o.mu.Lock()
	if o.settled {
		o.mu.Unlock()
		return
	}
	o.settled = true
	if o.err == nil {
		o.err = err
	}
	bytes := o.raw
	o.mu.Unlock()
	if err != nil {
		time.AfterFunc(s.Grace, func() { s.drop(o) })
	}
	if bytes > 0 {
		s.Observe(Outcome{Member: o.member, Bytes: bytes, Took: time.Since(o.begun), Err: err})
	}
	close(o.done)
	s.streamWG.Done()
}

// drop forgets a stream that has been settled.
func (s *Server) drop(o *outgoing) {
	o.forget()
	s.mu.Lock()
	delete(s.streams, o.id)
	s.mu.Unlock()
}

// wait estimates when the first slot falls free, from the progress of the running
// clones. s.mu is held.
func (s *Server) wait() time.Duration {
	const longest = 10 * time.Minute
	best := longest
	for _, o := range s.streams {
		if o.isSettled() {
			continue
		}
		left := busyRetry
		if made, total := o.progress(); made > 0 && total > made {
			nanos := float64(time.Since(o.begun)) * float64(total-made) / float64(made)
			left = time.Duration(min(nanos, float64(longest))) // what is beyond a Duration is undefined
		}
		best = min(best, left)
	}
	return max(best, time.Second)
}

// isAnswer says whether an error tells a joiner something that is no fault.
func isAnswer(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrNotServing) || errors.Is(err, ErrUnable)
}

func (s *Server) refuseFor(w http.ResponseWriter, log *slog.Logger, err error) {
	if !isAnswer(err) {
		log.Warn("backup did not start", "error", err)
		s.refuse(w, http.StatusInternalServerError, problem{Code: codeFailed, Error: err.Error()}, busyRetry)
		return
	}
	log.Info("clone refused", "reason", err)
	p, wait := problem{Code: codeNotServing, Error: err.Error(), Lasting: errors.Is(err, ErrUnable)}, busyRetry
	switch {
	case p.Lasting:
		wait = 0
	case errors.Is(err, ErrBusy):
		p.Code = codeBusy
	}
	for _, kind := range []error{ErrUnable, ErrBusy, ErrNotServing} { // the code says that
		p.Error = strings.TrimPrefix(p.Error, kind.Error()+": ")
	}
	s.refuse(w, http.StatusServiceUnavailable, p, wait)
}

func (s *Server) refuse(w http.ResponseWriter, status int, p problem, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // a peer that left is not our error
}
