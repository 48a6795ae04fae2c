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

	// headerMember names the joiner. A new request of the same member ends its earlier stream.
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
	// headerEngines names the engines whose own kind of stream the joiner understands.
	headerEngines = "Understudy-Accept-Engine"
	// headerOffset is the position of a resumed stream, in the request and in its answer.
	headerOffset = "Understudy-Offset"
	// headerWindow is the size of the joiner's socket buffer.
	headerWindow = "Understudy-Receive-Buffer"
	// headerReportBytes and headerReportEvery ask the joiner to report after so many bytes, and
	// after so much time (a Go duration). Donors of earlier versions send neither.
	headerReportBytes = "Understudy-Report-Bytes"
	headerReportEvery = "Understudy-Report-Every"
	// headerConnections is how many connections a joiner asks for, and how many the donor grants.
	// Members of earlier versions do not send it.
	headerConnections = "Understudy-Connections"
	// headerLane is the lane that a connection carries, counted from 0.
	headerLane = "Understudy-Lane"

	trailerStatus = "Understudy-Exit-Status"
	trailerBytes  = "Understudy-Bytes"
	trailerDigest = "Understudy-Digest"
	trailerError  = "Understudy-Error"

	// contentType is the type of a raw xbstream.
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

// Role is a member's part in replication.
type Role string

const (
	// Primary accepts writes.
	Primary Role = "primary"
	// Replica follows the primary.
	Replica Role = "replica"
)

// Member is what a member says about itself at /v1/member.
type Member struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Phase is the phase in the journal. Attached members give clones. A member whose init runs
	// says "empty" or "cloning".
	Phase         string `json:"phase"`
	Flavor        string `json:"flavor"`
	ServerVersion string `json:"server_version,omitempty"`
	// ServerID is the server's server_id; 0 while the server does not answer.
	ServerID uint32 `json:"server_id,omitempty"`
	// UUID is the server's server_uuid; empty on flavours without one.
	UUID string `json:"uuid,omitempty"`
	// GTID is the executed GTID set, in the flavour's notation.
	GTID string `json:"gtid,omitempty"`
	// Received is the GTID set of everything that the member has executed or only received, in the
	// notation of its flavour; on MariaDB a binlog state.
	Received string `json:"received,omitempty"`
	// Read is the replica's position in its source's binary log, as in binlog.000003:671.
	Read string `json:"read,omitempty"`
	// Errant are the transactions that the source lacks. They are known after a look before
	// replication starts, or when replication has stopped over them.
	Errant string `json:"errant,omitempty"`
	// Parted are transactions of a primary that lost them and reuses their numbers, so a comparison
	// of GTIDs does not show them. Empty: none.
	Parted string `json:"parted,omitempty"`
	// SeenSeconds is the age of the last look at the server.
	SeenSeconds float64 `json:"seen_seconds,omitempty"`
	// LagSeconds is nil on a primary, and while replication does not run.
	LagSeconds *int64 `json:"lag_seconds,omitempty"`
	// Source is the host:port of the replication source, whether or not replication runs. A primary
	// has one only while it catches up before it opens.
	Source string `json:"source,omitempty"`
	// SemiSync says that a primary's commits wait for a replica, or that a replica acknowledges
	// them. SemiSyncReplicas is the number of attached semi-sync replicas.
	SemiSync         bool `json:"semi_sync,omitempty"`
	SemiSyncReplicas int  `json:"semi_sync_replicas,omitempty"`
	// DataBytes estimates the size of a clone.
	DataBytes int64 `json:"data_bytes,omitempty"`
	// Ready and Reason are what /readyz says.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Trouble is what is wrong, also on a member that is ready; empty: nothing.
	Trouble string `json:"trouble,omitempty"`
	// WithoutSourceSeconds is how long a replica has had no source; 0 while it has one.
	// CommitsWaitSeconds is how long commits on the primary have waited without an acknowledgement.
	WithoutSourceSeconds float64 `json:"without_source_seconds,omitempty"`
	CommitsWaitSeconds   float64 `json:"commits_wait_seconds,omitempty"`
	// VolumeBytes is the size of the member's volume, VolumeFreeBytes its free space; both 0 when
	// unknown.
	VolumeBytes     int64 `json:"volume_bytes,omitempty"`
	VolumeFreeBytes int64 `json:"volume_free_bytes,omitempty"`
	// Paused says since when and why the member is paused; empty: it is not.
	Paused string `json:"paused,omitempty"`
	// Slots is the number of clone slots, SlotsBusy how many are taken.
	Slots     int `json:"clone_slots"`
	SlotsBusy int `json:"clone_slots_busy"`
	// Offer is nil when the member gives no clone now. NoOffer says why; Unable says that waiting
	// does not help.
	Offer   *Offer `json:"offer,omitempty"`
	NoOffer string `json:"no_offer,omitempty"`
	Unable  bool   `json:"unable,omitempty"`
	// Giving are the clones that this member is giving.
	Giving []Giving `json:"giving,omitempty"`
	// Cloning is the clone that this member is taking.
	Cloning *Cloning `json:"cloning,omitempty"`
	// Lead is nil where the first ordinal is the primary, and of older versions.
	Lead *Lead `json:"lead,omitempty"`
	// Clone describes the clone that the member's data came from; nil if there was none.
	Clone *Cloned `json:"clone,omitempty"`
}

// Cloned is the journal's entry about a clone.
type Cloned struct {
	ID            string `json:"id"`
	Donor         string `json:"donor"`
	Engine        string `json:"engine"`
	ServerVersion string `json:"server_version,omitempty"`
	// Bytes and Digest are those of the raw xbstream.
	Bytes  int64  `json:"bytes"`
	Digest string `json:"digest"`
	// Origin is where replication began on the copy; nil when unknown.
	Origin *origin.Origin `json:"origin,omitempty"`
}

