// Package lead moves the leadership of a set between its members, by the decisions of package
// failover. It runs beside the agent of package replicate, on connections and a goroutine of its
// own, and tells the agent what the member is: the leader, a follower of one, or neither.
// docs/failover.md has the protocol.
//
// It sends no SQL and calls no API server itself: see Server, Lease, Members and Fence.
package lead

import (
	"context"
	"errors"
	"time"

	"understudy/replicate/failover"
)

// Lease is the set's Lease, on a line of its own.
type Lease interface {
	Read(ctx context.Context) (Version, error)
	// Write writes the record if the Lease still is what was read. Any error may mean that the write
	// lands later.
	Write(ctx context.Context, from Version, record, holder string) (Version, error)
}

// Version is the Lease as it was read, or written.
type Version interface {
	// Record is the term record; empty: there is none.
	Record() string
	// Beat changes with each write, and with nothing else.
	Beat() string
}

// Server is the member's own server, on connections of its own. Each call is bounded by its
// context.
type Server interface {
	// Settle ends what an earlier process of this sidecar, or a step that was given up, may still have
	// the server do.
	Settle(ctx context.Context) error
	// Look reads its state. The error is ErrDead where nothing listens any more.
	Look(ctx context.Context) (State, error)
	// StopReceiving stops the receiver, and reads back that it has stopped. The applier goes on.
	StopReceiving(ctx context.Context) error
	// Apply starts the applier alone.
	Apply(ctx context.Context) error
	// Fetch receives from the server of another member, with the replica's side off, and applies. It
	// fails while the server has not executed all that it has received.
	Fetch(ctx context.Context, host string) error
	// EndFetch removes the channel over which Fetch receives beside the first one, State.Fetches, and
	// stops the first one. What it has received has been executed.
	EndFetch(ctx context.Context) error
	// Forget removes the channel.
	Forget(ctx context.Context) error
	// SetSide turns the replica's side of semi-sync on or off. A receiver that runs is stopped before,
	// and started again.
	SetSide(ctx context.Context, on bool) error
	// SetWaiting turns the source's side on, with the longest timeout, or off.
	SetWaiting(ctx context.Context, on bool) error
	// Accounts makes the members' accounts, without the binary log. New ones are locked. The server is
	// open for writes.
	Accounts(ctx context.Context, members []string) error
	// SetOffline lets nobody in but administrators, and cuts the replicas that are connected; or ends
	// that. It changes no data, so that it bars members from a server that is read-only.
	SetOffline(ctx context.Context, on bool) error
	// WriteAs has the server write as the leader of a term where its transactions are named so, or, 0,
	// as the member itself; for a term it cuts clients, which would go on under the name that they began
	// with. It does nothing on MySQL.
	WriteAs(ctx context.Context, term uint64) error
	// Bar locks a member's account, without the binary log, and cuts its connections; it returns when
	// none is left. The server is open for writes.
	Bar(ctx context.Context, member string) error
	// Admit unlocks it.
	Admit(ctx context.Context, member string) error
	// Locked are the members whose accounts are locked, Admitted those whose are not; both may name
	// accounts that only look like a member's.
	Locked(ctx context.Context) ([]string, error)
	Admitted(ctx context.Context) ([]string, error)
	// Open opens the server for writes, if it is still the one that started as boot; arm is called
	// before, on the same connection.
	Open(ctx context.Context, boot string, arm func(context.Context) error) error
	// Waits are the statements whose commits wait for a replica, on MariaDB; LetGo ends the wait of those
	// that still wait: they succeed.
	Waits(ctx context.Context) ([]uint64, error)
	LetGo(ctx context.Context, statements []uint64) error
	// Stuck says that a commit has been under way for so long. One that waits for replicas may count,
	// too.
	Stuck(ctx context.Context, since time.Duration) (bool, error)
	// Running names the transactions of clients that run.
	Running(ctx context.Context) ([]string, error)
	// Block makes the server read-only, once what commits now has ended, and cuts all clients: they have
	// to find the next leader, and a closed server takes XA COMMIT. On MariaDB, where read-only does not
	// bind administrators, it lets in none but these, see State.Offline.
	Block(ctx context.Context) error
	// Shut cuts clients and makes the server read-only. It does not release commits that wait: while
	// there are some, it fails.
	Shut(ctx context.Context) error
}

