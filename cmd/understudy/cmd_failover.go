package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
)

// failoverVerb is `understudy failover`.
type failoverVerb struct {
	members setFlags
	trust   trustFlags
	logs    logFlags

	port          int
	forbid, allow bool
	reason        string
	timeout       time.Duration

	id member.Identity // of the set, without a member
}

const failoverAbout = `understudy failover forbids failover in a set with --primary=lease, or allows it again.
EXPERIMENTAL: see docs/failover.md.

In a pod of the set it takes the sidecar's flags from the environment and needs no others:
  kubectl -n database exec db-0 -c sidecar -- understudy failover --forbid --reason="a restore"
  kubectl -n database exec db-0 -c sidecar -- understudy failover --allow

While failover is forbidden, nobody but the member that led last is elected: a leader whose server
is restarted leads again, and when it stays away, the set has no primary. understudy switchover
still works. The Lease remembers it until --allow, also over restarts of everything; understudy
status shows it. The leader's sidecar writes it, or where there is no leader, any other.
`

func (v *failoverVerb) define(f *flagSet) {
	f.about = failoverAbout
	v.members.define(f)
	f.BoolVar(&v.forbid, "forbid", false, "forbid failover; needs --reason")
	f.BoolVar(&v.allow, "allow", false, "allow it again")
	f.StringVar(&v.reason, "reason", "", "`text` that status, Events and logs show: who forbids it, and why")
	f.IntVar(&v.port, "clone-port", wire.Port, "`port` on which members answer")
	f.DurationVar(&v.timeout, "timeout", 10*time.Second, "`time` for the change")
	v.trust.define(f)
	v.logs.define(f)
}

func (v *failoverVerb) validate(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q: a reason goes to --reason, in quotes", args[0])
	case v.forbid == v.allow:
		return errors.New("give either --forbid or --allow")
	case v.forbid && v.reason == "":
		return errors.New("--forbid needs --reason: who forbids failover, and why")
	case strings.ContainsFunc(v.reason, unicode.IsControl):
		return errors.New("--reason must be one line of plain text")
	case v.timeout <= 0:
		return errors.New("--timeout must be more than 0")
	}
	if err := v.members.validateSet(); err != nil {
		return err
	}
	v.id = v.members.identity(member.NoMember)
	return errors.Join(v.trust.validate(), v.logs.validate())
}

func (v *failoverVerb) run(ctx context.Context, out streams) error {
	log := v.logs.logger(out.stderr)
	m, err := v.trust.byHand(v.id, v.port, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	forbid, said := "", "failover is allowed"
	if v.forbid {
		forbid = fmt.Sprintf("%s, since %s", v.reason, time.Now().UTC().Format(time.RFC3339))
		said = "failover is forbidden: " + forbid
	}
	by, err := m.Permit(ctx, m.AskAll(ctx, member.Roster{}, member.Asking{As: m.Name, Timeout: askTimeout}), forbid, v.timeout)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.stdout, "%s; %s has written it\n", said, by)
	return err
}
