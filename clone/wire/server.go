package wire

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Backup is one running backup. Its stream is a raw xbstream.
type Backup struct {
	Header Header
	Stream io.Reader
	// Phase describes in a few words what the backup does. It changes while the backup advances,
	// even when no bytes come, as in "waiting for a lock, 7 s". It may be nil.
	Phase func() string
	// Finish ends the backup, releases everything that it holds, and returns the tool's error. It
	// is called exactly once, also after an early end.
	Finish func() error
}

// Donor is what the server needs of its member.
type Donor interface {
	// Member describes the member; the server adds slots and running clones.
	Member(ctx context.Context) Member
	// Backup starts a backup that ends with ctx. An error that wraps ErrNotServing, ErrUnable or
	// ErrBusy is an answer to the joiner, not a fault. So is such an error of a backup that ends
	// before its first byte.
	Backup(ctx context.Context, ask Ask) (Backup, error)
}

// Ask is what a joiner asks for.
type Ask struct {
	// StreamID names the stream.
	StreamID string
	// Engines are the engines whose own kind of stream the joiner understands; tools cannot unpack
	// those.
	Engines []string
}

// maxEngines bounds how many engines a joiner can name.
const maxEngines = 16

// Server answers peers. Make one with NewServer.
type Server struct {
	donor Donor
	ServerConfig

	mu       sync.Mutex
	draining bool
	streams  map[string]*outgoing // by id; ended ones stay for Grace
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
	// Stall is how long a joiner may neither take a byte nor report before its connection is
	// closed. Reports without progress keep the connection for ten times as long.
	Stall time.Duration
	// Grace is how long a joiner without a connection may stay away before its clone is ended.
	Grace time.Duration
	// Throttle, when set, bounds the bytes per second of all clones together.
	Throttle *Throttle
	// Observe, when set, is called after each stream.
	Observe func(Outcome)
	// Lead, when set, answers what is asked below PathLead.
	Lead http.Handler
	Log  *slog.Logger
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
	if s.Lead != nil {
		mux.Handle("POST "+PathLead, s.Lead)
	}
	return mux
}

// HTTP makes the server of the protocol. tlsConfig is nil only when the operator asked for an open
// port. Serve TLS on a listener of Gather.
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
			return withGather(ctx, c)
		},
		IdleTimeout:    30 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
}

func (s *Server) member(w http.ResponseWriter, r *http.Request) {
	m := s.donor.Member(r.Context())
	m.Giving = s.Giving()
	m.Slots, m.SlotsBusy = s.Slots, len(m.Giving)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m) // a peer that left is not our error
}

// remove answers DELETE: the joiner has the whole stream, or does not want it.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	o := s.find(r)
	if o == nil || o.current() == forgotten {
		s.refuse(w, http.StatusNotFound, problem{Code: codeRequest, Error: "no such stream"}, 0)
		return
	}
	s.end(o, errDeleted)
	w.WriteHeader(http.StatusNoContent)
}

// report answers PUT: the joiner lives and has all bytes before the offset.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	offset, err := strconv.ParseInt(r.Header.Get(headerOffset), 10, 64)
	if err != nil || offset < 0 {
		s.refuse(w, http.StatusBadRequest, problem{Code: codeRequest, Error: "the header " + headerOffset + " must say how much has arrived"}, 0)
		return
	}
	if o := s.find(r); o == nil || !o.report(offset, stallShare*s.Stall) {
		s.refuse(w, http.StatusNotFound, problem{Code: codeGone, Error: "no such stream"}, 0)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// find returns the stream of a request. It returns nil for the name of another member, and before
// the first byte.
func (s *Server) find(r *http.Request) *outgoing {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.streams[r.PathValue("id")]
	if o == nil || o.member != r.Header.Get(headerMember) || o.current() == starting {
		return nil
	}
	return o
}

// memberName is the form of a joiner's name, which is logged.
var memberName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)

func (s *Server) clone(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // the pattern also matches HEAD, which must not start a backup
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
	o.peer = peerOf(r)
	log := s.Log.With("joiner", member, "stream", o.id, "remote", r.RemoteAddr)
	// Before its first byte no joiner can resume it.
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
	log.Info("clone started", "estimated_bytes", o.backup.Header.EstimatedBytes, "engine", o.backup.Header.Engine, "encoding", o.encoding, "connections", o.lanes)
	at := place{lane: noLane}
	if o.lanes > 1 {
		at.lane = 0
	}
	s.serve(w, r, o, at, log)
}

