package wire

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Backup is one running backup. Its bytes are one raw xbstream.
type Backup struct {
	Header Header
	Stream io.Reader
	// Finish ends the backup, releases all that it held, and says whether its tool
	// ended well. It is called exactly once, also after an early end.
	Finish func() error
}

// Donor is what the server needs of the member that it speaks for.
type Donor interface {
	// Member describes the member; the server fills in the slots.
	Member(ctx context.Context) Member
	// Backup starts a backup that lives no longer than ctx. An error that wraps
	// ErrNotServing is an answer to the joiner, not a fault.
	Backup(ctx context.Context, streamID string) (Backup, error)
}

// Server answers peers. Make one with NewServer.
type Server struct {
	donor   Donor
	log     *slog.Logger
	slots   int
	stall   time.Duration
	observe func(Outcome)

	mu       sync.Mutex
	draining bool
	streams  map[string]*stream // by id
	streamWG sync.WaitGroup
}

// stream is one clone that is being given.
type stream struct {
	id, member string
	begun      time.Time
	estimate   int64
	sent       int64
	cancel     context.CancelCauseFunc
	done       chan struct{}
}

// Outcome tells an observer how one stream ended.
type Outcome struct {
	Member string
	Bytes  int64
	Took   time.Duration
	Err    error
}

// ServerConfig are the settings of a Server.
type ServerConfig struct {
	// Slots is how many clones are given at the same time.
	Slots int
	// Stall is how long a joiner may take no byte before its clone is ended.
	Stall time.Duration
	// Observe, when set, is called after each stream.
	Observe func(Outcome)
	Log     *slog.Logger
}

// NewServer makes a Server for donor.
func NewServer(donor Donor, c ServerConfig) *Server {
	if c.Observe == nil {
		c.Observe = func(Outcome) {}
	}
	return &Server{donor: donor, log: c.Log, slots: c.Slots, stall: c.Stall, observe: c.Observe, streams: map[string]*stream{}}
}

// Handler routes the protocol's three requests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathMember, s.member)
	mux.HandleFunc("GET "+pathClone, s.clone)
	mux.HandleFunc("DELETE "+pathClone+"/{id}", s.end)
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
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
}

// Busy is the number of clones being given.
func (s *Server) Busy() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

var (
	errDraining = errors.New("the member is shutting down")
	errReplaced = errors.New("the same member asked again")
	errDeleted  = errors.New("the joiner ended the clone")
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
	for _, st := range s.streams {
		st.cancel(errDraining)
	}
	s.mu.Unlock()
	<-ended
}

func (s *Server) member(w http.ResponseWriter, r *http.Request) {
	m := s.donor.Member(r.Context())
	m.Slots, m.SlotsBusy = s.slots, s.Busy()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m) // a peer that left is not our error
}

func (s *Server) end(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	st := s.streams[r.PathValue("id")]
	s.mu.Unlock()
	if st == nil {
		s.refuse(w, http.StatusNotFound, problem{codeRequest, "no such stream"}, 0)
		return
	}
	st.cancel(errDeleted)
	<-st.done
	w.WriteHeader(http.StatusNoContent)
}

// memberName is what a joiner may call itself: it ends up in logs.
var memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)

