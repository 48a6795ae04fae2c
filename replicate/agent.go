// Package replicate makes a member what it has to be, and keeps it so: the primary
// open for writes, every other member a running replica of it.
//
// It is one level-triggered loop: observe the server (Facts), decide (Decide, a pure
// function under its table), act. A restart of the server, of this program or of both
// is only another observation.
package replicate

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"understudy/replicate/flavor"
	"understudy/replicate/origin"

	"github.com/go-sql-driver/mysql"
)

// Record is what the agent needs of the member's durable journal.
type Record interface {
	// Standing is what is recorded. It is asked before each look and again before each step.
	Standing() Recorded
	// MarkComplete records that the image is done.
	MarkComplete() error
	// MarkConfigured records that the channel is ours.
	MarkConfigured() error
	// MarkAttached records that the member has taken its role.
	MarkAttached(ctx context.Context) error
	// MarkFresh records that the data are to be taken for a fresh copy with this origin.
	MarkFresh(o origin.Origin) error
	// MarkSemiSynced records that commits are not acknowledged without a replica any more.
	MarkSemiSynced() error
	// MarkParted records that the source has lost these transactions and may give their
	// numbers again. It stands for as long as the data directory does.
	MarkParted(transactions string) error
}

// Config are the settings of an Agent.
type Config struct {
	Flavor flavor.Flavor
	// Primary is true for the first ordinal.
	Primary bool
	// Server is the host:port of the member's own server.
	Server string
	// Host is the member's host name, which its server's certificate bears.
	Host string
	// Admin, Sidecar and Clone are the accounts that log in there, see the table in login.go.
	// The primary's agent makes the last two.
	Admin, Sidecar, Clone Login
	// WithTool says that XtraBackup may make the backups, whose account needs more.
	WithTool bool
	// Source is who replicas follow; its password comes from ReplicationPassword, read
	// anew when it is needed. ReplicationPasswordPrevious, when set, is the password before
	// that, empty when there is none: while it is rotated, not all members know the new one.
	Source                      Source
	ReplicationPassword         func() (string, error)
	ReplicationPasswordPrevious func() (string, error)
	// Options are what the server must run with.
	Options []Option
	// Events, when set, says whether the server's own configuration wishes for the event
	// scheduler. It is asked on MariaDB, where the options have it off until the primary is open.
	Events func() bool
	// SemiSync is how much commits wait for replicas.
	SemiSync SemiSync
	// MaxLag is the lag beyond which a replica is not ready; 0 means any.
	MaxLag time.Duration
	// Interval is the time between two looks at the server.
	Interval time.Duration
	Record   Record
	// ServerID is the server's server_id, but while the first ordinal follows a member.
	ServerID uint32
	// Peers asks all other members, when the first ordinal has to know what they have. It
	// takes a few seconds at most, whoever does not answer. Nil asks nobody.
	// An error says that it is not known who they all are.
	Peers func(ctx context.Context) ([]Peer, error)
	// Patience is for how long they are waited for.
	Patience Patience
	// Holding, when set, says whether the applier stands still on purpose, for a backup, and
	// must not be started.
	Holding func() bool
	// Volume, when set, says what room the volume has. Container, when set, says what is known of
	// the server's container; it must not wait for an answer.
	Volume    func() (Space, error)
	Container func() Container
	// Tell, when set, hears what people want to know without reading the log: what was
	// done, and what a person has to look at. Recovered, when set, hears that the last such
	// trouble is over.
	Tell      func(failed bool, text string)
	Recovered func(text string)
	Log       *slog.Logger
}

// Status is what the agent saw and decided last.
type Status struct {
	Facts   Facts
	Action  Action
	Primary bool
	// Verdict is the step that Action would be if nobody had paused the member.
	Verdict Step
	// Attached, Paused and Parted are the volume's word.
	Attached       bool
	Paused, Parted string
	// ServerVersion is the server's own text; empty until it was read once.
	ServerVersion string
	// Ready and Reason are the readiness of the member.
	Ready  bool
	Reason string
	// Trouble is what is wrong, even with a member that is ready.
	Trouble Trouble
	// Without is for how long a replica has had no source: 0 while it has one. CommitsWait is for
	// how long commits have waited on a primary, and none was acknowledged.
	Without, CommitsWait time.Duration
}

