package wire

import (
	"encoding/hex"
	"errors"
	"hash"
	"time"

	"understudy/replicate/origin"

	"github.com/cespare/xxhash/v2"
)

// Port is where members serve clones, as in the Kubernetes tutorial.
const Port = 3307

const (
	pathClone  = "/v1/clone"
	pathMember = "/v1/member"

	// headerMember names who asks. A new request of the same member ends its old one.
	headerMember = "Understudy-Member"

	headerStream        = "Understudy-Stream"
	headerEngine        = "Understudy-Engine"
	headerServerVersion = "Understudy-Server-Version"
	headerToolVersion   = "Understudy-Tool-Version"
	headerRole          = "Understudy-Role"
	headerOrigin        = "Understudy-Origin"
	headerEstimate      = "Understudy-Estimated-Bytes"
	headerEncoding      = "Understudy-Encoding"
	headerNeeded        = "Understudy-Needed-Bytes"

	// headerAccept names the encodings that a joiner can take, the preferred one first.
	headerAccept = "Understudy-Accept-Encoding"
	// headerEngines names the engines whose streams only those can take who know them.
	headerEngines = "Understudy-Accept-Engine"
	// headerOffset is the position at which a resumed stream goes on, in a request and in its
	// answer.
	headerOffset = "Understudy-Offset"
	// headerWindow is how many bytes the joiner's kernel may hold for it, unread.
	headerWindow = "Understudy-Receive-Buffer"
	// headerReportBytes and headerReportEvery ask the joiner to report after so many bytes, and
	// after so much time (a Go duration) without. A donor of an earlier version sends neither.
	headerReportBytes = "Understudy-Report-Bytes"
	headerReportEvery = "Understudy-Report-Every"

	trailerStatus = "Understudy-Exit-Status"
	trailerBytes  = "Understudy-Bytes"
	trailerDigest = "Understudy-Digest"
	trailerError  = "Understudy-Error"

	// contentType is that of a raw xbstream.
	contentType = "application/vnd.understudy.xbstream"
)

// Encoding is how the bytes of a stream travel.
type Encoding string

const (
	// None is the stream as the tool wrote it.
	None Encoding = "none"
	// Zstd is one frame of zstd (RFC 8878).
	Zstd Encoding = "zstd"
)

// Role is what a member is to the set.
type Role string

const (
	// Primary accepts writes.
	Primary Role = "primary"
	// Replica follows the primary.
	Replica Role = "replica"
)

