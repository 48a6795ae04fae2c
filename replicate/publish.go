package replicate

import "time"

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
	// Judged says that the member has what no leader has, and that nobody was told of it: lead.Role.Tail.
	Judged bool
	// Next is when the agent looks again; zero while it takes a step.
	Next time.Time
}

// freshFor is what a look may take, with the questions to other servers that belong to it.
const freshFor = 15 * time.Second

// Fresh says that the agent still looks at the server as often as it meant to: what was seen says
// something of now. A process that was stopped wakes up with a status that is not fresh.
func (s Status) Fresh(now time.Time) bool {
	last := s.Facts.Seen
	if s.Next.After(last) {
		last = s.Next
	}
	return now.Before(last.Add(freshFor))
}

// publish makes what was seen visible, and logs it when it is not what it was. futile is what is
// known against the action.
func (a *Agent) publish(s Standing, f Facts, action Action, futile Futile) {
	action = action.beside(futile)
	ready, reason := readiness(s, f, action, a.cfg.MaxLag)
	verdict := action.Step
	if s.Paused != "" {
		unpaused := s
		unpaused.Paused = ""
		verdict = view{unpaused, f}.decide().Step
	}
	a.mu.Lock()
	before := a.status
	a.status = Status{
		Facts: f, Action: action, Primary: s.Primary, Verdict: verdict, Attached: s.Attached, Paused: s.Paused, Parted: s.parted(f), ServerVersion: a.version, Ready: ready, Reason: reason,
		Trouble: trouble(s, f, action, futile), Without: f.Channel.without(f.Seen), CommitsWait: f.SemiSync.waited(f.Seen),
		Judged: s.Role != nil && s.Role.Tail,
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
		a.log.Error("manual action required", "reason", action.Reason)
	case StartOver:
		a.log.Warn("the server's image was interrupted", "reason", action.Reason)
	case Wait, AwaitTerm:
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
			a.log.Error("manual action required", "reason", wrong)
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
