// Package fence is the first process of the server's container, and how a sidecar speaks to it.
//
// The first process (Run) starts the server and holds a permission: until when the server may
// take writes, an instant of CLOCK_BOOTTIME. The sidecar extends it over a unix socket. Past it
// the server is killed, whatever the sidecar and the server do, and starts again, read-only by
// its configuration. The package knows neither SQL nor Kubernetes, and waits for no network.
//
// On the socket each request and each answer is one line of JSON (request, Status). A connection
// carries requests one after another. The last one that sent a command is the only one whose
// commands count: the one before it is closed first, so that a request which a sidecar has given
// up is never carried out after a later one.
package fence

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Version is the protocol's. Run refuses another one.
const Version = 1

// Longest is how far ahead of its clock a permission may end: a mistaken unit must not switch
// the fence off.
const Longest = 5 * time.Minute

// Errors of a request that Run refused. The server is as it was.
var (
	// ErrBoot means that the server that the request names is not the one that runs.
	ErrBoot = errors.New("another server runs than the one that was named")
	// ErrTerm means that a later term has been armed.
	ErrTerm = errors.New("a later term has been armed")
	// ErrPast means that the permission has ended already.
	ErrPast = errors.New("the permission has ended already")
	// ErrFar means that the permission ends later than Longest from now.
	ErrFar = errors.New("the permission ends too far ahead")
	// ErrEnding means that the server is being ended, and is given no more permission.
	ErrEnding = errors.New("the server is being ended")
	// ErrRequest means that Run does not understand the request, or its version.
	ErrRequest = errors.New("the request is not understood")
)

// Errors of the way to Run.
var (
	// ErrAway means that nobody listens at the socket: the server's container does not run, or
	// its first process is another one.
	ErrAway = errors.New("nobody listens at the socket of understudy run")
	// ErrClock means that Run counts another CLOCK_BOOTTIME than this process.
	ErrClock = errors.New("understudy run has another clock")
)

// Permission lets the server take writes for some time.
type Permission struct {
	// Boot is the identity of the server that it is for, from Status.
	Boot string
	// Term is the leader's term.
	Term uint64
	// Until is when it ends, on CLOCK_BOOTTIME (Now). It is counted from before the renewal
	// was sent that it rests on. An earlier one than before changes nothing.
	Until time.Duration
}

// State is what Run does with the server.
type State string

const (
	// Running means that the server's process lives. It may not answer yet.
	Running State = "running"
	// Ending means that it has been sent a signal to end.
	Ending State = "ending"
	// Pausing means that it ended, and that Run starts it again after a pause.
	Pausing State = "pausing"
	// Held means that it ended by Stop, and stays so until Start.
	Held State = "held"
)

// Status is what Run says of the server.
type Status struct {
	State State `json:"state"`
	// Boot is the identity of the server that runs; empty while none does. Another server
	// process has another one, also after a restart of the container.
	Boot string `json:"boot,omitempty"`
	// PID is the server's, as Run's container sees it; 0 while none runs.
	PID int `json:"pid,omitempty"`
	// Starts counts the servers that this Run has started; Crashes those of them that ended
	// unasked within the time that bounds them.
	Starts  int `json:"starts"`
	Crashes int `json:"crashes"`
	// Term is the highest that was armed; 0: none was.
	Term uint64 `json:"term,omitempty"`
	// Until is the end of the permission of the server that runs, 0 without one.
	Until time.Duration `json:"until,omitempty"`
	// Now is Run's CLOCK_BOOTTIME when it answered.
	Now time.Duration `json:"now"`
	// Stopping means that Run has been told to end (SIGTERM, by the kubelet). A server with a
	// permission is killed when Run's time for that is over. A sidecar that has closed it for
	// writes by then, and sees no commit that waits, says so by Disarm: it ends gracefully.
	Stopping bool `json:"stopping,omitempty"`
	// Last says how the server before ended; nil if none has.
	Last *End `json:"last,omitempty"`
	// Output is the last lines that the running server printed.
	Output []string `json:"output,omitempty"`
}

// End is how a server ended.
type End struct {
	Boot string `json:"boot"`
	// At is when, on CLOCK_BOOTTIME.
	At time.Duration `json:"at"`
	// How is a sentence's part for people, as "exit status 1" or "killed: its permission ended".
	How string `json:"how"`
	// Code is the exit status, or 128 and the signal's number.
	Code int `json:"code"`
	// Asked means that Run ended it: its permission was over, or somebody asked.
	Asked bool `json:"asked,omitempty"`
	// Output is its last lines.
	Output []string `json:"output,omitempty"`
}

// Now is this machine's CLOCK_BOOTTIME: it counts while the machine sleeps, and nobody sets it.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // it exists since Linux 2.6.39
	}
	return time.Duration(t.Nano())
}

// request is one line from a client.
type request struct {
	Version int           `json:"version"`
	Do      action        `json:"do"`
	Boot    string        `json:"boot,omitempty"`
	Term    uint64        `json:"term,omitempty"`
	Until   time.Duration `json:"until,omitempty"`
	Why     string        `json:"why,omitempty"`
}

// action is what a request asks for. All but status and watch are commands.
type action string

const (
	doStatus  action = "status"
	doWatch   action = "watch"
	doArm     action = "arm"
	doDisarm  action = "disarm"
	doKill    action = "kill"
	doRestart action = "restart"
	doStop    action = "stop"
	doStart   action = "start"
)

// answer is one line to a client.
type answer struct {
	// Refused is the code of an error, Detail what it concerns.
	Refused string  `json:"refused,omitempty"`
	Detail  string  `json:"detail,omitempty"`
	Status  *Status `json:"status,omitempty"`
}

// refusals are the codes of the errors on the socket.
var refusals = map[string]error{
	"boot": ErrBoot, "term": ErrTerm, "past": ErrPast, "far": ErrFar, "ending": ErrEnding, "request": ErrRequest,
}