// ErrDead is returned by Server.Look where no server listens.
var ErrDead = errors.New("no server listens")

// State is what is seen of the own server.
type State struct {
	// Boot identifies the start of the server, Applier that of the applier; empty: it does not run.
	// Data identifies the data directory.
	Boot, Applier, Data string
	// Writer is who its transactions are named after, see failover.Term; OfTerm says that it is a term.
	Writer string
	OfTerm bool
	// Writable says that somebody can write to it, on MariaDB besides administrators.
	Writable bool
	// Position is the end of the binary log: what is executed, and what waits to be. Executed is what
	// is executed, Has what is executed or received.
	Position, Executed, Has string
	// Channel says that there is one, User as whom it logs in at its source; Receiving that its
	// receiver is not stopped, Error why it or the applier has stopped.
	Channel bool
	// Fetches says that there is a second one, of Server.Fetch; Receiving and Has count it.
	Fetches   bool
	User      string
	Receiving bool
	// Severed says that the channel's receiver is not connected to its source.
	Severed bool
	// Upstream is as in failover.Report.
	Upstream string
	Error    string
	// Delay is by how much the applier is behind on purpose.
	Delay time.Duration
	// Lag is what the server says of its lag.
	Lag time.Duration
	// Waiting says that commits wait for replicas as they must; Held how many do now. Side says that
	// the replica's side is on.
	Waiting bool
	// Source says that the source's side is on, however.
	Source bool
	Held   int
	Side   bool
	// Strangers are replicas that acknowledge and log in as no member, each as ACCOUNT@HOST.
	// On MariaDB one of them acknowledges. StrangersUnknown is why it is not known whether there are any.
	Strangers        []string
	StrangersUnknown error
	// Offline is as SetOffline has made it.
	Offline bool
}

// Receipt identifies an unbroken stretch of the server's relay logs; empty: there is none.
func (s State) Receipt() string {
	if s.Boot == "" || s.Applier == "" {
		return ""
	}
	return s.Boot + "/" + s.Applier
}

// Members asks the other members. An answer bears the name of the member that was asked.
type Members interface {
	Report(ctx context.Context, member string, ask Ask) (failover.Report, error)
	Tell(ctx context.Context, member string, ask Ask) (Answer, error)
	Follow(ctx context.Context, member string, ask Follow) (Promise, error)
	// All are the names of all members that may exist, besides this one, Known those that the set has
	// had.
	All(ctx context.Context) []string
	Known(ctx context.Context) ([]string, error)
	// ScaledAway are those of these members that the set is not to have any more. The error says that
	// this is not known.
	ScaledAway(ctx context.Context, members []string) ([]string, error)
}

// Ask is a question to a member.
type Ask struct {
	// From asks, To is who is asked: an address may be another's by now.
	From string `json:"from"`
	To   string `json:"to"`
	// Term is that of the record the asker goes by, Naming its Naming.
	Term   uint64 `json:"term"`
	Naming uint64 `json:"naming"`
	// Wake has the member read the Lease at once: it was changed.
	Wake bool `json:"wake,omitempty"`
	// Events are those that run on the leader that asks, as JSON; empty: it does not know yet.
	Events string `json:"events,omitempty"`
	// Position is what the leader has that asks, in mode off.
	Position string `json:"position,omitempty"`
	// Switch asks a leader to give the Lease to that member.
	Switch string `json:"switch,omitempty"`
	// Force has Promote carry out what it answers.
	Force bool `json:"force,omitempty"`
}

