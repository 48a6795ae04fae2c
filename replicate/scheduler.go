package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// eventsMustStop says that events run that must not: on a replica, and before the primary is open.
func eventsMustStop(s Standing, f Facts) bool { return f.EventsOn && (!s.Primary || !f.Opened) }

// lookAtEvents finds out whether the event scheduler has to be stopped or started, and whether that
// can be done.
func (a *Agent) lookAtEvents(ctx context.Context, d dialect, s Standing, f *Facts) (err error) {
	if s.Primary && f.Opened && !f.EventsOn && !f.EventsDisabled {
		if f.EventsDue, err = a.eventsDue(ctx, d); err != nil {
			return err
		}
	}
	if f.EventsDue || eventsMustStop(s, *f) {
		f.EventsTrouble = a.eventsTrouble(ctx, d)
	}
	return nil
}

// eventsDue says of a primary that is open, and whose event scheduler is off, that this is so
// because it had to be off at the start, and not because somebody wants it.
func (a *Agent) eventsDue(ctx context.Context, d dialect) (bool, error) {
	if a.scheduler.stopped {
		return true, nil
	}
	if a.cfg.Events == nil {
		return false, nil
	}
	if on, set := a.cfg.Events(); set && !on || !set && !d.eventsByDefault {
		return false, nil
	}
	if d.queryOrigin == "" {
		return a.scheduler.opened, nil
	}
	o, err := readOrigin(ctx, a.logins.db, d, variableEvents)
	return err == nil && !o.statement && !o.outranksFiles(), err
}

// scheduler is what the agent remembers of the server's event scheduler.
type scheduler struct {
	// stopped says that it ran when the server started, and was stopped before the primary was
	// open, or when it led no more: somebody wishes for it.
	stopped bool
	// opened says that the primary was opened, and the scheduler not started since.
	opened bool
	// refusal is why it could not be started or stopped, at is when that was found out.
	refusal string
	at      time.Time
}

// eventsTrouble is why the event scheduler cannot be started or stopped; empty where it can.
func (a *Agent) eventsTrouble(ctx context.Context, d dialect) string {
	if a.scheduler.refusal != "" && time.Since(a.scheduler.at) < distrustFor {
		return a.scheduler.refusal
	}
	if !d.eventsNeedSuper {
		return ""
	}
	if admin := a.logins.askAdministrator(ctx); admin.err != nil {
		return admin.err.Error()
	}
	return ""
}

// switchEvents starts or stops the event scheduler.
func (a *Agent) switchEvents(ctx context.Context, d dialect, s Standing, step Step) error {
	statements := eventsOff
	if step == StartEvents {
		statements = eventsOn
	}
	var err error
	if d.eventsNeedSuper {
		err = a.logins.asAdministrator(ctx, statements)
	} else if err = exec(ctx, a.logins.db, statements); a.logins.distrust(ctx, err) {
		return err // the administrator tries next
	}
	switch {
	case err == nil:
		a.scheduler = scheduler{stopped: step == StopEvents && (s.Primary || s.Role != nil)}
	case isOneOf(err, errOption) || lacksPrivilege(err):
		a.scheduler.refusal, a.scheduler.at = err.Error(), time.Now()
	}
	return err
}

// readSleeping reads them as schema.event. Only who may make events sees them all: the
// administrator.
func readSleeping(ctx context.Context, db *sql.DB) (all []string, err error) {
	rows, err := readRows(ctx, db, querySleeping)
	if err != nil {
		return nil, fmt.Errorf("read which events are disabled: %w", err)
	}
	for _, r := range rows {
		all = append(all, r["EVENT_SCHEMA"]+"."+r["EVENT_NAME"])
	}
	return all, nil
}

// tellOfSleeping says of a primary whose data are a copy of a replica, whenever it has opened,
// which events do not run.
func (a *Agent) tellOfSleeping(ctx context.Context, s Standing) {
	if s.Origin == nil {
		return
	}
	all, err := readSleeping(ctx, a.logins.adminDB)
	if err != nil {
		a.log.Warn("cannot tell whether events came back disabled with the copy of a replica", "error", err)
		return
	}
	if len(all) == 0 {
		return
	}
	const what, how = "events came back disabled with the copy of a replica, which does not know which of them ran", "enable each that has to run: ALTER EVENT … ENABLE"
	a.log.Warn(what, "events", all, "how", how)
	a.tell(true, what+": "+strings.Join(all, ", ")+"; "+how)
}
