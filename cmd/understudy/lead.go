package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"understudy/clone"
	"understudy/clone/volume"
	"understudy/clone/wire"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate"
	"understudy/replicate/failover"
	"understudy/replicate/lead"
)

// byLease makes the agent of a set whose primary the Lease names, and the controller beside it.
func (s *sidecar) byLease(cfg *replicate.Config) (err error) {
	if s.terms == nil {
		return nil
	}
	cfg.Primary, cfg.Process = false, replicate.NewProcess()
	if cfg.Data, err = s.Volume.DataID(); err != nil {
		return err
	}
	s.hand = replicate.NewHand(*cfg)
	flags := &s.sidecarVerb.lead
	var fenced lead.Fence
	if flags.fence == fenceRun {
		fenced = member.NewFence(s.runSocket)
	}
	s.lead = lead.New(lead.Config{
		Name: s.Name, Ordinal: s.Ordinal, First: s.IsFirst(), Before: s.NameOf(s.First), Flavor: s.Flavor, Mode: failover.Mode(s.sync.mode), Timings: flags.timings, Drain: flags.drain, MaxLag: flags.maxLag,
		Lease: member.NewLease(s.terms), Server: s.hand, Members: s.Leads(flags.timings.Report), Fence: fenced, Store: s.TermStore(),
		MayBegin: func() bool { return s.agent.Status().Action.Step == replicate.AwaitTerm },
		HostOf:   s.HostOfMember,
		Barred:   s.mayNotLead,
		Paused:   func() string { return s.record.Standing().Paused },
		Opened:   s.LeadOpened,
		Clones:   s.gives,
		Tell:     s.Kube.Event,
		Log:      s.Log,
	})
	cfg.Leading = s.Leading(s.lead)
	s.run.Stopping = func(ctx context.Context) { s.endLead(ctx, "understudy run was told to stop") }
	return nil
}

// cloned notes how a clone ended.
func (s *sidecar) cloned(o wire.Outcome) {
	s.health.Cloned(o)
	if _, ok := s.OrdinalOf(o.Member); !ok {
		return
	}
	switch {
	case o.Err == nil:
		s.given.Add(1)
	case errors.Is(o.Err, clone.ErrCommitBlock):
		s.heldOff.Add(1)
	}
}

// gives are the clones that the member gives to other members.
func (s *sidecar) gives() lead.Clones {
	all := lead.Clones{Given: int(s.given.Load()), HeldOff: int(s.heldOff.Load())}
	for _, g := range s.clones.Giving() {
		if _, ok := s.OrdinalOf(g.Joiner); ok { // for understudy clone-from nobody waits
			age := time.Duration(g.Seconds * float64(time.Second))
			all.Giving = append(all.Giving, lead.Clone{Stream: g.Stream, Age: age, Bytes: g.Bytes, Awaited: g.Awaited && g.Connected})
		}
	}
	return all
}

// endLead returns when the member's server may end: a leader has given the Lease away by then.
func (s *sidecar) endLead(ctx context.Context, why string) {
	if s.lead == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.sidecarVerb.lead.drain+lead.EndPatience)
	defer cancel()
	if err := s.lead.End(ctx, why); err != nil {
		s.Log.Warn("the server is about to end", "end", why, "error", err)
	}
}

// runLead works until ctx ends, or for as long after that as a leader needs whose pod ends: not every
// pod ends its sidecar last.
func (s *sidecar) runLead(ctx context.Context) {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		defer stop()
		if s.Kube.BeingDeleted(working) {
			s.endLead(working, podEnds)
		}
	})()
	s.lead.Run(working)
}

// podEnds is why a leader's server ends whose pod is being deleted.
const podEnds = "its pod is being deleted"

// mayNotLead says why the member may not lead, of what the Lease and its history do not tell.
func (s *sidecar) mayNotLead() string {
	switch status := s.agent.Status(); {
	case s.sidecarVerb.lead.never:
		return "it never leads: --never-lead"
	case status.Paused != "":
		return status.Paused
	case s.record.Phase() != volume.Attached:
		return "it is not attached yet"
	case len(status.Facts.Mismatches) > 0:
		return "safety options did not take"
	}
	return ""
}

// describe is what the member says of itself.
func (s *sidecar) describe() wire.Member {
	said := s.Describe(s.record, s.agent.Status())
	if s.lead != nil {
		said.Lead = s.DescribeLead(s.lead.Status())
		said.Trouble = cmp.Or(said.Trouble, said.Lead.Note)
	}
	return said
}

// note is the problem of the pods, and of who leads.
func (s *sidecar) note() string {
	var all []string
	if text := s.Kube.Note(); text != "" {
		all = append(all, text)
	}
	if s.lead != nil {
		if text := s.lead.Status().Note(s.Name); text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

// answerLead is nil where the first ordinal is the primary.
func (s *sidecar) answerLead() http.Handler {
	if s.lead == nil {
		return nil
	}
	return member.AnswerLead(s.lead)
}

func (s *sidecar) closeHand() error {
	if s.hand == nil {
		return nil
	}
	return s.hand.Close()
}
