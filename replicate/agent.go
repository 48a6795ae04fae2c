package replicate

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"understudy/replicate/dictionary"
	"understudy/replicate/flavor"
	"understudy/replicate/origin"
)

// Record is what the agent needs of the member's durable journal.
type Record interface {
	// Standing is what is recorded. It is asked before each look and again before each step.
	Standing() Recorded
	// MarkComplete records that the image is done, or that an adopted directory has all its files.
	MarkComplete() error
	// MarkConfigured records that the channel is ours.
	MarkConfigured() error
	// MarkAttached records that the member has taken its role.
	MarkAttached(ctx context.Context) error
	// MarkFresh records that the data are to be taken for a fresh copy with this origin.
	MarkFresh(o origin.Origin) error
	// MarkSemiSynced records that commits are not acknowledged without a replica any more.
	MarkSemiSynced() error
	// MarkParted records that the source has lost these transactions and may give their numbers
	// again. It stands for as long as the data directory does.
	MarkParted(transactions string) error
}

// Config are the settings of an Agent.
type Config struct {
	Flavor flavor.Flavor
	// Primary says that this member is the primary, which is the first ordinal. It becomes
	// Standing.Primary, by which everything else is decided.
	Primary bool
	// Server is the host:port of the member's own server.
	Server string
	// Host is the member's host name, which its server's certificate bears.
	Host string
	// Admin, Sidecar and Clone are the accounts that log in there, see the table in login.go. The
	// primary's agent makes the last two.
	Admin, Sidecar, Clone Login
	// WithTool says that XtraBackup may make the backups, whose account needs more.
	WithTool bool
	// BySocket says that backups also log in over the server's socket.
	BySocket bool
	// Source is who replicas follow; its password comes from ReplicationPassword, which is read
	// each time that it is needed. ReplicationPasswordPrevious, when set, is the password before
	// that, empty when there is none: during a rotation, not all members know the new one.
	Source                      Source
	ReplicationPassword         func() (string, error)
	ReplicationPasswordPrevious func() (string, error)
	// SourceOpen, when set, asks the sidecar of the source at that host whether it has opened its
	// server for writes. Where a server does not say how it became writable (MySQL), a source counts
	// as open only if that says so.
	SourceOpen func(ctx context.Context, host string) (bool, error)
	// Options are what the server must run with.
	Options []Option
	// Events, when set, says whether the operator's own configuration turns the event scheduler on.
	// set is false where it says nothing: then the server's default counts. The options have the
	// scheduler off until the primary is open.
	Events func() (on, set bool)
	// SemiSync is how much commits wait for replicas.
	SemiSync SemiSync
	// MaxLag is the lag beyond which a replica is not ready; 0 means any.
	MaxLag time.Duration
	// Interval is the time between two looks at the server.
	Interval time.Duration
	Record   Record
	// ServerID is the server's server_id, but while the first ordinal follows a member.
	ServerID uint32
	// Peers asks all other members, when the first ordinal has to know what they have. It takes a
	// few seconds at most, whoever does not answer. Nil asks nobody. An error says that it is not
	// known who they all are.
	Peers func(ctx context.Context) ([]Peer, error)
	// Patience is for how long they are waited for.
	Patience Patience
	// Holding, when set, says whether the applier stands still on purpose, for a backup, and must
	// not be started.
	Holding func() bool
	// Exclusive, when set, keeps backups of the server from beginning until release is called. ok is
	// false, and release nil, while one runs.
	Exclusive func() (release func(), ok bool)
	// Volume, when set, says what room the volume has. Container, when set, says what is known of
	// the server's container; it must not wait for an answer.
	Volume    func() (Space, error)
	Container func() Container
	// Leading, when set, says what the member is in place of Primary: in a set whose primary the Lease
	// names. Process is this process then. Data identifies the data directory where the server does
	// not, as on MariaDB: it is another one after each clone.
	Leading Leading
	Process *Process
	Data    string
	// MayOpen, when set, has to succeed before the primary is opened for writes.
	MayOpen func(ctx context.Context) error
	// Missing compares the data directory with the server's dictionary. It is needed where a directory
	// was adopted.
	Missing func(context.Context, dictionary.Dictionary) (dictionary.Lost, error)
	// Tell, when set, hears what people want to know without reading the log: what was done, and what
	// is wrong. Recovered, when set, hears that the last such trouble is over.
	Tell      func(failed bool, text string)
	Recovered func(text string)
	Log       *slog.Logger
}

// Agent runs the loop. Make one with New.
type Agent struct {
	cfg    Config
	logins *logins
	memory sourceMemory
	log    *slog.Logger

	standstill standstill
	alarm      alarm
	inMemory   inMemory
	leveling   leveling
	scheduler  scheduler
	notMade    notMade
	through    lookThrough
	// complaint is what people were told last that they have to look at; empty since it was over.
	complaint Action
	effort    effort

	mu      sync.Mutex
	version string
	status  Status
}

// New makes an Agent. Run it, then Close it.
func New(cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, log: cfg.Log, logins: newLogins(cfg), memory: sourceMemory{log: cfg.Log}}
	a.status = Status{Primary: cfg.Primary, Reason: "the server has not been looked at yet"}
	return a, nil
}

// Close ends the connections to the server.
func (a *Agent) Close() error { return a.logins.close() }

// Status is safe to call from any goroutine.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *Agent) setVersion(v string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version = v
}

func (a *Agent) setNext(next time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.Next = next
}

// Run turns the loop until ctx ends. A step that changed something is followed by the next look at
// once; one that failed, or is of no use, by longer and longer waits; and what is about to change
// by itself, as while the server starts, by a look that comes soon.
func (a *Agent) Run(ctx context.Context) {
	// A server that starts is looked at as soon as it answers: it might have started writable.
	const soon, longest = 100 * time.Millisecond, 30 * time.Second
	var wait time.Duration
	var last Step
	for {
		step, err := a.turn(ctx)
		switch {
		case err != nil:
			wait = min(max(2*wait, a.cfg.Interval), longest)
		case a.effort.useless(step, time.Now()) && step != Fence && step != StopEvents: // these must not wait
			wait = min(max(2*wait, a.cfg.Interval), longest)
		case step.changes() && step != last:
			wait = 0
		case step == Wait:
			wait = min(soon, a.cfg.Interval)
		default:
			wait = a.cfg.Interval
		}
		last = step
		a.setNext(time.Now().Add(wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-a.roleChanged():
			timer.Stop()
		}
	}
}
