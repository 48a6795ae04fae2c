package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"understudy/clone"
	"understudy/clone/trust"
	"understudy/clone/volume"
)

// The program's exit codes.
const (
	exitDone    = 0 // done
	exitFailed  = 1 // failed, or ended by a signal; of status: the set is unhealthy, or --verify found something
	exitUsage   = 2 // a flag or a file given by one is wrong
	exitRefused = 3 // refused before anything was written
	exitNoDonor = 4 // no usable donor in time
	exitBroken  = 5 // the stream was corrupt or truncated; init tries three times
)

const exitHelp = `Exit codes:
  0  done
  1  failed, or ended by a signal; it can be run again. Of status: a member is not ready or
     reports a problem, there is not exactly one primary, or --verify found something; with
     --primary=lease also: the set is degraded, or failover is not possible and nobody forbids it
  2  a flag, or a file that a flag names, is wrong
  3  refused before anything was written: existing data, space, versions, not a volume of understudy
  4  no usable donor in time
  5  the stream was corrupt or truncated; init tries three times first
Of run: the server's own status, or 128 and the number of the signal that ended it.
`

// usageError is an error in the flags or in a file that a flag names.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitCode is the one place where an error becomes an exit code.
func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if ended, ok := errors.AsType[serverEnded](err); ok {
		return ended.Code
	}
	if _, ok := errors.AsType[usageError](err); ok || errors.Is(err, trust.ErrSecret) || errors.Is(err, trust.ErrCertificate) {
		return exitUsage
	}
	switch {
	case errors.Is(err, clone.ErrRefused), errors.Is(err, volume.ErrJournal), errors.Is(err, volume.ErrOccupied), errors.Is(err, volume.ErrMounted), errors.Is(err, volume.ErrNoVolume):
		return exitRefused
	case errors.Is(err, clone.ErrNoDonor):
		return exitNoDonor
	case errors.Is(err, clone.ErrBroken):
		return exitBroken
	}
	return exitFailed
}

// terminationLog is where Kubernetes reads a container's last message.
const terminationLog = "/dev/termination-log"

// conclude prints the error as the last line, and returns the exit code.
func conclude(name string, err error, stderr io.Writer) int {
	if err == nil {
		return exitDone
	}
	// Joined errors have several lines; the message is one line.
	line := strings.TrimRight("understudy "+name, " ") + ": " + strings.ReplaceAll(err.Error(), "\n", "; ") + "\n"
	_, _ = io.WriteString(stderr, line)
	switch name {
	case "status", "pause", "resume", "reseed", "switchover", "promote", "failover": // run in the sidecar's container, whose termination message this is not
		return exitCode(err)
	}
	if f, openErr := os.OpenFile(terminationLog, os.O_WRONLY|os.O_TRUNC, 0); openErr == nil {
		_, _ = fmt.Fprint(f, line)
		_ = f.Close()
	}
	return exitCode(err)
}
