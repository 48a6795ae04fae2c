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

const pauseAbout = `understudy pause has the sidecar leave its member alone until understudy resume. Run it in the
sidecar's container, or on the host with --volume:
  kubectl -n database exec db-1 -c sidecar -- understudy pause --reason="a look at a table" --for=2h

It writes .understudy/paused on the volume. The sidecar heeds it before its next step, and so
does one that is started later: restarts of the sidecar, the server and the pod change nothing.
While a member is paused, the sidecar
  - takes no step at all: threads that you stop stay stopped, a channel stays as you make it, and
    a replica that you make writable STAYS WRITABLE. A replica whose server restarts comes back
    read-only and with its threads stopped; a primary whose pod is replaced, read-only
  - goes on to look and to tell: /readyz, /metrics (understudy_paused) and understudy status say
    what the server does, and that the member is paused
  - gives clones as ever: a replica whose applier is stopped gives none

A second call counts in place of the first, but the pause's beginning stays, and so does the
reason if none is given.
`

func (v *pauseVerb) define(f *flagSet) {
	f.about = pauseAbout
	defineVolume(f, &v.volume)
	f.StringVar(&v.reason, "reason", "", "`text` that status and the log show: who, and why")
	f.DurationVar(&v.length, "for", 0, "`time` after which the pause ends by itself; 0: it does not")
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
	if err != nil && !errors.Is(err, volume.ErrPause) { // one that cannot be read is written anew
		return err
	}
	p := v.pause(before, time.Now().UTC().Truncate(time.Second))
	if err := volume.WritePause(v.volume, p); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.stdout, p)
	return err
}

// pause is what now follows on an earlier one, which may be nil.
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

const resumeAbout = `understudy resume ends what understudy pause began. Run it in the same place:
  kubectl -n database exec db-1 -c sidecar -- understudy resume

At its next look the sidecar makes the member what it has to be again: a replica read-only and
running, the primary open for writes. It is no error when the member is not paused.
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
