package replicate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"understudy/replicate/gtid"
)

// errNotApplied is returned by Fetch while relay logs hold what is not executed.
var errNotApplied = errors.New("the server has not executed all that it has received")

// Fetch implements lead.Server.
func (h *Hand) Fetch(ctx context.Context, host string) error {
	d, err := h.dialect(ctx, h.hands)
	if err != nil {
		return err
	}
	p, err := readPasswords(h.password, h.previous)
	if err != nil {
		return fmt.Errorf("read the replication password: %w", err)
	}
	s, err := h.look(ctx)
	switch {
	case err != nil:
		return err
	case s.Executed != s.Has: // a change of the source may drop relay logs
		return errNotApplied
	case s.Writable:
		return errors.New("the server is open for writes")
	}
	// By the account that all members share: a member that has not led has no other one.
	source := h.source.at(host)
	source.Password = p.current
	all := []statement{{text: d.stopReceiver}}
	if s.Side {
		all = append(all, d.sideStatements(false, false)...)
	}
	if s.Fetches {
		all = append(all, endFetchStatements()...)
	}
	switch {
	case s.Channel && s.Applier != "" && d.movesStopped:
		err := exec(ctx, h.hands, append(slices.Clone(all), d.fetchStatements(source)...))
		if !isOneOf(err, errSameSource) {
			return err
		}
		// It followed that member, which led last: with its report no receipt counts.
		all = append(all, d.repointStatements(source)...)
	case s.Channel && s.Applier != "":
		// Its applier goes on, and so its receipt stays: it may be named, and this election may fail.
		all = append(all, d.moveStatements(source)...)
	case !s.Channel && d.resume != "": // it led last: where it followed from is less than what it has
		has, err := gtid.Parse(d.flavor, s.Executed)
		if err != nil {
			return err
		}
		all = append(append(all, statement{d.resume, []any{has.String()}}), d.repointStatements(source)...)
	default:
		all = append(all, d.repointStatements(source)...)
	}
	return exec(ctx, h.hands, all)
}

// EndFetch implements lead.Server.
func (h *Hand) EndFetch(ctx context.Context) error {
	// The receiver of the first channel would go on from before what has been fetched, if its applier
	// were not stopped, too.
	return h.change(ctx, func(d dialect) []statement { return append(endFetchStatements(), statement{text: d.stop}) })
}