func (s *Server) clone(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // the pattern lets HEAD through, which must not start a backup
		s.refuse(w, http.StatusMethodNotAllowed, problem{codeRequest, "a clone is asked for with GET"}, 0)
		return
	}
	member := r.Header.Get(headerMember)
	if !memberName.MatchString(member) {
		s.refuse(w, http.StatusBadRequest, problem{codeRequest, "the header " + headerMember + " must name the member that asks"}, 0)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	st, refusal, wait := s.admit(ctx, member, cancel)
	if st == nil {
		s.refuse(w, http.StatusServiceUnavailable, refusal, wait)
		return
	}
	defer s.release(st)
	log := s.log.With("joiner", member, "stream", st.id, "remote", r.RemoteAddr)
	backup, err := s.donor.Backup(ctx, st.id)
	if err != nil {
		s.explain(w, log, err)
		return
	}
	finish := sync.OnceValue(backup.Finish)
	defer func() { _ = finish() }() // the error that came first is the one that counts
	// A tool that fails at once, as over a missing privilege, is told apart from a
	// broken stream by waiting for its first bytes.
	first := make([]byte, 256<<10)
	n, err := backup.Stream.Read(first)
	if n == 0 {
		s.explain(w, log, errors.Join(finish(), fmt.Errorf("the tool wrote nothing: %w", err)))
		return
	}
	s.mu.Lock()
	st.estimate = backup.Header.EstimatedBytes
	s.mu.Unlock()
	backup.Header.StreamID, backup.Finish = st.id, finish
	log.Info("clone started", "estimated_bytes", st.estimate, "engine", backup.Header.Engine)
	if err = s.send(ctx, w, st, backup, first[:n]); err != nil {
		cancel(err) // stops a tool that is not writing, too
	}
	s.observe(Outcome{Member: member, Bytes: st.sent, Took: time.Since(st.begun), Err: err})
	if err != nil {
		log.Warn("clone ended early", "bytes", st.sent, "error", err)
		if w.Header().Get(trailerStatus) == "" {
			panic(http.ErrAbortHandler) // cuts the connection: no joiner takes that for the end
		}
		return
	}
	log.Info("clone given", "bytes", st.sent, "seconds", time.Since(st.begun).Seconds())
}

// admit finds a slot. The member's own earlier stream, left behind by a restart, is
// ended first so that nobody is told "busy" by its own orphan.
func (s *Server) admit(ctx context.Context, member string, cancel context.CancelCauseFunc) (*stream, problem, time.Duration) {
	for {
		s.mu.Lock()
		var orphan *stream
		for _, st := range s.streams {
			if st.member == member {
				orphan = st
			}
		}
		switch {
		case s.draining:
			s.mu.Unlock()
			return nil, problem{codeNotServing, errDraining.Error()}, busyRetry
		case orphan == nil && len(s.streams) >= s.slots:
			wait := s.wait()
			s.mu.Unlock()
			return nil, problem{codeBusy, fmt.Sprintf("all %d clone slots are taken", s.slots)}, wait
		case orphan == nil:
			st := &stream{id: newStreamID(), member: member, begun: time.Now(), cancel: cancel, done: make(chan struct{})}
			s.streams[st.id] = st
			s.streamWG.Add(1)
			s.mu.Unlock()
			return st, problem{}, 0
		}
		s.mu.Unlock()
		orphan.cancel(errReplaced)
		select {
		case <-orphan.done:
		case <-ctx.Done():
			return nil, problem{codeFailed, "the request was withdrawn"}, busyRetry
		}
	}
}

func (s *Server) release(st *stream) {
	s.mu.Lock()
	delete(s.streams, st.id)
	s.mu.Unlock()
	close(st.done)
	s.streamWG.Done()
}

// wait estimates when the first slot falls free, from the progress of the running
// clones. s.mu is held.
func (s *Server) wait() time.Duration {
	const longest = 10 * time.Minute
	best := longest
	for _, st := range s.streams {
		left := busyRetry
		if st.sent > 0 && st.estimate > st.sent {
			nanos := float64(time.Since(st.begun)) * float64(st.estimate-st.sent) / float64(st.sent)
			left = time.Duration(min(nanos, float64(longest))) // what is beyond a Duration is undefined
		}
		best = min(best, left)
	}
	return max(best, time.Second)
}

func (s *Server) explain(w http.ResponseWriter, log *slog.Logger, err error) {
	if errors.Is(err, ErrNotServing) {
		log.Info("clone refused", "reason", err)
		text := strings.TrimPrefix(err.Error(), ErrNotServing.Error()+": ") // the code says that
		s.refuse(w, http.StatusServiceUnavailable, problem{codeNotServing, text}, busyRetry)
		return
	}
	log.Warn("backup did not start", "error", err)
	s.refuse(w, http.StatusInternalServerError, problem{codeFailed, err.Error()}, busyRetry)
}

