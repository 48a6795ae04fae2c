package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/clone/volume"
	"understudy/replicate/failover"
)

// endTimeout bounds each request about the record of a set that may have gone by its Lease.
const endTimeout = 1500 * time.Millisecond

// endTerms has the Lease say that the first ordinal is the primary again, where the set had gone by
// the Lease: then no member elects a leader by what it says. The error says why the first ordinal must
// not open. Where the volume has seen no term, or that they have ended, a Lease that cannot be read or
// written is no reason.
func (s *sidecar) endTerms(ctx context.Context) error {
	if s.terms != nil || !s.Kube.Present() { // by the Lease, or without one
		return nil
	}
	memory, err := s.Volume.ReadTerm()
	if err != nil {
		return err
	}
	kept, err := decodeRecord(memory.Record)
	if err != nil {
		return err
	}
	err = s.endTerm(ctx, memory, kept)
	if err != nil && !errors.Is(err, errLed) && (memory.Seen == 0 || kept.Ended() && kept.Term >= memory.Seen) {
		s.Log.Warn("whether the Lease names a leader is not known", "error", err)
		return nil
	}
	return err
}

// errLed is returned where the Lease does not let the first ordinal open.
var errLed = errors.New("the first ordinal does not open by its ordinal")

func (s *sidecar) endTerm(ctx context.Context, memory volume.Term, kept *failover.Record) error {
	terms, err := s.kube.terms(s.Identity, endTimeout, s.Log)
	if err != nil {
		return err
	}
	seen, err := terms.Read(ctx)
	if err != nil {
		return err
	}
	record, err := decodeRecord(seen.Record())
	if err != nil {
		return fmt.Errorf("%w: %w", errLed, err)
	}
	remembers := failover.Volume{Seen: memory.Seen}
	if kept != nil {
		remembers.Naming = kept.Naming
	}
	next, why := failover.End(s.Name, record, remembers, kept)
	switch {
	case why != "":
		return fmt.Errorf("%w: %s", errLed, why)
	case next == nil && record.Ended():
		return s.rememberEnd(memory, *record, seen.Record())
	case next == nil:
		return nil
	}
	text, err := next.Encode()
	if err != nil {
		return err
	}
	if _, err := terms.Write(ctx, seen, text, ""); err != nil {
		return fmt.Errorf("end term %d: %w", next.Term, err)
	}
	s.Log.Info("the Lease says that the first ordinal is the primary again", "term", next.Term)
	return s.rememberEnd(memory, *next, text)
}

// rememberEnd keeps the record that has ended on the volume.
func (s *sidecar) rememberEnd(memory volume.Term, ended failover.Record, text string) error {
	if memory.Record == text {
		return nil
	}
	memory.Seen, memory.Record = max(memory.Seen, ended.Term), text
	memory.Follows, memory.For = 0, 0
	return s.Volume.WriteTerm(memory)
}

// decodeRecord is nil for no text.
func decodeRecord(text string) (*failover.Record, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // documented
	}
	r, err := failover.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("read the Lease's record of terms: %w", err)
	}
	return &r, nil
}