// Offer describes the clone that a donor would give.
type Offer struct {
	Engine      string      `json:"engine"`
	ToolVersion string      `json:"tool_version"`
	Origin      origin.Mode `json:"origin"`
	// StreamBytes is the estimated length of the xbstream, NeededBytes the room on the joiner's
	// volume until its server runs, Files the number of files and directories.
	StreamBytes int64 `json:"stream_bytes"`
	NeededBytes int64 `json:"needed_bytes"`
	Files       int64 `json:"files"`
	// BinlogExpirySeconds is how long the donor's server keeps binary logs; 0: for ever.
	BinlogExpirySeconds int64 `json:"binlog_expiry_seconds"`
	// CannotCarry are sentences about what the copy would lack.
	CannotCarry []string `json:"cannot_carry,omitempty"`
	// Loses are sentences about data that every server loses when it starts, such as rows of MEMORY
	// tables.
	Loses []string `json:"loses,omitempty"`
	// Encrypted is the key management plugin without which the copy cannot be read.
	Encrypted string `json:"encrypted,omitempty"`
}

// Giving is a clone on its way to a joiner.
type Giving struct {
	Stream string `json:"stream"`
	Joiner string `json:"joiner"`
	// Phase is what the backup does; it changes while the backup advances.
	Phase string `json:"phase"`
	// Bytes is how much of the xbstream has been made, Total its estimated length, Sent how many
	// encoded bytes have been sent.
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
	Sent  int64 `json:"sent"`
	// Lanes is where the connections are in the encoded stream: each one's next byte. Empty: one
	// connection carries the whole stream.
	Lanes          []int64 `json:"lanes,omitempty"`
	Seconds        float64 `json:"seconds"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	// Awaited says that the joiner has all that has been made: it waits for the backup.
	Awaited bool `json:"-"`
	// Connected is false while the joiner's connection is broken.
	Connected bool `json:"connected"`
}

// Cloning is the progress of a joiner.
type Cloning struct {
	Donor string `json:"donor"`
	// Phase is the phase in the journal.
	Phase          string  `json:"phase"`
	Bytes          int64   `json:"bytes"`
	Total          int64   `json:"total"`
	Percent        int64   `json:"percent"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	ETASeconds     int64   `json:"eta_seconds,omitempty"`
	// Resumed is how often the stream continued on a new connection.
	Resumed int64 `json:"resumed"`
}

// Header describes a stream before its first byte.
type Header struct {
	// Raw says that the donor announced nothing: Role is assumed, and the rest is unknown until the
	// files are there.
	Raw           bool
	StreamID      string
	Engine        string
	ServerVersion string
	ToolVersion   string
	Role          Role
	// Origin is the kind of replication coordinate in the stream.
	Origin origin.Mode
	// EstimatedBytes is the expected length of the stream; 0 when unknown.
	EstimatedBytes int64
	// NeededBytes is what the joiner's volume must have room for; 0 when unknown.
	NeededBytes int64
	Encoding    Encoding
	// Connections is how many connections carry the stream.
	Connections int
}

var (
	// ErrBusy is returned when all clone slots of a donor are taken.
	ErrBusy = errors.New("the donor is busy")
	// ErrNotServing is returned when a member may not or cannot give a clone now.
	ErrNotServing = errors.New("the member gives no clones")
	// ErrUnable is returned when a member cannot give a clone and waiting does not help: an
	// operator has to change something, or another member may give one.
	ErrUnable = errors.New("the member cannot give a clone, and waiting does not change that")
	// ErrProtocol is returned when the peer does not speak this protocol.
	ErrProtocol = errors.New("the peer does not speak the clone protocol")
	// ErrOther is returned when another member answers than the one that was asked: addresses are
	// recycled.
	ErrOther = errors.New("another member has this address now")
	// ErrIncomplete is returned when a stream ended without the proof that it is whole.
	ErrIncomplete = errors.New("incomplete stream")
	// ErrStalled is returned when no bytes came and the donor's backup did not advance.
	ErrStalled = errors.New("the donor stalled")
	// ErrDigest is returned when the digest of the received bytes is not the donor's.
	ErrDigest = errors.New("the stream differs from what the donor sent")
)

// problem is the body of every answer that is not 200.
type problem struct {
	Code  string `json:"code"`
	Error string `json:"error"`
	// Lasting makes ErrUnable of codeNotServing. Members of earlier versions ignore it and ask
	// again.
	Lasting bool `json:"lasting,omitempty"`
}

// The codes distinguish answers with the same status.
const (
	codeBusy       = "busy"
	codeNotServing = "not-serving"
	codeRequest    = "bad-request"
	codeFailed     = "failed"
	codeGone       = "gone"
)

const (
	// busyRetry is the default Retry-After.
	busyRetry = 10 * time.Second
	// maxProblem bounds what is read of an error answer.
	maxProblem = 64 << 10
	// maxMember bounds what is read of /v1/member, which contains several GTID sets. Sets that have
	// grown for years, with gaps, may take hundreds of KiB each.
	maxMember = 8 << 20
)

// newDigest makes the digest of an xbstream. It detects our own mistakes, as in resuming; TLS
// protects every byte against others. So it is fast, and not cryptographic.
//
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
func newDigest() hash.Hash { return xxhash.New() }

func digestString(h hash.Hash) string { return "xxh64:" + hex.EncodeToString(h.Sum(nil)) }
