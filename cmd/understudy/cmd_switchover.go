package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
)

// switchoverVerb is `understudy switchover`.
type switchoverVerb struct {
	members setFlags
	trust   trustFlags
	logs    logFlags

	port    int
	to      string
	timeout time.Duration

	id member.Identity // of the set, without a member
}

const switchoverAbout = `understudy switchover makes another member the primary, in a set with --primary=lease.
EXPERIMENTAL: see docs/failover.md.

In a pod of the set it takes the sidecar's flags from the environment and needs no others:
  kubectl -n database exec db-0 -c sidecar -- understudy switchover --to=db-1

The leader waits up to 10 s until the next one executes within half a second what the leader has;
else it refuses, and has blocked no write. Then it blocks new writes, waits up to 2 s until the next
one has executed all that it has, gives it the Lease, and follows it. Until the Lease is given
away, a failure has the leader go on as before; clients see writes refused (error 1290) meanwhile.
Transactions that have not committed when writes are blocked fail.
`

func (v *switchoverVerb) define(f *flagSet) {
	f.about = switchoverAbout
	v.members.define(f)
	f.StringVar(&v.to, "to", "", "`name` of the member that is to lead; empty: one that acknowledges")
	f.IntVar(&v.port, "clone-port", wire.Port, "`port` on which members answer")
	f.DurationVar(&v.timeout, "timeout", 40*time.Second, "`time` for the change")
	v.trust.define(f)
	v.logs.define(f)
}

func (v *switchoverVerb) validate(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	if v.timeout <= 0 {
		return errors.New("--timeout must be more than 0")
	}
	if err := v.members.validateSet(); err != nil {
		return err
	}
	v.id = v.members.identity(member.NoMember)
	if _, ok := v.id.OrdinalOf(v.to); v.to != "" && !ok {
		return fmt.Errorf("--to=%s: it must be a member, as in %s", v.to, v.id.NameOf(v.id.First))
	}
	return errors.Join(v.trust.validate(), v.logs.validate())
}

// askTimeout is the time that a member has to say whether it is the primary.
const askTimeout = 3 * time.Second

func (v *switchoverVerb) run(ctx context.Context, out streams) error {
	log := v.logs.logger(out.stderr)
	m, err := v.trust.byHand(v.id, v.port, log)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	leader := ""
	for _, a := range m.AskAll(ctx, member.Roster{}, member.Asking{As: m.Name, Timeout: askTimeout}) {
		if a.Err == nil && a.Said.Role == wire.Primary {
			leader = a.Name
		}
	}
	switch leader {
	case "":
		return errors.New("no member that answers is the primary")
	case v.to:
		_, err := fmt.Fprintln(out.stdout, leader, "leads already")
		return err
	}
	now, err := m.SwitchOver(ctx, leader, v.to, v.timeout)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out.stdout, now, "leads, in place of", leader)
	return err
}
