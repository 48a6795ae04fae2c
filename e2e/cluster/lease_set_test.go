package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the rows of a set look at whose primary the Lease names.

// record is what these rows read of the Lease's annotation understudy/term.
type record struct {
	Term          uint64
	Phase, Holder string
	Acknowledgers []struct{ Member string }
}

// primary is the member that clients write to: the one whose pod is labelled as the primary, once it
// is the only one. Without the Lease it is the first ordinal.
func (s *set) primary(ctx context.Context, t *testing.T) string {
	t.Helper()
	if !s.lease {
		return name(0)
	}
	var found string
	check(t, s.wait(ctx, "one pod labelled as the primary", func(ctx context.Context) error {
		out, err := s.Kubectl(ctx, "get", "pods", "-l", "app=db,understudy/role=primary", "-o", "jsonpath={.items[*].metadata.name}")
		if all := strings.Fields(out); err == nil && len(all) != 1 {
			err = fmt.Errorf("labelled as the primary: %q", all)
		}
		found = out
		return err
	}))
	return found
}

// term is the Lease's record.
func (s *set) term(ctx context.Context, t *testing.T) record {
	t.Helper()
	r, err := s.readTerm(ctx)
	check(t, err)
	return r
}

func (s *set) readTerm(ctx context.Context) (r record, err error) {
	out, err := s.Kubectl(ctx, "get", "lease", "db", "-o", `jsonpath={.metadata.annotations.understudy/term}`)
	if err == nil && out != "" {
		err = json.Unmarshal([]byte(out), &r)
	}
	return r, err
}

// settled waits until status finds nothing wrong, which is that an election would find a leader, and
// two replicas acknowledge. The Lease, the label, status and the servers name the same leader.
func (s *set) settled(ctx context.Context, t *testing.T) {
	t.Helper()
	s.statusSays(ctx, t, "failover: possible")
	check(t, s.wait(ctx, "two acknowledgers", func(ctx context.Context) error {
		r, err := s.readTerm(ctx)
		if err == nil && len(r.Acknowledgers) != members-1 {
			err = fmt.Errorf("the Lease says %+v", r)
		}
		return err
	}))
	leader, r := s.primary(ctx, t), s.term(ctx, t)
	if r.Phase != "opened" || r.Holder != leader {
		t.Errorf("%s is labelled as the primary, and the Lease says %+v", leader, r)
	}
	s.statusSays(ctx, t, fmt.Sprintf("leader: %s, term %d;", leader, r.Term))
	if out := s.sql(ctx, t, leader, "SELECT "+s.readOnly); out != "0" {
		t.Errorf("%s leads, and is read-only", leader)
	}
	if out, err := s.served(ctx); err != nil || out != leader {
		t.Errorf("the Service for writes leads to %q, not to %s (%v)", out, leader, err)
	}
}

// served are the pods to which the Service for writes leads.
func (s *set) served(ctx context.Context) (string, error) {
	return s.Kubectl(ctx, "get", "endpoints", "mysql-primary", "-o", `jsonpath={.subsets[*].addresses[*].targetRef.name}`)
}

// statusSays waits until understudy status ends well, and says all that.
func (s *set) statusSays(ctx context.Context, t *testing.T, what ...string) {
	t.Helper()
	check(t, s.wait(ctx, "status to end well", func(ctx context.Context) error {
		out, err := s.Exec(ctx, name(members-1), "sidecar", "understudy", "status")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		for _, w := range what {
			if !strings.Contains(out, w) {
				return fmt.Errorf("it does not say %q:\n%s", w, out)
			}
		}
		return nil
	}))
}

// other is the member that is no leader and has the lowest ordinal.
func other(leader string) string {
	if leader == name(0) {
		return name(1)
	}
	return name(0)
}

func ordinalIn(t *testing.T, pod string) int {
	t.Helper()
	n, err := strconv.Atoi(pod[strings.LastIndex(pod, "-")+1:])
	check(t, err)
	return n
}

// watch notes where the writer is. The function that it returns waits until it writes again, prints
// for how long it had no acknowledgement, and returns how many of its writes have failed.
func (s *set) watch(ctx context.Context, t *testing.T) (ended func(what string) (failed int)) {
	t.Helper()
	times, failures := s.moments(ctx, t)
	return func(what string) int {
		s.progress(ctx, t)
		s.progress(ctx, t) // the first one may have been under way
		now, failed := s.moments(ctx, t)
		var away time.Duration
		for i := max(1, len(times)); i < len(now); i++ {
			away = max(away, now[i].Sub(now[i-1]))
		}
		line := fmt.Sprintf("%s: writes through the Service were away for %.1f s, %d failed", what, away.Seconds(), len(failed)-len(failures))
		t.Log(line)
		for _, f := range failed[len(failures):] {
			t.Log("a write that failed: " + f)
		}
		fmt.Println("e2e-cluster: " + line)
		return len(failed) - len(failures)
	}
}

// moments are when the writer's commits were acknowledged, and which of its writes have failed.
func (s *set) moments(ctx context.Context, t *testing.T) (acknowledged []time.Time, failed []string) {
	t.Helper()
	out, err := s.Exec(ctx, "writer", "main", "sh", "-c", "cat /tmp/times; echo; cat /tmp/failed 2>/dev/null || true")
	check(t, err)
	times, failures, _ := strings.Cut(out, "\n\n")
	for field := range strings.FieldsSeq(times) {
		seconds, micros, _ := strings.Cut(field, ".")
		at, err := strconv.ParseInt(seconds+micros, 10, 64)
		check(t, err)
		acknowledged = append(acknowledged, time.UnixMicro(at))
	}
	return acknowledged, slices.DeleteFunc(strings.Split(failures, "\n"), func(line string) bool { return line == "" })
}

// handedOver checks that the leader has changed by so many terms, and that another one leads, and
// returns its name.
func (s *set) handedOver(ctx context.Context, t *testing.T, before record, terms uint64) string {
	t.Helper()
	leader, now := s.primary(ctx, t), s.term(ctx, t)
	if now.Term != before.Term+terms || leader == before.Holder || now.Holder != leader {
		t.Errorf("%s led term %d; %d terms later should lead another; the Lease says %+v, the label %s", before.Holder, before.Term, terms, now, leader)
	}
	return leader
}

// killServer kills a member's server, and not understudy run, which is the first process.
func (s *set) killServer(ctx context.Context, t *testing.T, pod string) {
	t.Helper()
	const script = `for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in mysqld|mariadbd) kill -9 ${p#/proc/}; n=1;; esac; done; [ "$n" ]`
	_, err := s.Exec(ctx, pod, "server", "sh", "-c", script)
	check(t, err)
}
