// Package wire is the clone protocol between members: HTTP/1.1, over TLS 1.3 unless
// the operator asked for less, on port 3307.
//
//	GET    /v1/clone     one xbstream; what it is in the headers, that it is whole in the trailers
//	DELETE /v1/clone/ID  ends that stream at once
//	GET    /v1/member    facts about this member, as JSON
//
// A stream is complete only when its trailers say so: exit status 0 of the tool that
// made it, the number of bytes and their SHA-256. xbstream itself has no mark for the
// end of an archive.
package wire

import (
	"encoding/hex"
	"errors"
	"hash"
	"time"

	"understudy/replicate/origin"
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

	trailerStatus = "Understudy-Exit-Status"
	trailerBytes  = "Understudy-Bytes"
	trailerDigest = "Understudy-Digest"
	trailerError  = "Understudy-Error"

	// contentType is that of a raw xbstream.
	contentType = "application/vnd.understudy.xbstream"
	// encodingNone is the only encoding so far: the stream as the tool wrote it.
	encodingNone = "none"
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
	// Phase is the journal's: a member gives clones once it is attached.
	Phase         string `json:"phase"`
	Flavor        string `json:"flavor"`
	ServerVersion string `json:"server_version,omitempty"`
	// ServerID is the server's server_id; 0 while the server does not answer.
	ServerID uint32 `json:"server_id,omitempty"`
	// GTID is what the member has executed, in its flavour's notation.
	GTID string `json:"gtid,omitempty"`
	// LagSeconds is nil on a primary and while replication does not run.
	LagSeconds *int64 `json:"lag_seconds,omitempty"`
	// DataBytes estimates the size of a clone.
	DataBytes int64 `json:"data_bytes,omitempty"`
	// Ready and Reason are what /readyz says.
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
	// Slots and SlotsBusy count clones that can be given at the same time.
	Slots     int `json:"clone_slots"`
	SlotsBusy int `json:"clone_slots_busy"`
}

// Header describes a stream before its first byte.
type Header struct {
	StreamID      string
	Engine        string
	ServerVersion string
	ToolVersion   string
	Role          Role
	// Origin is the mode of the replication coordinate that travels in the stream.
	Origin origin.Mode
	// EstimatedBytes is the expected length of the stream; 0 when unknown.
	EstimatedBytes int64
}

var (
	// ErrBusy is returned when all clone slots of a donor are taken.
	ErrBusy = errors.New("the donor is busy")
	// ErrNotServing is returned when a member may not, or cannot, give a clone now.
	ErrNotServing = errors.New("the member gives no clones")
	// ErrProtocol is returned when the peer does not speak this protocol.
	ErrProtocol = errors.New("the peer does not speak the clone protocol")
	// ErrIncomplete is returned when a stream ended without the proof that it is whole.
	ErrIncomplete = errors.New("incomplete stream")
	// ErrDigest is returned when the bytes that arrived are not those that were sent.
	ErrDigest = errors.New("the stream differs from what the donor sent")
)

// problem is the body of every answer that is not 200.
type problem struct {
	Code  string `json:"code"`
	Error string `json:"error"`
}

// The codes tell a joiner what a status alone does not.
const (
	codeBusy       = "busy"
	codeNotServing = "not-serving"
	codeRequest    = "bad-request"
	codeFailed     = "failed"
)

const (
	// busyRetry is what a donor asks a joiner to wait when it cannot tell better.
	busyRetry = 10 * time.Second
	// maxProblem bounds what is read of an answer that is not a stream.
	maxProblem = 64 << 10
)

func digestString(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }
