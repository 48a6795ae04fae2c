package replicate

import (
	"fmt"
	"time"
)

const (
	// uselessTimes is how often a step is done within uselessWithin, while there is always something
	// else to do in between, before it is said that it is of no use.
	uselessTimes  = 10
	uselessWithin = 10 * time.Minute
	// futileAfter is for how long a step may fail before manual action is required.
	futileAfter = 30 * time.Second
)

// Futile is a step that has not led on. The zero value is none.
type Futile struct {
	Step Step
	// Why says what came of it, Since is since when.
	Why   string
	Since time.Time
}

// effort is what the agent remembers of the steps that it has taken since it had nothing to do.
type effort struct {
	failed Futile
	// tried is when it failed last.
	tried time.Time
	done  map[Step]*count
}

type count struct {
	times       int
	since, last time.Time
}

// fails notes that a step has failed, and reports whether that is news.
func (e *effort) fails(step Step, err error, now time.Time) (news bool) {
	why := "it was tried, and failed: " + err.Error()
	news = e.failed.Why != why || e.failed.Step != step
	if e.failed.Step != step || now.Sub(e.tried) > uselessWithin {
		e.failed = Futile{Step: step, Since: now}
	}
	e.failed.Why, e.tried = why, now
	return news
}

// succeeds notes that a step was done.
func (e *effort) succeeds(step Step, now time.Time) {
	e.failed = Futile{}
	if e.done == nil {
		e.done = map[Step]*count{}
	}
	c := e.done[step]
	if c == nil || c.times < uselessTimes && now.Sub(c.since) > uselessWithin || now.Sub(c.last) > uselessWithin {
		c = &count{since: now}
		e.done[step] = c
	}
	c.times, c.last = c.times+1, now
}

// rests notes that there is nothing to do.
func (e *effort) rests() { *e = effort{} }

// useless says that a step was done again and again, and is due again.
func (e *effort) useless(step Step, now time.Time) bool {
	c := e.done[step]
	return c != nil && c.times >= uselessTimes && now.Sub(c.last) <= uselessWithin
}

// futile is what is known against the step that is due.
func (e *effort) futile(step Step, now time.Time) Futile {
	switch {
	case e.failed.Step == step && now.Sub(e.tried) <= uselessWithin:
		return e.failed
	case e.useless(step, now):
		c := e.done[step]
		return Futile{Step: step, Why: fmt.Sprintf("it was done %d times and more since %s, and has to be done again: something undoes it", uselessTimes, stamp(c.since)), Since: c.since}
	}
	return Futile{}
}

// beside is the action, with what is known against it.
func (a Action) beside(f Futile) Action {
	if f.Why != "" {
		a.Reason += "; " + f.Why
	}
	return a
}