// Member is what a member says of itself at /v1/member.
type Member struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Phase is the journal's: a member gives clones once it is attached. A member
	// whose init is still at work says "empty" or "cloning".
	Phase         string `json:"phase"`
	Flavor        string `json:"flavor"`
	ServerVersion string `json:"server_version,omitempty"`
	// ServerID is the server's server_id; 0 while the server does not answer.
	ServerID uint32 `json:"server_id,omitempty"`
	// UUID is the server's own identity, where its flavour has one.
	UUID string `json:"uuid,omitempty"`
	// GTID is what the member has executed, in its flavour's notation.
	GTID string `json:"gtid,omitempty"`
	// Received is all that the member has executed, or received and has yet to execute, in
	// the words of its flavour's variables; of MariaDB a binlog state.
	Received string `json:"received,omitempty"`
	// Read is how far a replica has read its source's binary log, as in binlog.000003:671.
	Read string `json:"read,omitempty"`
	// Errant is what the member has and its source lacks, as far as it has looked: when
	// replication was to start, or has stopped over it.
	Errant string `json:"errant,omitempty"`
	// Parted is what the member has of a primary that has lost it, and gives the same numbers
	// again: what it has says nothing in GTIDs any more. Empty: it has not parted.
	Parted string `json:"parted,omitempty"`
	// SeenSeconds is how long ago the server was looked at.
	SeenSeconds float64 `json:"seen_seconds,omitempty"`
	// LagSeconds is nil on a primary and while replication does not run.
	LagSeconds *int64 `json:"lag_seconds,omitempty"`
	// Source is the host:port that the server replicates from, whether or not that runs
	// now; empty on a primary, except one that takes over what a member has before it opens.
	Source string `json:"source,omitempty"`
	// SemiSync says that the primary's commits wait for a replica, or that a replica
	// acknowledges them; SemiSyncReplicas how many of those are attached.
	SemiSync         bool `json:"semi_sync,omitempty"`
	SemiSyncReplicas int  `json:"semi_sync_replicas,omitempty"`
	// DataBytes estimates the size of a clone.
	DataBytes int64 `json:"data_bytes,omitempty"`
	// Ready and Reason are what /readyz says.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Trouble is what is wrong, even with a member that is ready; empty: nothing is.
	Trouble string `json:"trouble,omitempty"`
	// WithoutSourceSeconds is for how long nothing has come from a replica's source, as far as it
	// has looked; 0 while it has one. CommitsWaitSeconds is for how long commits on the primary
	// have waited and none was acknowledged by a replica.
	WithoutSourceSeconds float64 `json:"without_source_seconds,omitempty"`
	CommitsWaitSeconds   float64 `json:"commits_wait_seconds,omitempty"`
	// VolumeBytes is the size of the member's volume, VolumeFreeBytes what is left of it; both 0
	// when that is not known.
	VolumeBytes     int64 `json:"volume_bytes,omitempty"`
	VolumeFreeBytes int64 `json:"volume_free_bytes,omitempty"`
	// Paused says since when and why somebody has the member left alone; empty: it is not.
	Paused string `json:"paused,omitempty"`
	// Slots and SlotsBusy count clones that can be given at the same time.
	Slots     int `json:"clone_slots"`
	SlotsBusy int `json:"clone_slots_busy"`
	// Offer is nil on a member that gives no clones now; NoOffer says why, and Unable that
	// waiting does not change it.
	Offer   *Offer `json:"offer,omitempty"`
	NoOffer string `json:"no_offer,omitempty"`
	Unable  bool   `json:"unable,omitempty"`
	// Giving are the clones that this member is giving.
	Giving []Giving `json:"giving,omitempty"`
	// Cloning is the clone that this member is taking.
	Cloning *Cloning `json:"cloning,omitempty"`
	// Clone is the one that its data came from; nil when they came otherwise.
	Clone *Cloned `json:"clone,omitempty"`
}

// Cloned is what the volume's journal says of the clone that a member's data came from.
type Cloned struct {
	ID            string `json:"id"`
	Donor         string `json:"donor"`
	Engine        string `json:"engine"`
	ServerVersion string `json:"server_version,omitempty"`
	// Bytes and Digest are of the raw xbstream, as it was received and found whole.
	Bytes  int64  `json:"bytes"`
	Digest string `json:"digest"`
	// Origin is where replication began on the copy; nil when it was not known.
	Origin *origin.Origin `json:"origin,omitempty"`
}

// Offer is what a donor says of the clone that it would give, before it is asked for one.
type Offer struct {
	Engine      string      `json:"engine"`
	ToolVersion string      `json:"tool_version"`
	Origin      origin.Mode `json:"origin"`
	// StreamBytes estimates the xbstream, NeededBytes what the joiner's volume must
	// have room for until its server runs, Files the number of files and directories.
	StreamBytes int64 `json:"stream_bytes"`
	NeededBytes int64 `json:"needed_bytes"`
	Files       int64 `json:"files"`
	// BinlogExpirySeconds is how long the donor's server keeps its binary logs; 0: for ever.
	BinlogExpirySeconds int64 `json:"binlog_expiry_seconds"`
	// CannotCarry names what the copy would lack, in sentences.
	CannotCarry []string `json:"cannot_carry,omitempty"`
	// Loses names what every server loses when it starts, so that the copy begins without it.
	Loses []string `json:"loses,omitempty"`
	// Encrypted names the key management plugin that the copy cannot be read without.
	Encrypted string `json:"encrypted,omitempty"`
}

