package replicate

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"understudy/replicate/flavor"
)

// eventsMustStop says that events run that could write where they must not.
func eventsMustStop(s Standing, f Facts) bool {
	return f.EventsOn && (!s.Primary || f.Version.Flavor == flavor.MariaDB && !f.Opened)
}

// lookAtEvents finds out whether the event scheduler has to be started: on MariaDB it is off at the
// start of every server, and a primary that is open gets what was wished for.
func (a *Agent) lookAtEvents(ctx context.Context, d dialect, s Standing, f *Facts) error {
	if eventsMustStop(s, *f) {
		f.EventsTrouble = a.eventsTrouble(ctx)
		return nil
	}
	if !s.Primary || f.Version.Flavor != flavor.MariaDB || !f.Opened || f.EventsOn {
		return nil
	}
	if f.EventsDue = a.scheduler.stopped; !f.EventsDue && a.cfg.Events != nil && a.cfg.Events() {
		o, err := readOrigin(ctx, a.logins.db, d, variableEvents)
		if err != nil {
			return err
		}
		f.EventsDue = !o.statement // otherwise somebody has stopped it
	}
	if f.EventsDue {
		f.EventsTrouble = a.eventsTrouble(ctx)
	}
	return nil
}

// scheduler is what the agent remembers of the server's event scheduler.
type scheduler struct {
	// stopped says that it ran when the server started, and was stopped before the primary was
	// open: somebody wishes for it.
	stopped bool
	// refusal is why the administrator may not start and stop it, at is when that was found out.
	refusal string
	at      time.Time
}

// eventsTrouble is why the event scheduler cannot be started or stopped; empty where it can.
func (a *Agent) eventsTrouble(ctx context.Context) string {
	if a.scheduler.refusal != "" && time.Since(a.scheduler.at) < distrustFor {
		return a.scheduler.refusal
	}
	if admin := a.logins.askAdministrator(ctx); admin.err != nil {
		return admin.err.Error()
	}
	return ""
}

// switchEvents starts or stops the event scheduler.
func (a *Agent) switchEvents(ctx context.Context, s Standing, step Step) error {
	statements := eventsOff
	if step == StartEvents {
		statements = eventsOn
	}
	err := a.logins.asAdministrator(ctx, statements)
	switch {
	case err == nil:
		a.scheduler = scheduler{stopped: step == StopEvents && s.Primary}
	case lacksPrivilege(err):
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