// begin starts the backup and waits for its first byte. So a tool that fails at once, as for a
// missing privilege, is an answer and not a broken stream.
func (s *Server) begin(ctx context.Context, o *outgoing, h http.Header) error {
	backup, err := s.donor.Backup(ctx, Ask{StreamID: o.id, Engines: strings.SplitN(h.Get(headerEngines), ",", maxEngines)})
	if err != nil {
		close(o.pumped)
		return err
	}
	o.mu.Lock()
	o.encoding = choose(h.Get(headerAccept))
	o.lanes = askedConnections(h.Get(headerConnections))
	backup.Header.StreamID, backup.Header.Encoding, backup.Header.Connections = o.id, o.encoding, o.lanes
	o.backup = backup
	ring := newReplay(keepFor(h.Get(headerWindow), sendBuffer()), aheadSize)
	if o.lanes > 1 {
		ring.split(o.lanes)
	}
	o.ring = ring
	o.mu.Unlock()
	go o.pump(ctx, ring)
	if begun, err := ring.begins(ctx); begun || err != nil {
		return err
	}
	<-o.pumped
	_, _, _, err = o.trailers()
	if isAnswer(err) {
		return err
	}
	return errors.Join(errors.New("the tool wrote nothing"), err)
}

// resume sends a stream, or one of its lanes, from the offset that the joiner names.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	offset, err := strconv.ParseInt(r.Header.Get(headerOffset), 10, 64)
	if err != nil || offset < 0 || r.Method != http.MethodGet {
		s.refuse(w, http.StatusBadRequest, problem{Code: codeRequest, Error: "the header " + headerOffset + " must say from where"}, 0)
		return
	}
	at, log := place{offset, noLane}, s.Log
	if text := r.Header.Get(headerLane); text != "" {
		if at.lane, err = strconv.Atoi(text); err != nil || at.lane < 0 || at.lane >= MaxConnections {
			s.refuse(w, http.StatusBadRequest, problem{Code: codeRequest, Error: "the header " + headerLane + " must name a lane"}, 0)
			return
		}
		log = log.With("lane", at.lane)
	}
	o := s.find(r)
	if o == nil || at.lane != noLane && o.peer != peerOf(r) {
		s.refuse(w, http.StatusNotFound, problem{Code: codeGone, Error: "no such stream; was this member restarted?"}, 0)
		return
	}
	s.serve(w, r, o, at, log.With("joiner", o.member, "stream", o.id, "remote", r.RemoteAddr, "offset", offset))
}

// peerOf identifies who sent a request by the key that it proved; empty without TLS. Only the same
// peer can add connections to a clone. After a change of its key it still resumes it.
func peerOf(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	return string(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
}

// serve sends a stream, or one of its lanes, until its end or until the connection breaks.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, o *outgoing, at place, log *slog.Logger) {
	out := newSender(w, s.Stall)
	out.gather = gatherOf(r.Context())
	ctx, turn, err := o.attach(r.Context(), out, at)
	if err != nil {
		s.refuse(w, http.StatusGone, problem{Code: codeGone, Error: oneLine(err)}, 0)
		return
	}
	if at.lane == noLane && at.offset > 0 || at.offset >= int64(o.lanes)*stripeSize {
		log.Info("clone resumed")
	}
	whole, err := s.send(ctx, o, turn)
	all := o.detach(turn, whole)
	if all {
		s.settle(o, err)
	}
	switch {
	case err == nil && all:
		log.Info("clone given", "bytes", turn.ring.position(), "seconds", time.Since(o.begun).Seconds())
		return
	case err == nil: // the other lanes
		return
	}
	log.Warn("clone interrupted", "bytes", turn.ring.position(), "error", err)
	if w.Header().Get(trailerStatus) == "" {
		panic(http.ErrAbortHandler) // cuts the connection, which no joiner takes for the end
	}
}

// isAnswer says whether an error is an answer to the joiner, not a fault.
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
	for _, kind := range []error{ErrUnable, ErrBusy, ErrNotServing} { // the code already says so
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
