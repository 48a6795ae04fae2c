package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// wrongFromTheBeginning makes another set, whose first server cannot start, and corrects it: by
// "apply" alone nothing moves, for the rolling update waits for its last member, and that for the
// first. The members say so, and what to do. The set has a name and a port of its own, which all
// that names them follows.
func wrongFromTheBeginning(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	own := *s.Cluster
	own.Namespace = "wrong"
	w := &set{Cluster: &own, flavour: s.flavour}
	defer func() {
		if t.Failed() {
			own.Dump(ctx, t)
		}
		_, err := own.Kubectl(ctx, "delete", "namespace", own.Namespace, "--ignore-not-found", "--wait=false")
		check(t, err)
	}()
	_, err := w.Kubectl(ctx, "create", "namespace", own.Namespace)
	check(t, err)
	w.secret(ctx, t)
	check(t, w.AddVolumes(ctx, "wrong-0", "wrong-1"))
	const first, last = "my-db-0", "my-db-1"

	check(t, w.Apply(ctx, "testdata/wrong"))
	check(t, w.wait(ctx, "an Event with the server's last words", func(ctx context.Context) error {
		events, err := w.Events(ctx, first)
		for _, e := range events {
			if e.Source == "understudy" && strings.Contains(e.Message, "max_conections=500") {
				t.Logf("%s %s: %s", e.Type, e.Reason, e.Message)
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("%d Events of %s do not name the option", len(events), first))
	}))
	old := w.uid(ctx, t, last)
	check(t, w.Apply(ctx, "testdata/corrected"))
	w.gone(ctx, t, last, old)
	w.told(ctx, t, last, "WaitsForPrimary", "max_conections=500", "kubectl -n wrong delete pod "+first)

	old = w.uid(ctx, t, first)
	_, err = w.Kubectl(ctx, "delete", "pod", first, "--wait=false", "--grace-period=1")
	check(t, err)
	w.gone(ctx, t, first, old)
	for _, pod := range []string{first, last} {
		check(t, w.WaitPodReady(ctx, pod))
	}
	check(t, w.wait(ctx, "the services to lead to both", func(ctx context.Context) error {
		for service, pod := range map[string]string{"my-mysql-primary": first, "my-mysql-replicas": last} {
			const to = `jsonpath={.subsets[*].addresses[*].targetRef.name} {.subsets[*].ports[*].port}`
			if out, err := w.Kubectl(ctx, "get", "endpoints", service, "-o", to); err != nil || out != pod+" 3316" {
				return fmt.Errorf("%s leads to %q (%w)", service, out, err)
			}
		}
		return nil
	}))
}
