package main

import (
	"net/http"

	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
	"understudy/replicate"
	"understudy/replicate/failover"
	"understudy/replicate/lead"
)

// byLease makes the agent of a set whose primary the Lease names, and the controller beside it.
func (s *sidecar) byLease(cfg *replicate.Config) {
	if s.terms == nil {
		return
	}
	cfg.Primary, cfg.Process = false, replicate.NewProcess()
	s.hand = replicate.NewHand(*cfg)
	flags := &s.sidecarVerb.lead
	var fenced lead.Fence
	if flags.fence == fenceRun {
		fenced = member.NewFence(s.runSocket)
	}
	s.lead = lead.New(lead.Config{
		Name: s.Name, Ordinal: s.Ordinal, First: s.IsFirst(), Before: s.NameOf(s.First), Flavor: s.Flavor, Mode: failover.Mode(s.sync.mode), Timings: flags.timings,
		Lease: member.NewLease(s.terms), Server: s.hand, Members: s.Leads(flags.timings.Report), Fence: fenced, Store: s.TermStore(),
		MayBegin: func() bool { return s.agent.Status().Action.Step == replicate.AwaitTerm },
		Barred:   s.mayNotLead,
		Opened:   s.LeadOpened,
		Tell: func(failed bool, text string) {
			s.Kube.Event(failed, member.ReasonReplication, text)
		},
		Log: s.Log,
	})
	cfg.Leading = s.Leading(s.lead)
}

// mayNotLead says why the member may not lead, of what the Lease and its history do not tell.
func (s *sidecar) mayNotLead() string {
	switch status := s.agent.Status(); {
	case status.Paused != "":
		return status.Paused
	case s.record.Phase() != volume.Attached:
		return "it is not attached yet"
	case len(status.Facts.Mismatches) > 0:
		return "safety options did not take"
	}
	return ""
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
