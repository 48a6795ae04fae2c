package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// parts are what a joiner does from an empty volume until it replicates. Those of init end with a
// line of its log.
var parts = []struct{ name, ends string }{
	{"the donor is found, and begins", "clone started"},
	{"transfer", "clone received"},
	{"prepare", "clone prepared"},
	{"publish", "clone published"},
	{"init ends", ""},
	{"the server answers", ""},
	{"it replicates", ""},
}

// awaitJoins has a second member join as often as each variant runs, and says how long each part took.
func (b *bench) awaitJoins(ctx context.Context) (all [][]time.Duration, err error) {
	d, err := b.sidecar()(ctx)
	if d.stop != nil {
		defer func() { err = errors.Join(err, d.stop(context.WithoutCancel(ctx))) }()
	}
	for i := 0; err == nil && i < b.runs; i++ {
		var took []time.Duration
		took, err = b.join(ctx)
		all = append(all, took)
		fmt.Printf("round %d of %d: %-42s %6.2f s\n", i+1, b.runs, "an empty volume becomes a replica", sum(took).Seconds())
	}
	return all, err
}

var errJoin = errors.New("the member did not join")

// join has the second member join, and removes it.
func (b *bench) join(ctx context.Context) (took []time.Duration, err error) {
	m := b.set.Member(1)
	defer func() {
		err = errors.Join(err, m.StopSidecar(context.WithoutCancel(ctx)))
		m.KillServer()
		err = errors.Join(err, os.RemoveAll(m.Dir))
	}()
	at := []time.Time{time.Now()}
	r, err := m.Init(ctx, nil)
	ended := time.Now()
	if err != nil {
		return nil, err
	}
	if r.Code != 0 {
		return nil, fmt.Errorf("%w: init ended with %d: %s", errJoin, r.Code, r.LastLine())
	}
	for _, p := range parts {
		if p.ends == "" {
			break
		}
		said := saidAt(r.Stderr, p.ends)
		if said.IsZero() {
			return nil, fmt.Errorf("%w: init's log does not say %q", errJoin, p.ends)
		}
		at = append(at, said)
	}
	if err := errors.Join(m.StartSidecar("--interval=2s"), m.StartServer(ctx)); err != nil {
		return nil, err
	}
	answers := time.Now()
	if err := m.AwaitReady(ctx); err != nil {
		return nil, err
	}
	at = append(at, ended, answers, time.Now())
	for i := range parts {
		took = append(took, at[i+1].Sub(at[i]))
	}
	return took, nil
}

// saidAt is when a line was logged; zero: it was not.
func saidAt(log, message string) time.Time {
	for text := range strings.Lines(log) {
		var line struct {
			Time time.Time `json:"time"`
			Msg  string    `json:"msg"`
		}
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == message {
			return line.Time
		}
	}
	return time.Time{}
}

func sum(all []time.Duration) (total time.Duration) {
	for _, d := range all {
		total += d
	}
	return total
}

// joined writes the medians of the parts.
func (r *report) joined() {
	_, _ = r.WriteString("\n| from an empty volume to a replica | s |\n|---|---|\n")
	middle := func(f func([]time.Duration) time.Duration) float64 {
		var values []time.Duration
		for _, took := range r.joins {
			values = append(values, f(took))
		}
		slices.Sort(values)
		return values[len(values)/2].Seconds()
	}
	for i, p := range parts {
		fmt.Fprintf(r, "| %s | %.2f |\n", p.name, middle(func(took []time.Duration) time.Duration { return took[i] }))
	}
	fmt.Fprintf(r, "| all of it | %.2f |\n", middle(sum))
}