// Agent runs the loop. Make one with New.
type Agent struct {
	cfg Config
	// db is for looks and steps, adminDB to make and change accounts.
	db, adminDB *sql.DB
	log         *slog.Logger

	// triedPassword is the replication password that this process gave the server last.
	triedPassword string
	// taken is the one that the source took when it was asked.
	taken taken
	// proof is what a source said last that could not prove itself.
	proof proof
	// sourceSaid is the source's last answer; nil before the first.
	sourceSaid *SourceFacts
	narrowed   narrowed
	standstill standstill
	alarm      alarm
	inMemory   inMemory
	// ownJudged are the transactions of our server that the source was asked about last.
	ownJudged string
	leveling  leveling
	scheduler scheduler
	errantNow errantNow
	// administrator is what is known of that account.
	administrator administrator
	notMade       notMade
	// complaint is what people were told last that they have to look at; empty since it was over.
	complaint Action
	// failure is the last step's error; empty since one succeeded.
	failure string

	mu      sync.Mutex
	version string
	status  Status
	// in is how the agent was let in last, and since when.
	in      entry
	inSince time.Time
	// unverified is why the own server's certificate was not verified last; empty: it was.
	unverified string
	// backupsAs is as whom backups log in.
	backupsAs string
	// distrusted is when the sidecar's account lacked a privilege, and lacked the error.
	distrusted time.Time
	lacked     string
}

// actTimeout bounds one step. Stopping the applier waits for its transaction: on MySQL for
// up to a minute where the receiver was cut off within it.
const actTimeout = 90 * time.Second

// New makes an Agent. Run it, then Close it.
func New(cfg Config) (*Agent, error) {
	a := &Agent{cfg: cfg, log: cfg.Log}
	a.open()
	a.status = Status{Primary: cfg.Primary, Reason: "the server has not been looked at yet"}
	return a, nil
}

// Close ends the connections to the server.
func (a *Agent) Close() error { return errors.Join(a.db.Close(), a.adminDB.Close()) }

// Status is safe to call from any goroutine.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a *Agent) setVersion(v string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version = v
}

