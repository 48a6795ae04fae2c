package replicate

import (
	"context"
	"fmt"
	"time"
)

// view is what one turn goes by: what was known of the member when it began, which does not change
// while it lasts, and what was seen.
type view struct {
	s Standing
	f Facts
}

// inquiry is a question that costs a connection, or time. It is asked once per turn at most, and
// only before an action for which the answer matters.
type inquiry struct {
	// wanted says that the action depends on the answer.
	wanted func(view, Action) bool
	// ask writes the answer to the facts.
	ask func(ctx context.Context, s Standing, f *Facts, action Action)
}

// inquiries are in the order in which they are asked: the source lets in who has the password, and
// is asked for its transactions after it has proved itself.
func (a *Agent) inquiries() []inquiry {
	return []inquiry{
		{wantsFiles, a.askFiles},
		{a.wantsPassword, a.askPassword},
		{wantsProof, a.askProof},
		{a.wantsHolding, a.askHolding},
		{a.wantsSource, a.askSource},
		{a.wantsExclusive, a.askExclusive},
	}
}

// turn looks, decides, and takes one step.
func (a *Agent) turn(ctx context.Context) (Step, error) {
	v := a.look(ctx)
	action := v.decide()
	for _, q := range a.inquiries() {
		if q.wanted(v, action) {
			q.ask(ctx, v.s, &v.f, action)
			action = v.decide()
		}
	}
	if err := ctx.Err(); err != nil { // what was not seen for that says nothing of the server
		return action.Step, err
	}
	if action.Step == Rest {
		a.effort.rests()
	}
	a.publish(v.s, v.f, action, a.effort.futile(action.Step, v.f.Seen))
	if parted := v.s.parted(v.f); parted != v.s.Parted { // before anything starts
		if err := a.cfg.Record.MarkParted(parted); err != nil {
			return a.fails(action.Step, fmt.Errorf("record that the primary lost transactions: %w", err))
		}
	}
	return a.carryOut(ctx, v, action)
}

// look makes the view of this turn.
func (a *Agent) look(ctx context.Context) view {
	s, unread := a.standing()
	f := a.observe(ctx, s)
	if unread != nil {
		f.Trouble = unread.Error()
	}
	f.PasswordTried = a.memory.tried(s.Source.Password)
	var err error
	if f.Level, err = a.compareWithPeers(ctx, s, f); err != nil {
		f.Trouble = err.Error()
	}
	return view{s, f}
}

// wantsHolding: a backup stops the applier, and only Start would start it.
func (a *Agent) wantsHolding(_ view, action Action) bool {
	return action.Step == Start && a.cfg.Holding != nil
}

func (a *Agent) askHolding(_ context.Context, _ Standing, f *Facts, _ Action) {
	f.Held = a.cfg.Holding()
}

// wantsExclusive: a backup that runs while transactions are forgotten would not know how far its
// data are.
func (a *Agent) wantsExclusive(_ view, action Action) bool {
	return action.Step == Forget && a.cfg.Exclusive != nil
}

func (a *Agent) askExclusive(_ context.Context, _ Standing, f *Facts, _ Action) {
	release, ok := a.cfg.Exclusive()
	a.memory.harmless = nil
	if ok {
		release()
	} else {
		f.Copied, a.memory.harmless = true, &heldBack{f.ownExecuted(), f.Source}
	}
}

// carryOut takes the step, unless it is held back: by a backup, or by a pause since the look, which
// may have seen what the author of the pause did next.
func (a *Agent) carryOut(ctx context.Context, v view, action Action) (Step, error) {
	if v.f.Held || !action.Step.changes() {
		return action.Step, nil
	}
	if v.s.Role != nil { // the Lease may say otherwise by now
		leave, ok := a.cfg.Leading.Enter(ctx, *v.s.Role)
		if !ok {
			return Wait, nil
		}
		defer leave()
	}
	if a.cfg.Record.Standing().Paused != "" {
		return Leave, nil
	}
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	if err := a.act(ctx, v.s, v.f, action.Step); err != nil {
		if v.s.Role != nil {
			a.cfg.Leading.Unsettle()
		}
		return a.fails(action.Step, err)
	}
	a.effort.succeeds(action.Step, v.f.Seen)
	a.log.Info("step done", "step", action.Step, "reason", action.Reason, "gtid", v.f.GTID)
	a.tell(false, fmt.Sprintf("%s: %s", action.Step, action.Reason))
	return action.Step, nil
}

// fails logs the error of a step that is tried again, unless it was the last one's, too.
func (a *Agent) fails(step Step, err error) (Step, error) {
	if a.effort.fails(step, err, time.Now()) {
		a.log.Warn("step failed and will be tried again", "step", step, "error", err)
	}
	return step, err
}

func (a *Agent) tell(failed bool, text string) {
	if a.cfg.Tell != nil {
		a.cfg.Tell(failed, text)
	}
}

func (a *Agent) standing() (Standing, error) {
	s := Standing{Flavor: a.cfg.Flavor, Primary: a.cfg.Primary, SemiSync: a.cfg.SemiSync, Recorded: a.cfg.Record.Standing()}
	var err error
	s.Source, err = a.readSource()
	a.asTheLeaseSays(&s)
	return s, err
}

func (a *Agent) readSource() (Source, error) {
	s := a.cfg.Source
	p, err := readPasswords(a.cfg.ReplicationPassword, a.cfg.ReplicationPasswordPrevious)
	if err != nil {
		return s, fmt.Errorf("read the replication password: %w", err)
	}
	s.Password, s.Previous = p.current, p.previous
	return s, nil
}
