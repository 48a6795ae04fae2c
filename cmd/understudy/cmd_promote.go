package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"understudy/clone"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
)

// promoteVerb is `understudy promote`.
type promoteVerb struct {
	members setFlags
	trust   trustFlags
	logs    logFlags

	port    int
	name    string
	accept  bool
	confirm string
	timeout time.Duration

	id member.Identity // of the set, without a member
}

const promoteAbout = `understudy promote NAME makes that member the primary of a set with --primary=lease that cannot
elect one. EXPERIMENTAL: see docs/failover.md.

It is the way out when members are lost FOR GOOD whose reports an election needs. What they alone
have is lost, also commits that clients were told of. A member that comes back with such commits
is reseeded; its old data stay on its volume in .understudy/replaced-ID. First see for whom the
set waits, at /readyz of any member, and bring that one back if it can be.

It prints what may be lost, and changes nothing without --accept-data-loss. In a pod of the set it
takes the sidecar's flags from the environment:
  kubectl -n database exec -it db-2 -c sidecar -- understudy promote db-2
  kubectl -n database exec -it db-2 -c sidecar -- understudy promote db-2 --accept-data-loss

Then it asks for the set's name; a script gives it with --confirm=SET. A set with
--semi-sync=required takes writes again when a replica acknowledges them.

It refuses (exit code 3) while a leader renews the Lease, where another member is open for writes,
while failover is forbidden, and where the set has gone back to its first ordinal. It also refuses
a NAME that the Lease does not register and that has nothing of the set's data, that may not lead
(it is paused, or has --never-lead), or whose server does not answer.
`

func (v *promoteVerb) define(f *flagSet) {
	f.about = promoteAbout
	v.members.define(f)
	f.BoolVar(&v.accept, "accept-data-loss", false, "have the member lead, and lose what it prints")
	f.StringVar(&v.confirm, "confirm", "", "`name` of the set, in place of the question for it")
	f.IntVar(&v.port, "clone-port", wire.Port, "`port` on which members answer")
	f.DurationVar(&v.timeout, "timeout", 40*time.Second, "`time` for the change")
	v.trust.define(f)
	v.logs.define(f)
}

func (v *promoteVerb) validate(args []string) error {
	switch {
	case len(args) == 0:
		return errors.New("it needs the name of the member that is to lead, as in: understudy promote db-2")
	case len(args) > 1:
		return fmt.Errorf("unexpected argument %q", args[1])
	case v.timeout <= 0:
		return errors.New("--timeout must be more than 0")
	}
	if err := v.members.validateSet(); err != nil {
		return err
	}
	v.id, v.name = v.members.identity(member.NoMember), args[0]
	if _, ok := v.id.OrdinalOf(v.name); !ok {
		return fmt.Errorf("%s is no member: it must be one, as in %s", v.name, v.id.NameOf(v.id.First))
	}
	if v.confirm != "" && v.confirm != v.id.Set {
		return fmt.Errorf("--confirm=%s: the set is %s", v.confirm, v.id.Set)
	}
	return errors.Join(v.trust.validate(), v.logs.validate())
}

func (v *promoteVerb) run(ctx context.Context, out streams) error {
	log := v.logs.logger(out.stderr)
	m, err := v.trust.byHand(v.id, v.port, log)
	if err != nil {
		return err
	}
	look, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	p, err := m.Promote(look, v.name, false, v.timeout)
	switch {
	case err != nil:
		return err
	case p.Refused != "":
		return fmt.Errorf("%w: %s cannot be promoted: %s", clone.ErrRefused, v.name, p.Refused)
	}
	text := fmt.Sprintf("%s would lead term %d, in place of %s, which led term %d.\n", p.Member, p.Term, p.Last, p.LastTerm)
	if len(p.Lost) == 0 {
		text += "Nothing is known to be lost by that.\n"
	} else {
		text += "What comes of that:\n  " + strings.Join(p.Lost, "\n  ") + "\n"
	}
	if _, err := io.WriteString(out.stdout, text); err != nil {
		return err
	}
	if !v.accept {
		return fmt.Errorf("%w: nothing is changed without --accept-data-loss", clone.ErrRefused)
	}
	if err := v.confirmed(out.stdout, os.Stdin); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, v.timeout) // from the answer to the question
	defer cancel()
	if p, err = m.Promote(ctx, v.name, true, v.timeout); err != nil {
		return err
	}
	if p.Refused != "" {
		return fmt.Errorf("%w: %s cannot be promoted: %s", clone.ErrRefused, v.name, p.Refused)
	}
	_, err = fmt.Fprintf(out.stdout, "%s leads term %d\n", p.Member, p.Term)
	return err
}

// confirmed asks for the set's name, where the flag does not give it.
func (v *promoteVerb) confirmed(out io.Writer, in *os.File) error {
	if v.confirm != "" {
		return nil
	}
	if !isTerminal(in) {
		return usageError{fmt.Errorf("--confirm=%s is needed where nobody can be asked", v.id.Set)}
	}
	if _, err := fmt.Fprint(out, "Type the set's name to go on: "); err != nil {
		return err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != v.id.Set {
		return fmt.Errorf("%w: %q is not the set's name, %s: nothing was changed", clone.ErrRefused, strings.TrimSpace(line), v.id.Set)
	}
	return nil
}