// Answer is what a member says of itself at any time. It binds nobody.
type Answer struct {
	Member string `json:"member"`
	// Naming is the highest that it knows, with that of the question.
	Naming uint64 `json:"naming"`
	// Seen is the highest term that its volume has seen. Writable says that its server is open for
	// writes, Offline that it lets nobody in but administrators.
	Seen     uint64 `json:"seen"`
	Writable bool   `json:"writable,omitempty"`
	Offline  bool   `json:"offline,omitempty"`
	// Receipt and Data are as in failover.Report.
	Receipt string `json:"receipt,omitempty"`
	Data    string `json:"data,omitempty"`
	// Upstream is as in failover.Report.
	Upstream string `json:"upstream,omitempty"`
	// Executed and Has are what it has.
	Executed string `json:"executed,omitempty"`
	Has      string `json:"has,omitempty"`
	// Lag is as in failover.Report.
	Lag time.Duration `json:"lag,omitempty"`
	// Side says that its side of semi-sync is on, or that it receives with it on.
	Side bool `json:"side,omitempty"`
	// Severed is as in State: whatever its side is, it acknowledges nothing.
	Severed bool `json:"severed,omitempty"`
	// Follows is the member that it is told to follow; empty: none.
	Follows string `json:"follows,omitempty"`
	// Barred says why it may not lead; empty: it may.
	Barred string `json:"barred,omitempty"`
	// Unfenced is as in failover.Report.
	Unfenced string `json:"unfenced,omitempty"`
	// Trouble says what is wrong; empty: nothing.
	Trouble string `json:"trouble,omitempty"`
}

// acknowledges says that the member acknowledges what it is sent, as far as it can tell.
func (a Answer) acknowledges() bool { return a.Side && !a.Severed }

// Fence is what ends a leader whose permission has ended, whatever becomes of this process.
type Fence interface {
	// Boot is the identity that the fence has for the server that runs.
	Boot(ctx context.Context) (string, error)
	// Arm arms the timer for that server, if it still runs: past the instant of CLOCK_BOOTTIME it is
	// killed.
	Arm(ctx context.Context, boot string, term uint64, until time.Duration) error
	// Disarm stops the timer of a server that is closed for writes and in which nothing waits.
	Disarm(ctx context.Context, boot string, term uint64) error
	// ShutDown says that the server, where nobody listens any more, has shut down by itself, or is about
	// to: nobody killed it, and it has not crashed.
	ShutDown(ctx context.Context, boot string) (bool, error)
	// Kill kills that server, or the one that runs where boot is empty, and returns when it is dead,
	// also if it was before. Its error means that it may live.
	Kill(ctx context.Context, boot, why string) error
}

// Store keeps on the member's volume what must outlast this process.
type Store interface {
	Load() (Memory, error)
	Save(m Memory) error
	// Try writes to the volume as a server must be able to, which needs room, in bytes. It hangs for as
	// long as the disk does.
	Try(room int64) error
	// Served says that a process has the data directory's files locked, as a server does while it lives.
	// Where a server that runs has none locked, it says nothing.
	Served() (bool, error)
	// LeftOpen says that the server that ran last has not closed its binary log: it did not shut down.
	LeftOpen() (bool, error)
}

// Memory is what the volume remembers.
type Memory struct {
	// Seen and Promised are as in failover.Volume.
	Seen     uint64 `json:"seen"`
	Promised uint64 `json:"promised"`
	// Opened is the last term that this member opened its server for, Boot the start of that server.
	Opened uint64 `json:"opened,omitempty"`
	Boot   string `json:"boot,omitempty"`
	// Record is the newest record of the Lease that it has seen, see failover.Record.Older.
	Record string `json:"record,omitempty"`
	// Follows is the term whose leader it has promised to follow, For how long: from when it is loaded,
	// after a restart. 0: none, or the time has passed.
	Follows uint64        `json:"follows,omitempty"`
	For     time.Duration `json:"for,omitempty"`
	// Events are those that the last leader was heard to run, as Ask has them.
	Events string `json:"events,omitempty"`
}
