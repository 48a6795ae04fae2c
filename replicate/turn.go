package replicate

import (
	"context"
	"fmt"
)

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
