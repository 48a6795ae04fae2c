package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"understudy/clone/volume"
	"understudy/cmd/understudy/internal/member"
	"understudy/k8s"
	"understudy/replicate/failover"
	"understudy/replicate/retry"
)

// ledLast is the term that a member has opened, if none was opened since; 0: another one led later,
// or it never led. The Lease knows; without one (terms is nil) the volume does, as far as it has
// seen.
func ledLast(ctx context.Context, member string, terms *k8s.Terms, remembered volume.Term) (uint64, error) {
	if terms == nil {
		if remembered.Opened < remembered.Seen {
			return 0, nil
		}
		return remembered.Opened, nil
	}
	seen, err := terms.Read(ctx)
	if err != nil {
		return 0, err
	}
	if seen.Record() == "" {
		return remembered.Opened, nil // the Lease was lost
	}
	r, err := failover.Decode(seen.Record())
	if err != nil {
		return 0, fmt.Errorf("read the Lease: %w", err)
	}
	if r.Last.Member == member {
		return r.Last.Term, nil
	}
	return 0, nil
}

// led says that the set's Lease has a term record: then the first ordinal is a member like any other,
// and what members have beyond its own is no errant transaction. Asked of an empty volume; it asks
// until Kubernetes answers or --wait is over.
func (v *initVerb) led(ctx context.Context, m *member.Member) (bool, error) {
	if !v.lead.byLease() {
		return false, nil
	}
	terms, err := v.kube.terms(m.Identity, stateTimeout, m.Log)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, v.wait)
	defer cancel()
	quiet := func(err error, _ time.Duration) {
		m.Log.Warn("waiting for Kubernetes to say whether the Lease names a leader", "reason", err)
	}
	found := false
	err = retry.Do(ctx, retry.Policy{Max: 10 * time.Second, Notify: quiet}, func(ctx context.Context) error {
		seen, err := terms.Read(ctx)
		if errors.Is(err, k8s.ErrForbidden) || errors.Is(err, k8s.ErrNoLease) {
			return retry.Permanent(err)
		}
		found = err == nil && seen.Record() != ""
		return err
	})
	return found, err
}
