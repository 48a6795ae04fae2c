package replicate

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"time"
)

// sourceMemory is what was learnt about the source and outlasts the turn in which it was asked.
// Only the loop uses it, and whoever asks Agent.Errant, for whom errant has its own lock.
type sourceMemory struct {
	log *slog.Logger
	// given is the replication password that this process gave the server last.
	given string
	// taken is the one that the source took when it was asked.
	taken taken
	// proof is what the source said last that could not prove itself.
	proof proof
	// said is the source's last answer before a step that starts replication, or after one that was
	// unjudged; nil before the first.
	said *SourceFacts
	// judged are the transactions of our server of which the source gave an answer last, while
	// replication ran; askedOf are those of which it was asked last, and asked is when.
	judged, askedOf string
	asked           time.Time
	// unjudged says that replication was started although the source gave no answer, and that it has
	// given none since by which all is well.
	unjudged bool
	// harmless is what the source said, of these transactions of our server, when a backup kept them
	// from being forgotten; nil while none does. It is not asked again for as long as that lasts.
	harmless *heldBack
	// search is the last search for what the source lacks in our binary logs.
	search search
	errant errantNow
}

// tried reports whether the server was given this password last.
func (m *sourceMemory) tried(password string) bool {
	return m.given != "" && m.given == password
}

// forget is for a server that has other transactions now: what was said of them means nothing.
func (m *sourceMemory) forget() {
	m.said, m.harmless, m.search = nil, nil, search{}
	m.judged, m.askedOf, m.asked = "", "", time.Time{} // its next one may have the same number
}

// heldBack is an answer of the source that cannot be acted upon yet.
type heldBack struct {
	of   string
	said *SourceFacts
}

// taken is the password that the source took, of those that there were.
type taken struct {
	of       passwords
	password string
	asked    time.Time
}

// askAgain is how long after a question which password is taken the next one is asked.
const askAgain = 5 * time.Second

// choose picks the one of two passwords that a server takes. While it takes neither, or does not
// answer, that is the last one that it took, or else the current one.
func (m *sourceMemory) choose(ctx context.Context, s Source, d dialect) string {
	both := passwords{s.Password, s.Previous}
	if m.taken.of != both {
		m.taken = taken{of: both, password: both.current}
	}
	if time.Since(m.taken.asked) >= askAgain || m.taken.asked.IsZero() {
		m.tryPasswords(ctx, s, d)
	}
	return m.taken.password
}

func (m *sourceMemory) tryPasswords(ctx context.Context, s Source, d dialect) {
	m.taken.asked = time.Now()
	for _, password := range []string{m.taken.of.current, m.taken.of.previous} {
		ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
		s.Password = password
		_, _, err := queryServer(ctx, s, d)
		cancel()
		switch {
		case refuses(err):
		case err == nil || errors.Is(err, sql.ErrNoRows): // it has no GTIDs to tell of
			m.taken.password = password
			return
		default:
			m.log.Debug("the source was not asked which password it takes", "error", err)
			return
		}
	}
}

// proveAgain is how soon a source is asked again that could not prove itself. A connection that we
// break off counts there, towards max_connect_errors.
const proveAgain = 5 * time.Second

// proof is what the source was found to be when it was asked last.
type proof struct {
	asked    time.Time
	of       string // host and port
	unproven string
}

// prove asks a source to prove itself. It returns why it could not.
func (m *sourceMemory) prove(ctx context.Context, s Source, d dialect) (unproven string) {
	of := net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	if p := m.proof; p.of == of && p.unproven != "" && time.Since(p.asked) < proveAgain {
		return p.unproven
	}
	defer func() { m.proof = proof{time.Now(), of, unproven} }()
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	_, _, err := queryServer(ctx, s, d)
	// It is asked for a password, and for its GTIDs, after it has proved itself.
	if err == nil || refuses(err) || errors.Is(err, sql.ErrNoRows) {
		return ""
	}
	return err.Error()
}