// Run turns the loop until ctx ends. A step that changed something is followed by the
// next look at once; one that failed, by longer and longer waits; and what is about to
// change by itself, as while the server starts, by a look that comes soon.
func (a *Agent) Run(ctx context.Context) {
	// A server that starts is looked at as soon as it answers: it might have started writable.
	const soon, longest = 100 * time.Millisecond, 30 * time.Second
	var wait time.Duration
	var last Step
	for {
		step, err := a.turn(ctx)
		switch {
		case err != nil:
			wait = min(max(2*wait, a.cfg.Interval), longest)
		case step.changes() && step != last:
			wait = 0
		case step == Wait:
			wait = min(soon, a.cfg.Interval)
		default:
			wait = a.cfg.Interval
		}
		last = step
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (a *Agent) turn(ctx context.Context) (Step, error) {
	standing, err := a.standing()
	facts := a.observe(ctx, standing)
	if err != nil {
		facts.Trouble = err.Error()
	}
	if facts.Level, err = a.compareWithPeers(ctx, standing, facts); err != nil {
		facts.Trouble = err.Error()
	}
	action := Decide(standing, facts)
	if action.Step.follows() || action.Step == Follow || action.Step == Wait && facts.loginRefused() {
		standing = a.choosePassword(ctx, standing, facts)
		action = Decide(standing, facts)
	}
	standing, facts, action = a.doubt(ctx, standing, facts, action)
	held := action.Step == Start && a.cfg.Holding != nil && a.cfg.Holding()
	if !held {
		facts, action = a.judge(ctx, standing, facts, action)
	}
	if said := facts.Source; said != nil && said.Reused && standing.Parted == "" {
		if err := a.cfg.Record.MarkParted(said.Errant); err != nil {
			return action.Step, err
		}
		standing.Parted = said.Errant
		action = Decide(standing, facts)
	}
	a.publish(standing, facts, action)
	if held || !action.Step.changes() {
		return action.Step, nil
	}
	if a.cfg.Record.Standing().Paused != "" { // since the look, which may have seen what its author did next
		return Leave, nil
	}
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	if err := a.act(ctx, standing, facts, action.Step); err != nil {
		if a.failure != err.Error() {
			a.failure = err.Error()
			a.log.Warn("step failed and will be tried again", "step", action.Step, "error", err)
		}
		return action.Step, err
	}
	a.failure = ""
	a.log.Info("step done", "step", action.Step, "reason", action.Reason, "gtid", facts.GTID)
	a.tell(false, fmt.Sprintf("%s: %s", action.Step, action.Reason))
	return action.Step, nil
}

func (a *Agent) tell(failed bool, text string) {
	if a.cfg.Tell != nil {
		a.cfg.Tell(failed, text)
	}
}

func (a *Agent) standing() (Standing, error) {
	s := Standing{Flavor: a.cfg.Flavor, Primary: a.cfg.Primary, SemiSync: a.cfg.SemiSync, Recorded: a.cfg.Record.Standing()}
	var err error
	s.Source, err = a.source()
	s.PasswordTried = a.tried(s.Source.Password)
	return s, err
}

func (a *Agent) source() (Source, error) {
	s := a.cfg.Source
	p, err := readPasswords(a.cfg.ReplicationPassword, a.cfg.ReplicationPasswordPrevious)
	if err != nil {
		return s, fmt.Errorf("read the replication password: %w", err)
	}
	s.Password, s.Previous = p.current, p.previous
	return s, nil
}

// publish makes what was seen visible, and logs it when it is not what it was.
func (a *Agent) publish(s Standing, f Facts, action Action) {
	ready, reason := readiness(s, f, action, a.cfg.MaxLag)
	verdict := action.Step
	if s.Paused != "" {
		unpaused := s
		unpaused.Paused = ""
		verdict = Decide(unpaused, f).Step
	}
	a.mu.Lock()
	before := a.status
	a.status = Status{
		Facts: f, Action: action, Primary: s.Primary, Verdict: verdict, Attached: s.Attached, Paused: s.Paused, Parted: s.Parted, ServerVersion: a.version, Ready: ready, Reason: reason,
		Trouble: trouble(s, f, action), Without: f.Channel.without(f.Seen), CommitsWait: f.SemiSync.waited(f.Seen),
	}
	wrong := a.status.Trouble
	a.mu.Unlock()
	if before.Ready != ready {
		a.log.Info("readiness changed", "ready", ready, "reason", reason, "gtid", f.GTID)
	}
	a.raise(s, f, action, wrong)
	if before.Action == action || action == a.complaint {
		return
	}
	if action.Step != MakeAccount { // which is tried again now and then, and the complaint stands
		a.complaint = Action{}
	}
	switch action.Step {
	case Report, Reseed:
		a.complaint = action
		a.log.Error("a person has to look", "reason", action.Reason)
	case StartOver:
		a.log.Warn("the server's image was interrupted", "reason", action.Reason)
	case Wait:
		a.log.Info("waiting", "reason", action.Reason)
	case Leave:
		a.log.Info("left alone", "reason", action.Reason, "gtid", f.GTID)
		a.tell(false, action.Reason)
	case Rest:
		a.log.Info("nothing to do", "reason", action.Reason, "gtid", f.GTID)
	default: // logged when it is done
	}
}

// raise tells of a trouble that is new, and of one that is over.
func (a *Agent) raise(s Standing, f Facts, action Action, t Trouble) {
	if t.Text == "" && (!f.Answers || s.Paused != "") {
		return // nobody knows
	}
	wrong, over := a.alarm.next(f.Seen, t)
	if wrong != "" {
		switch {
		case action.Step == Report || action.Step == Reseed: // logged by itself
		case t.Help:
			a.log.Error("a person has to look", "reason", wrong)
		default:
			a.log.Warn("trouble", "reason", wrong)
		}
		a.tell(true, wrong)
	}
	if over != "" {
		a.log.Info("trouble is over", "reason", over)
		if a.cfg.Recovered != nil {
			a.cfg.Recovered(over)
		}
	}
}

// readiness depends on the local server and its applier only: a source that is away
// does not make a replica unready.
func readiness(s Standing, f Facts, action Action, maxLag time.Duration) (bool, string) {
	switch {
	case s.Paused != "":
		return pausedReadiness(s, f, maxLag)
	case !f.Answers || f.Trouble != "" || f.Version.Flavor != s.Flavor:
		return false, action.Reason
	case !s.Attached:
		return false, "not attached yet: " + action.Reason
	case s.Primary && f.ReadOnly:
		return false, "the primary is read-only: " + action.Reason
	case s.Primary && !f.Opened:
		return false, "the primary must not be open yet: " + action.Reason
	case s.Primary:
		return true, s.open(f)
	case f.Channel == nil || !f.Channel.SQLRunning:
		return false, "the applier does not run: " + action.Reason
	case maxLag > 0 && f.Channel.Lag != nil && time.Duration(*f.Channel.Lag)*time.Second > maxLag:
		return false, fmt.Sprintf("the replica is %d s behind, more than %v", *f.Channel.Lag, maxLag)
	}
	text := "the applier runs"
	if c := f.Channel; c.IO != "Yes" && (c.IOErrno == errAccessDenied || barred(c.IOErrno)) {
		text += fmt.Sprintf(", but nothing new comes: the source refuses the login: error %d: %s", c.IOErrno, c.IOError)
	} else if c.without(f.Seen) >= silentAfter {
		text += "; " + f.withoutSource()
	}
	if f.Volume.Full() {
		text += "; " + f.full(s)
	}
	return true, text
}

// pausedReadiness is the readiness without the pause: it depends on what the server does,
// not on who looks after it.
func pausedReadiness(s Standing, f Facts, maxLag time.Duration) (bool, string) {
	paused := s.Paused
	s.Paused = ""
	ready, reason := readiness(s, f, Decide(s, f), maxLag)
	return ready, reason + "; the member is " + paused
}

// act takes a step that changes something.
func (a *Agent) act(ctx context.Context, s Standing, f Facts, step Step) error {
	d := dialectOf(f.Version)
	var statements []statement
	switch step {
	case MarkComplete:
		return a.cfg.Record.MarkComplete()
	case MarkAttached:
		return a.cfg.Record.MarkAttached(ctx)
	case Fence:
		statements = d.fenceStatements()
	case OpenForWrites:
		statements = []statement{{text: d.open}}
	case StopEvents, StartEvents:
		return a.switchEvents(ctx, s, step)
	case Unpersist:
		statements = unpersistStatements(f.Persisted)
	case Start:
		statements = []statement{{text: d.start}}
	case MakeAccount:
		return a.makeAccounts(ctx, d, s, f)
	case ChangePassword:
		change, err := a.adminChange(ctx, d)
		if err != nil {
			return err
		}
		return a.asAdministrator(ctx, change)
	case SetSemiSync:
		if s.Primary {
			statements = d.sourceStatements(s.SemiSync)
		} else {
			statements = d.acknowledgeStatements(f.Channel.IO != "No")
		}
	case Forget:
		return a.forget(ctx, d, s, f)
	case Configure:
		if s.Origin.Mode == origin.Executed {
			statements = d.goOnStatements(s.Source, f.position())
		} else {
			statements = d.configureStatements(s.Source, *s.beginning(f))
		}
	case Repoint:
		if c := f.Channel; c != nil && (c.follows(s.Source) || !c.UsingGTID) {
			statements = d.loginStatements(s.Source)
		} else {
			statements = d.repointStatements(s.Source)
		}
	case TakeOver:
		statements = append(d.takeOverStatements(*s.Origin), renumberStatements(f.Version, *s.Origin, f.GTID)...)
	case Follow:
		statements = d.followStatements(s.Source.at(f.Level.Ahead.Host), a.cfg.ServerID, f.position())
	case Detach:
		statements = d.detachStatements(a.cfg.ServerID)
	case Wait, Report, Reseed, StartOver, Rest, Leave:
		return nil
	}
	if step == SetSemiSync && s.Primary && s.SemiSync == SemiSyncRequired && !s.SemiSynced {
		// Before it is so: what is promised must outlast a crash.
		if err := a.cfg.Record.MarkSemiSynced(); err != nil {
			return err
		}
	}
	if err := a.exec(ctx, a.db, statements); err != nil {
		a.distrust(ctx, err)
		return err
	}
	if step == OpenForWrites {
		a.tellOfSleeping(ctx, s)
	}
	if step == Start { // once: the table may have a limit of its own
		a.standstill.full = false
	}
	if step == Configure || step == Repoint || step == Follow {
		a.triedPassword = s.Source.Password
	}
	if step == Configure || step == TakeOver {
		// Not before, and before it starts: a channel that has applied something must not
		// be sent back to where the copy began.
		return a.cfg.Record.MarkConfigured()
	}
	return nil
}

// exec runs the statements on one connection. An error names the text of the one that
// failed, never its values.
func (a *Agent) exec(ctx context.Context, db *sql.DB, statements []statement) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() {
		if closeErr := conn.Close(); err == nil { // one that is not used again is closed already
			err = closeErr
		}
	}()
	for _, st := range statements {
		if _, err := conn.ExecContext(ctx, st.text, st.args...); err != nil {
			// The session may be half-way through its settings: it is not used again.
			_ = conn.Raw(func(any) error { return driver.ErrBadConn })
			return fmt.Errorf("execute %q: %w", st.text, withoutText(err))
		}
	}
	return nil
}

// withoutText keeps the quoted part of a statement that a syntax error repeats out of
// the log: it may hold a password.
func withoutText(err error) error {
	if refused, ok := errors.AsType[*mysql.MySQLError](err); ok && refused.Number == errParse {
		return fmt.Errorf("error %d: the server does not understand it", errParse)
	}
	return err
}
