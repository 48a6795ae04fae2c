package lead

import (
	"context"
	"strconv"
	"strings"
	"time"

	"understudy/replicate/failover"
	"understudy/replicate/fence"
)

// forecast is what an election would come to, of a set that has had no leader for a while.
type forecast struct {
	// since is since when it has none.
	since time.Duration
	// answers are the members' last ones, whole says that all have been asked once, asking that they
	// are being asked, asked since when.
	answers map[string]heard
	whole   bool
	asking  bool
	asked   time.Duration
	// spent says that the answers have been enough, and that an election has been held because of that.
	spent bool
	says  string
}

func newForecast() *forecast { return &forecast{since: fence.Now(), answers: map[string]heard{}} }

// askEvery is the time between two questions to all members of a set without a leader.
const askEvery = time.Second

// foretell asks what an election would come to, where the set has had no leader for a while. enough
// is as in failover.Foretell, but once: then only after it was not so.
func (c *Controller) foretell(ctx context.Context, r failover.Record, memory Memory, state State) (enough bool) {
	c.mu.Lock()
	switch {
	case r.Led():
		c.forecast = nil
	case c.forecast == nil:
		c.forecast = newForecast()
	}
	f := c.forecast
	c.mu.Unlock()
	if f == nil || fence.Now()-f.since < c.Timings.Report {
		return false
	}
	reports := []failover.Report{c.describe(r.Term+1, memory, state)}
	c.mu.Lock()
	for _, h := range f.answers {
		if a := h.Answer; fence.Now()-h.at < told && a.Data != "" { // its server answers
			report := a.report()
			report.Term = r.Term + 1
			reports = append(reports, report)
		}
	}
	c.mu.Unlock()
	f, whole := c.askInTime(ctx, r)
	if !whole {
		return false
	}
	e, enough := failover.Foretell(r, c.Name, reports, c.MaxLag)
	c.mu.Lock()
	defer c.mu.Unlock()
	f.spent = f.spent && enough
	f.says = ""
	if e.Step != failover.Elect && e.Step != failover.Fetch {
		f.says = e.String()
	}
	return enough && !f.spent
}

// askInTime asks the members of a record what they are, when it is time. It does not wait for the
// answers.
func (c *Controller) askInTime(ctx context.Context, r failover.Record) (f *forecast, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forecast == nil {
		c.forecast = newForecast()
	}
	f = c.forecast
	if !f.asking && fence.Now()-f.asked >= askEvery {
		f.asking, f.asked = true, fence.Now()
		go c.askAll(ctx, f, r)
	}
	return f, f.whole
}

// foretold is why an election would not succeed now; empty: it would, or nobody has looked.
func (c *Controller) foretold() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forecast == nil {
		return ""
	}
	return c.forecast.says
}

// ordinalOf is the number at the end of a member's name.
func ordinalOf(member string) int {
	n, _ := strconv.Atoi(member[strings.LastIndexByte(member, '-')+1:]) // every member's name has one
	return n
}

// spend notes that an election is held because the answers are enough.
func (c *Controller) spend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.forecast != nil {
		c.forecast.spent = true
	}
}

func (c *Controller) askAll(ctx context.Context, f *forecast, r failover.Record) {
	c.askEach(ctx, others(r.Members, c.Name), keep(f.answers))
	c.mu.Lock()
	defer c.mu.Unlock()
	f.asking, f.whole = false, true
}
