package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/replicate/fence"
)

// runVerb is `understudy run`.
type runVerb struct {
	socket           string
	stopWait, within time.Duration
	crashes          int
	socketDirs       []string
	logs             logFlags

	command []string
}

// runSocket is where run listens and the sidecar looks for it.
const runSocket = "/understudy/run.sock"

const runAbout = `understudy run is the first process of the server's container: it starts the server and holds
the fence of its permission to take writes.

  understudy run -- docker-entrypoint.sh mysqld

init copies the program to a volume that server and sidecar share (understudy init --install),
and the sidecar speaks to it over a socket there (--socket, the sidecar's --run-socket).

The server gets all signals that run gets, except that SIGTERM, SIGINT and SIGQUIT become
SIGKILL while the server has permission to take writes: a graceful end would acknowledge commits
that wait for a replica. A sidecar that closes the server within --stop-wait has it ended
gracefully. Where no sidecar ever gave a permission (the first ordinal is the primary), all
signals are passed on.

A permission lasts until an instant of the clock that counts while the machine sleeps
(CLOCK_BOOTTIME). Past it the server's processes are killed (SIGKILL), whatever the sidecar and
the server do; a second process does it if run is stopped. The server starts again, read-only by
its configuration.

A server that ends by itself is started again: the first time at once, then after 1 s, 2 s, 4 s,
8 s. After one more such end than --crashes within --within, also of a server that never came up,
run exits with the server's status (128 and the number of the signal that ended it), and Kubernetes
restarts the container with its own pauses. A server that was killed by run, or on request, is not
counted. SHUTDOWN by SQL is such an end, too.

Output goes on as it is. The last lines are kept for the sidecar, which says in /readyz why the
server does not answer; lines about passwords are left out.
`

func (v *runVerb) define(f *flagSet) {
	f.about = runAbout
	f.SetInterspersed(false) // what follows the command is the server's
	f.StringVar(&v.socket, "socket", runSocket, "`file` of the socket, in a directory that the sidecar sees, too; for processes of the same user")
	f.DurationVar(&v.stopWait, "stop-wait", 5*time.Second, "`time` that a server with permission to take writes has after SIGTERM for its sidecar to close it")
	f.IntVar(&v.crashes, "crashes", 5, "`number` of times that a server that ended by itself is started again within --within")
	f.DurationVar(&v.within, "within", 10*time.Minute, "`time` in which --crashes are counted")
	f.StringSliceVar(&v.socketDirs, "socket-dirs", []string{"/run/mysqld", "/var/run/mysqld", "/var/lib/mysql", "/tmp"},
		"`directories` of the server's own sockets. What a killed MySQL has left there as the lock of a socket is\nremoved before each start, where nobody listens: it would refuse to start")
	v.logs.define(f)
}

func (v *runVerb) validate(args []string) error {
	if len(args) == 0 {
		return errors.New("give the server's command: understudy run -- docker-entrypoint.sh mysqld")
	}
	v.command = args
	if v.socket == "" {
		return errors.New("--socket must not be empty")
	}
	if v.stopWait < 0 || v.crashes < 0 || v.within <= 0 {
		return errors.New("--stop-wait and --crashes must not be less than 0, --within must be more")
	}
	return v.logs.validate()
}

// serverEnded is the error of a server that ended with another status than 0.
type serverEnded struct{ fence.End }

func (e serverEnded) Error() string { return "the server has ended: " + e.String() }

// run ends by signals to the process, which it takes itself, and not by its context: a server is
// ended in the order that its permission demands.
func (v *runVerb) run(_ context.Context, out streams) error {
	end, err := fence.Run(fence.Config{
		Command: v.command, Socket: v.socket, Stdout: out.stdout, Stderr: out.stderr, Log: v.logs.logger(out.stderr),
		StopWait: v.stopWait, Crashes: v.crashes, Within: v.within, SocketDirs: v.socketDirs,
	})
	switch {
	case errors.Is(err, fence.ErrCommand) && end.Boot == "":
		return usageError{err}
	case err != nil:
		return fmt.Errorf("run the server: %w", err)
	case end.Code != 0:
		return serverEnded{end}
	}
	return nil
}