func (s *Server) refuse(w http.ResponseWriter, status int, p problem, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // a peer that left is not our error
}

// send copies the backup to the joiner and adds what its tool's end proves. An error
// means that the joiner must not get a proper end of the stream.
func (s *Server) send(ctx context.Context, w http.ResponseWriter, st *stream, b Backup, first []byte) error {
	setHeader(w.Header(), b.Header)
	w.WriteHeader(http.StatusOK)
	digest := sha256.New()
	control := http.NewResponseController(w)
	// Whoever ends the clone must not wait for a joiner that takes no more bytes.
	stop := context.AfterFunc(ctx, func() { _ = control.SetWriteDeadline(time.Now().Add(endGrace)) })
	defer stop()
	sink := io.MultiWriter(digest, &sender{w: w, control: control, stall: s.stall, ended: ctx.Done(), stream: st, mu: &s.mu})
	_, err := sink.Write(first)
	if err == nil {
		err = control.Flush() // a joiner has to see that it began, or a cut looks like no answer
	}
	if err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	if _, err := io.CopyBuffer(sink, struct{ io.Reader }{b.Stream}, first[:cap(first)]); err != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	status, toolErr := "0", b.Finish()
	if toolErr != nil {
		status = "1"
		w.Header().Set(trailerError, oneLine(toolErr))
	}
	w.Header().Set(trailerStatus, status)
	w.Header().Set(trailerBytes, strconv.FormatInt(st.sent, 10))
	w.Header().Set(trailerDigest, digestString(digest))
	return toolErr
}

// endGrace is how long a joiner may still take bytes of a clone that was ended, so
// that it hears why.
const endGrace = time.Second

// sender writes to a joiner who has s.stall to take each piece, until the clone is
// ended.
type sender struct {
	w       io.Writer
	control *http.ResponseController
	stall   time.Duration
	ended   <-chan struct{}
	stream  *stream
	mu      *sync.Mutex
}

func (o *sender) Write(p []byte) (int, error) {
	if err := o.extend(); err != nil {
		return 0, fmt.Errorf("set the write deadline: %w", err)
	}
	n, err := o.w.Write(p)
	o.mu.Lock()
	o.stream.sent += int64(n)
	o.mu.Unlock()
	return n, err
}

// extend gives the joiner time for the next piece. The end of the clone sets the last
// deadline, also when it comes between the two looks here.
func (o *sender) extend() error {
	if o.over() {
		return nil
	}
	if err := o.control.SetWriteDeadline(time.Now().Add(o.stall)); err != nil || !o.over() {
		return err
	}
	return o.control.SetWriteDeadline(time.Now().Add(endGrace))
}

func (o *sender) over() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

func setHeader(h http.Header, v Header) {
	h.Set("Content-Type", contentType)
	h.Set("Trailer", trailerStatus+", "+trailerBytes+", "+trailerDigest+", "+trailerError)
	h.Set(headerStream, v.StreamID)
	h.Set(headerEngine, v.Engine)
	h.Set(headerServerVersion, v.ServerVersion)
	h.Set(headerToolVersion, v.ToolVersion)
	h.Set(headerRole, string(v.Role))
	h.Set(headerOrigin, string(v.Origin))
	h.Set(headerEstimate, strconv.FormatInt(v.EstimatedBytes, 10))
	h.Set(headerEncoding, encodingNone)
}

// oneLine makes an error fit into a header. Of a long one the beginning says what
// failed, and the end is a tool's last words.
func oneLine(err error) string {
	const most = 2000
	text := []byte(err.Error())
	if len(text) > most {
		text = append(text[:most/2], text[len(text)-most/2:]...)
	}
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = ' '
		}
	}
	return string(text)
}

func newStreamID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}
