package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"understudy/clone/volume"
)

// pauseVerb is `understudy pause`.
type pauseVerb struct {
	volume, reason string
	length         time.Duration
}

const pauseAbout = `understudy pause stops the sidecar from changing its member until understudy resume. Run it in
the sidecar's container, or on the host with --volume:
  kubectl -n database exec db-1 -c sidecar -- understudy pause --reason="a look at a table" --for=2h

It writes .understudy/paused to the volume. The sidecar obeys it before its next step, also
after restarts of the sidecar, the server and the pod. While a member is paused, the sidecar
  - takes no step: threads that you stop stay stopped, a channel stays as you configure it, and
    a replica that you make writable STAYS WRITABLE. A replica whose server restarts comes back
    read-only with its threads stopped; a primary whose pod is replaced comes back read-only
  - observes and reports: /readyz, /metrics (understudy_paused) and understudy status say what
    the server does, and that the member is paused
  - gives clones as before; a replica whose applier is stopped gives none

With --primary=lease, a paused member is not elected, and a paused leader goes on leading: it renews
the Lease, and the sidecar changes neither its acknowledgers nor anything else of its server. So
commits may wait until resume where the replicas that acknowledge them fail. A pause does not keep
others from being elected when the leader's server ends: understudy failover --forbid does. A server
that is open for writes while another member may lead is closed in spite of the pause.

A second call replaces the first; the time at which the pause began stays, and so does the
reason if none is given.
`

func (v *pauseVerb) define(f *flagSet) {
	f.about = pauseAbout
	defineVolume(f, &v.volume)
	f.StringVar(&v.reason, "reason", "", "`text` that status and the log show: who paused the member, and why")
	f.DurationVar(&v.length, "for", 0, "`time` after which the pause ends; 0: never")
}

func defineVolume(f *flagSet, path *string) {
	f.StringVar(path, "volume", "/volume", "`directory` where the whole volume is mounted")
}

func (v *pauseVerb) validate(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: a reason goes to --reason, in quotes", args[0])
	}
	if v.length < 0 {
		return errors.New("--for must not be less than 0")
	}
	if strings.ContainsFunc(v.reason, unicode.IsControl) {
		return errors.New("--reason must be one line of plain text")
	}
	return nil
}

func (v *pauseVerb) run(_ context.Context, out streams) error {
	before, err := volume.ReadPause(v.volume)
	if err != nil && !errors.Is(err, volume.ErrPause) { // one that cannot be read is replaced
		return err
	}
	p := v.pause(before, time.Now().UTC().Truncate(time.Second))
	if err := volume.WritePause(v.volume, p); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.stdout, p)
	return err
}

// pause is the new pause after an earlier one, which may be nil.
func (v *pauseVerb) pause(before *volume.Pause, now time.Time) volume.Pause {
	p := volume.Pause{Since: now, Reason: v.reason}
	if before != nil && !before.Ended(now) {
		p.Since = before.Since
		if p.Reason == "" {
			p.Reason = before.Reason
		}
	}
	if v.length > 0 {
		p.Until = now.Add(v.length)
	}
	return p
}

// resumeVerb is `understudy resume`.
type resumeVerb struct {
	volume string
}

const resumeAbout = `understudy resume ends a pause. Run it where understudy pause was run:
  kubectl -n database exec db-1 -c sidecar -- understudy resume

At its next look, the sidecar restores the member's role: a replica is read-only and
replicates, the primary is open for writes. It is no error if the member is not paused.
`

func (v *resumeVerb) define(f *flagSet) {
	f.about = resumeAbout
	defineVolume(f, &v.volume)
}

func (v *resumeVerb) validate(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	return nil
}

func (v *resumeVerb) run(_ context.Context, out streams) error {
	before, readErr := volume.ReadPause(v.volume)
	if err := volume.RemovePause(v.volume); err != nil {
		return err
	}
	said := "resumed"
	switch {
	case readErr != nil:
		said += "; the pause could not be read"
	case before == nil:
		said = "it was not paused"
	case before.Ended(time.Now()):
		said = "the pause had ended: it was " + before.String()
	default:
		said += "; it was " + before.String()
	}
	_, err := fmt.Fprintln(out.stdout, said)
	return err
}
