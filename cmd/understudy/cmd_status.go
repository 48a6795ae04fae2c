package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"understudy/clone"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
)

// statusVerb is `understudy status`.
type statusVerb struct {
	members setFlags
	trust   trustFlags
	kube    kubeFlags
	logs    logFlags

	port    int
	timeout time.Duration
	output  string
	verify  bool

	id member.Identity // of the set, without a member
}

const statusAbout = `understudy status shows what all members of a set report.

In a pod of the set it takes the sidecar's flags from the environment and needs no others:
  kubectl -n database exec db-0 -c sidecar -- understudy status

Elsewhere, name the set and give its secret, and run it where the members' names resolve:
  understudy status --set=db --namespace=database --secret-file=/secret/secret

It asks all possible members at once. In a pod of the set, the Lease and the StatefulSet name
the members. Elsewhere they are found by name (see --members), and the list ends with the last
name that resolves, so a last member without a pod is not listed. A member that should exist
and does not answer is listed with the reason. Below the table it says why a member is not
ready or paused, and which other problems members report. The columns:
  PHASE   empty, cloning: init is at work. initialising, published: the data are in place, and
          the sidecar has not attached the member yet. attached: it has. paused: by
          understudy pause
  LAG     the replication lag that the server reports; - on the primary and where it is not
          known, for example while nothing arrives from the source
  SOURCE  the server that the member replicates from
  CLONES  the clones that the member gives or takes now
  GTID    the transactions that it has executed

With --primary=lease it also says who leads, for whom commits wait, and whether an election would
find another leader right now, without the present one, and why not.

The exit code is 0 if all existing members are ready, exactly one is the primary, and none
reports a problem, such as a full volume, waiting commits, or no source for half a minute. In a set
of two and more with --primary=lease, it is 1 also while it is degraded, or while nobody could take
over, unless people have forbidden failover.

With --verify it is also 1 if a member cannot be compared with the primary, or if the primary
lacks what a replica has or has received (errant transactions), or what a clone began with.
Members report their last observation, so a replica may seem to be ahead under writes; the
primary is therefore asked again for up to 5 s. A second table follows:
  BEHIND  the number of transactions that a replica had yet to execute, which is no failure; -
          on the primary and where nothing was compared
  DONOR   the member that the data were cloned from; - where the data came otherwise
  BYTES, DIGEST  of that clone's stream, as received and verified
  ORIGIN  the coordinate at which replication began on the clone
Of MariaDB's errant transactions, "within 0-101-1..7" means that the last one is errant and the
others may be; once replication has stopped because of them, the member names all of them.

  understudy status -o json | jq -r '.[] | select(.ready | not) | .name'
`

func (v *statusVerb) define(f *flagSet) {
	f.about = statusAbout
	v.members.define(f)
	f.IntVar(&v.port, "clone-port", wire.Port, "`port` on which members answer")
	f.DurationVar(&v.timeout, "timeout", 3*time.Second, "`time` that a member has to answer")
	f.StringVarP(&v.output, "output", "o", outputTable, "`format`: table; or json: an array of the members' answers, each with the host that was asked, an\nerror for those that do not answer, and the findings of --verify")
	f.BoolVar(&v.verify, "verify", false, "compare the GTIDs of all members, and their clones, with the primary")
	v.trust.define(f)
	v.kube.define(f)
	v.logs.define(f)
}

// What --output can be.
const (
	outputTable = "table"
	outputJSON  = "json"
)

func (v *statusVerb) validate(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q", args[0])
	}
	if v.output != outputTable && v.output != outputJSON {
		return fmt.Errorf("--output=%s: it must be table or json", v.output)
	}
	if v.timeout <= 0 {
		return errors.New("--timeout must be more than 0")
	}
	if err := v.members.validateSet(); err != nil {
		return err
	}
	if v.members.members == 0 {
		return errors.New("--members must be more than 0")
	}
	v.id = v.members.identity(member.NoMember)
	return errors.Join(v.trust.validate(), v.kube.validate(), v.logs.validate())
}

func (v *statusVerb) run(ctx context.Context, out streams) error {
	log := v.logs.logger(out.stderr)
	m, err := v.trust.byHand(v.id, v.port, log)
	if err != nil {
		return err
	}
	known, unsure := v.roster(ctx, log)
	how := member.Asking{As: m.Name, Timeout: v.timeout}
	all := answersOf(m.AskAll(ctx, known, how))
	listed := existing(all)
	if v.verify {
		verifyAll(ctx, listed, func(ctx context.Context, at int) answer {
			return answersOf(m.Ask(ctx, []int{listed[at].Ordinal}, how))[0]
		})
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ask the members: %w", err)
	}
	if v.output == outputJSON {
		err = printJSON(out.stdout, listed)
	} else if len(listed) > 0 {
		err = errors.Join(printTable(out.stdout, listed), printBelow(out.stdout, leadLines(leadOf(listed))))
		if v.verify {
			err = errors.Join(err, printChecks(out.stdout, listed))
		}
	}
	if err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	if len(listed) == 0 {
		return fmt.Errorf("none of the %d possible members exists: check --set, --service and --peer-host, and that the members' names resolve here: %w", len(all), all[0].Err)
	}
	return errors.Join(verdict(listed), unsure)
}