// Giving is a clone on its way to a joiner.
type Giving struct {
	Stream string `json:"stream"`
	Joiner string `json:"joiner"`
	// Phase is what the backup is at; it changes as long as it lives.
	Phase string `json:"phase"`
	// Bytes of the xbstream have been made, of about Total; Sent have left, as they travel.
	Bytes          int64   `json:"bytes"`
	Total          int64   `json:"total"`
	Sent           int64   `json:"sent"`
	Seconds        float64 `json:"seconds"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	// Connected is false while the joiner's connection is broken.
	Connected bool `json:"connected"`
}

// Cloning is how far a joiner has come.
type Cloning struct {
	Donor string `json:"donor"`
	// Phase is the journal's.
	Phase          string  `json:"phase"`
	Bytes          int64   `json:"bytes"`
	Total          int64   `json:"total"`
	Percent        int64   `json:"percent"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	ETASeconds     int64   `json:"eta_seconds,omitempty"`
	// Resumed counts the connections that broke and were made again.
	Resumed int64 `json:"resumed"`
}

// Header describes a stream before its first byte.
type Header struct {
	// Raw streams say nothing of their donor: Role is what it was taken for, and the rest
	// is unknown until the files are there.
	Raw           bool
	StreamID      string
	Engine        string
	ServerVersion string
	ToolVersion   string
	Role          Role
	// Origin is the mode of the replication coordinate that travels in the stream.
	Origin origin.Mode
	// EstimatedBytes is the expected length of the stream; 0 when unknown.
	EstimatedBytes int64
	// NeededBytes is what the joiner's volume must have room for; 0 when unknown.
	NeededBytes int64
	Encoding    Encoding
}

var (
	// ErrBusy is returned when all clone slots of a donor are taken.
	ErrBusy = errors.New("the donor is busy")
	// ErrNotServing is returned when a member may not, or cannot, give a clone now.
	ErrNotServing = errors.New("the member gives no clones")
	// ErrUnable is returned when a member cannot give a clone, and waiting does not change that:
	// somebody has to change something there first, or another member may give one.
	ErrUnable = errors.New("the member cannot give a clone, and waiting does not change that")
	// ErrProtocol is returned when the peer does not speak this protocol.
	ErrProtocol = errors.New("the peer does not speak the clone protocol")
	// ErrOther is returned when a member answers that was not asked: its address was
	// another one's before.
	ErrOther = errors.New("another member has this address now")
	// ErrIncomplete is returned when a stream ended without the proof that it is whole.
	ErrIncomplete = errors.New("incomplete stream")
	// ErrStalled is returned when neither bytes nor the donor's backup went on.
	ErrStalled = errors.New("the donor stalled")
	// ErrDigest is returned when the bytes that arrived are not those that were sent.
	ErrDigest = errors.New("the stream differs from what the donor sent")
)

// problem is the body of every answer that is not 200.
type problem struct {
	Code  string `json:"code"`
	Error string `json:"error"`
	// Lasting turns codeNotServing into ErrUnable. Members of an earlier version, which do
	// not know it, ask again.
	Lasting bool `json:"lasting,omitempty"`
}

// The codes tell a joiner what a status alone does not.
const (
	codeBusy       = "busy"
	codeNotServing = "not-serving"
	codeRequest    = "bad-request"
	codeFailed     = "failed"
	codeGone       = "gone"
)

const (
	// busyRetry is what a donor asks a joiner to wait when it cannot tell better.
	busyRetry = 10 * time.Second
	// maxProblem bounds what is read of an answer that says why there is no stream.
	maxProblem = 64 << 10
	// maxMember bounds what is read of a member's word on itself. GTID sets that have grown
	// for years, with gaps, may take hundreds of KiB; it has several.
	maxMember = 8 << 20
)

// newDigest makes the digest of an xbstream. It finds what we ourselves may do wrong on
// the way, as in resuming: against others there is TLS, whose own proof covers every
// byte. So it has to be fast, and not cryptographic.
//
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
func newDigest() hash.Hash { return xxhash.New() }

func digestString(h hash.Hash) string { return "xxh64:" + hex.EncodeToString(h.Sum(nil)) }
