package lead

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// Scheduler is what a Server can do, beside all else, about scheduled events. MySQL disables each
// event that comes by replication, whether it ran or not: the leader tells the members which run, and
// the next leader enables these.
type Scheduler interface {
	// Events are the enabled ones.
	Events(ctx context.Context) ([]string, error)
	// Wake enables those of the events that are disabled because they came by replication, and returns
	// those that it leaves so. The server is open for writes.
	Wake(ctx context.Context, events []string) (left []string, err error)
}

const (
	// eventsEvery is the time between two looks at a leader's events.
	eventsEvery = 2 * time.Second
	// maxEvents bounds what is told of them, in bytes.
	maxEvents = 16 << 10
)

var errTooManyEvents = errors.New("their names are too long together")

// schedule has the events run that ran on the leader before, and tells the members which run here.
func (c *Controller) schedule(ctx context.Context) {
	w, _ := c.Server.(watched)
	s, ok := w.Server.(Scheduler)
	l := c.work
	if !ok || fence.Now() < l.scheduleAt {
		return
	}
	if !l.woken && !c.flows() {
		return
	}
	l.scheduleAt = fence.Now() + eventsEvery
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if !l.woken {
		var meant []string
		if text := c.remembered().Events; text != "" {
			if err := json.Unmarshal([]byte(text), &meant); err != nil {
				c.Log.Error("manual action required", "reason", "which events ran is not known: the volume's memory of them cannot be read: "+err.Error())
			}
		}
		left, err := s.Wake(ctx, meant)
		if w.failed(err) != nil {
			c.Log.Warn("events are not enabled yet", "error", err)
			return
		}
		l.woken = true
		if len(left) > 0 {
			c.Log.Warn("events came disabled by replication, and were not seen to run on the leader before", "events", left, "how", "enable each that has to run: ALTER EVENT … ENABLE")
		}
	}
	events, err := s.Events(ctx)
	if err == nil {
		err = c.tellEvents(events)
	}
	if err != nil {
		c.Log.Warn("the members are not told which events run", "error", err)
	}
}

// flows says that a commit would not wait for long: an acknowledger is there, or it waits for none. To
// enable an event is one, and all else that the leader does would wait with it.
func (c *Controller) flows() bool {
	r := c.line.view().record
	state, fresh := c.seen()
	if r == nil || !fresh {
		return false
	}
	return !state.Waiting || slices.ContainsFunc(r.Acknowledgers, func(a failover.Acknowledger) bool {
		said, ok := c.answer(a.Member)
		return ok && said.Receipt == a.Receipt && said.acknowledges()
	})
}

// tellEvents has the members hear of the events with the next question, and remembers them.
func (c *Controller) tellEvents(events []string) error {
	if events == nil {
		events = []string{} // none: not unknown
	}
	text, err := json.Marshal(events)
	if err != nil {
		return err
	}
	if len(text) > maxEvents {
		return errTooManyEvents
	}
	c.mu.Lock()
	c.events = string(text)
	c.mu.Unlock()
	return c.remember(func(m *Memory) { m.Events = string(text) })
}

// hear notes what the leader tells with its questions.
func (c *Controller) hear(q Ask) {
	r := c.line.view().record
	if r == nil || r.Phase != failover.Opened || r.Holder != q.From || r.Term != q.Term {
		return
	}
	c.hearPosition(q)
	var events []string
	if q.Events == "" || len(q.Events) > maxEvents || json.Unmarshal([]byte(q.Events), &events) != nil {
		return
	}
	if err := c.remember(func(m *Memory) { m.Events = q.Events }); err != nil {
		c.Log.Warn("which events run on the leader is not remembered", "error", err)
	}
}