// roster asks Kubernetes who the members are, where that is possible: in a pod of the set.
func (v *statusVerb) roster(ctx context.Context, log *slog.Logger) (member.Roster, error) {
	if v.kube.mode == kubeAuto && v.kube.podUID == "" {
		return member.Roster{}, nil
	}
	kube, err := v.kube.connect(v.id, "", log)
	if err != nil {
		return member.Roster{}, err
	}
	return kube.Roster(ctx)
}

// answer is one member's line of the status.
type answer struct {
	member.Answer
	check *check // nil without --verify
}

func answersOf(members []member.Answer) []answer {
	all := make([]answer, len(members))
	for i, a := range members {
		all[i].Answer = a
	}
	return all
}

// existing drops the members after the last one that exists or should exist. A StatefulSet has no
// gaps, so members before that one are missing.
func existing(all []answer) []answer {
	for len(all) > 0 && !all[len(all)-1].Exists() && !all[len(all)-1].Remembered {
		all = all[:len(all)-1]
	}
	return all
}

func (a answer) ready() bool   { return a.Err == nil && a.Said.Ready }
func (a answer) primary() bool { return a.Err == nil && a.Said.Role == wire.Primary }

// trouble says why the member is not ready or paused, or which problem it reports.
func (a answer) trouble() string {
	switch {
	case a.Err != nil:
		return fmt.Sprintf("%s does not answer: %v", a.Name, a.Err)
	case a.Said.Ready && a.Said.Paused != "":
		return fmt.Sprintf("%s is %s", a.Name, a.Said.Paused)
	case !a.Said.Ready:
		return fmt.Sprintf("%s is not ready: %s", a.Name, a.Said.Reason)
	case a.Said.Trouble != "":
		return fmt.Sprintf("%s is ready, with a problem: %s", a.Name, a.Said.Trouble)
	}
	return ""
}

// verdict is an error unless all members are ready and without a problem, exactly one is the
// primary, and --verify found nothing.
func verdict(all []answer) error {
	var ready, troubled, findings int
	var primaries []string
	for _, a := range all {
		if a.check != nil {
			findings += len(a.check.Findings)
		}
		if a.ready() {
			ready++
		}
		if a.ready() && a.Said.Trouble != "" {
			troubled++
		}
		if a.primary() {
			primaries = append(primaries, a.Name)
		}
	}
	var wrong []string
	if ready < len(all) {
		wrong = append(wrong, fmt.Sprintf("%d of %d members ready", ready, len(all)))
	}
	if troubled > 0 {
		wrong = append(wrong, fmt.Sprintf("members with a problem: %d", troubled))
	}
	switch len(primaries) {
	case 0:
		wrong = append(wrong, "no member that answers is the primary")
	case 1:
	default:
		wrong = append(wrong, "more than one primary: "+strings.Join(primaries, ", "))
	}
	if text := leadTrouble(leadOf(all), len(all)); text != "" {
		wrong = append(wrong, text)
	}
	if findings > 0 {
		wrong = append(wrong, fmt.Sprintf("findings of --verify: %d", findings))
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("the set is unhealthy: %s", strings.Join(wrong, ", "))
}

// cellPadding is the number of spaces between two columns.
const cellPadding = 2

func printTable(w io.Writer, all []answer) error {
	table := tabwriter.NewWriter(w, 0, 0, cellPadding, ' ', 0)
	line := func(cells ...string) { printRow(table, cells) }
	// The GTIDs are last: on MySQL they can be of any length.
	line("MEMBER", "ROLE", "PHASE", "READY", "LAG", "SOURCE", "CLONES", "GTID")
	for _, a := range all {
		m := a.Said
		line(a.Name, string(m.Role), phase(m), yes(a.ready()), lag(m), m.Source, clones(m), m.GTID)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var troubles []string
	for _, a := range all {
		if text := a.trouble(); text != "" {
			troubles = append(troubles, text)
		}
	}
	return printBelow(w, troubles)
}

func printRow(table io.Writer, cells []string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	_, _ = fmt.Fprintln(table, strings.Join(cells, "\t")) // the table's Flush has its error
}

// printBelow prints lines below a table.
func printBelow(w io.Writer, lines []string) error {
	if lines == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(lines, "\n"))
	return err
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// phase shows a pause in place of the phase.
func phase(m wire.Member) string {
	if m.Paused != "" {
		return "paused"
	}
	return m.Phase
}

func lag(m wire.Member) string {
	if m.LagSeconds == nil {
		return ""
	}
	return fmt.Sprintf("%d s", *m.LagSeconds)
}

// clones lists the clones that the member gives and takes, with their progress.
func clones(m wire.Member) string {
	var all []string
	for _, g := range m.Giving {
		p := clone.Progress{Bytes: g.Bytes, Total: g.Total}
		all = append(all, fmt.Sprintf("to %s %d %%", g.Joiner, p.Percent()))
	}
	if m.Cloning != nil {
		all = append(all, fmt.Sprintf("from %s %d %%", m.Cloning.Donor, m.Cloning.Percent))
	}
	return strings.Join(all, ", ")
}

// printJSON prints the members' answers unchanged.
func printJSON(w io.Writer, all []answer) error {
	type said struct {
		Name string `json:"name"`
		Host string `json:"host"`
		*wire.Member
		Error  string `json:"error,omitempty"`
		Verify *check `json:"verify,omitempty"`
	}
	list := make([]said, 0, len(all))
	for _, a := range all {
		s := said{Name: a.Name, Host: a.Host, Verify: a.check}
		if a.Err != nil {
			s.Error = a.Err.Error()
		} else {
			s.Member = &a.Said
		}
		list = append(list, s)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(list)
}
