// Command understudy turns a plain Kubernetes StatefulSet of MySQL or MariaDB servers into a
// replicated set. See README.md.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"understudy/replicate/fence"
)

func main() {
	if os.Args[0] == fence.WatchdogName {
		os.Exit(conclude("run", fence.Watchdog(), os.Stderr))
	}
	collectSooner()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "dev"

const usage = `understudy turns a plain StatefulSet of MySQL or MariaDB servers into a replicated set.

  understudy init        init container: writes the server's configuration and, on an empty
                         volume, clones another member
  understudy sidecar     beside the server: keeps a replica replicating and the primary open
                         for writes, and gives clones to other members
  understudy run         the first process of the server's container: starts the server, and
                         kills it when it has no permission to take writes any more
  understudy clone-from  takes a clone by hand, into a directory or a file
  understudy reseed      replaces the data of a replica by a new clone
  understudy status      shows all members of a set: role, readiness, lag, running clones
  understudy pause       stops the sidecar from changing its member
  understudy resume      ends a pause
  understudy switchover  makes another member the primary, in a set with --primary=lease
  understudy promote     makes a member the primary that may lack commits, where nothing else can
  understudy failover    forbids failover in such a set, or allows it again
  understudy version     prints the version

Each has --help. Every flag has an environment variable: --pod-name is UNDERSTUDY_POD_NAME.
`

// verb is one of the program's commands.
type verb interface {
	// define adds the verb's flags.
	define(f *flagSet)
	// validate checks the flags before anything is done. args are the arguments after the flags.
	validate(args []string) error
	// run does the work. It returns when it is done or ctx ends.
	run(ctx context.Context, io streams) error
}

// verbs are the names that newVerb knows.
var verbs = []string{"init", "sidecar", "run", "clone-from", "status", "reseed", "pause", "resume", "switchover", "promote", "failover"}

// newVerb makes the command of that name, nil when there is none.
func newVerb(name string) verb {
	switch name {
	case "init":
		return &initVerb{}
	case "sidecar":
		return &sidecarVerb{}
	case "run":
		return &runVerb{}
	case "clone-from":
		return &cloneFromVerb{}
	case "status":
		return &statusVerb{}
	case "reseed":
		return &reseedVerb{}
	case "pause":
		return &pauseVerb{}
	case "resume":
		return &resumeVerb{}
	case "switchover":
		return &switchoverVerb{}
	case "promote":
		return &promoteVerb{}
	case "failover":
		return &failoverVerb{}
	}
	return nil
}

// streams are where a verb writes.
type streams struct {
	stdout, stderr io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	out := streams{stdout: stdout, stderr: stderr}
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "version", "--version":
		_, _ = fmt.Fprintln(stdout, "understudy", buildVersion())
		return exitDone
	case "help", "--help", "-h":
		_, _ = io.WriteString(stdout, usage)
		return exitDone
	case "":
		_, _ = io.WriteString(stderr, usage)
		return exitUsage
	}
	v := newVerb(name)
	if v == nil {
		return conclude("", usageError{fmt.Errorf("unknown command %q; see understudy --help", name)}, stderr)
	}
	flags := newFlagSet(name, stdout)
	v.define(flags)
	help, err := flags.parse(args, os.LookupEnv)
	if help {
		return exitDone
	}
	if err == nil {
		err = v.validate(flags.Args())
	}
	if err != nil {
		return conclude(name, usageError{err}, stderr)
	}
	return conclude(name, v.run(ctx, out), stderr)
}

// buildVersion adds what the Go toolchain knows of the commit.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + " (" + s.Value[:12] + ", " + info.GoVersion + ")"
		}
	}
	return version + " (" + info.GoVersion + ")"
}
