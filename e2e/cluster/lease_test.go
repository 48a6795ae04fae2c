package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// onLease are the rows of a set whose primary the Lease names. What it has in common with one of the
// first ordinal was shown there.
var onLease = []scenario{
	{"first start of three", 30, leaseBegins},
	{"server of the leader killed", 8, leaderKilled},
	{"pod of the leader deleted", 25, leaderDeleted},
	{"switchover by kubectl exec", 5, switchedOver},
	{"rolling restart", 60, rollingRestartOfLease},
	{"the API server is away for 20 s", 35, apiServerAwayShortly},
	{"the leader is cut off from everybody", 30, leaderCutOff},
	{"the leader killed whole, and its node's kubelet dead", 45, kubeletDead},
	{"the leader killed whole, with its volume", 30, leaderLost},
	{"scale to 2 without the leader, to 3, to 0, to 3", 90, leaseScaled},
	{"all pods killed, and made in order, the leader's last", 60, madeInOrder},
	{"back to the first ordinal, and to the Lease again", 90, backAndAgain},
	{"a set of the first ordinal moves to the Lease", 120, movedToLease},
}

// leaseBegins: the first ordinal opens the first term, and the others follow and acknowledge.
func leaseBegins(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	begun := time.Now()
	check(t, s.Apply(ctx, s.overlay))
	s.ready(ctx, t, members)
	t.Logf("first start of three: %.1f s", time.Since(begun).Seconds())
	s.roles(ctx, t, members)
	if r := s.term(ctx, t); r.Term != 1 || r.Holder != "db-0" {
		t.Errorf("the Lease says %+v", r)
	}
	s.write(ctx, t)
	s.settled(ctx, t)
	s.told(ctx, t, "db-0", "Leads", "term 1,")
	s.told(ctx, t, "db-0", "AcknowledgerNamed", "db-1")
	s.told(ctx, t, "db-0", "AcknowledgerNamed", "db-2")
	s.told(ctx, t, "db-0", "RoleSet", "primary")
	s.told(ctx, t, "db-2", "RoleSet", "replica")
}

// leaderKilled: understudy run tells the sidecar, which gives the Lease away; the container stays.
func leaderKilled(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	restarts := s.restarts(ctx, t, before.Holder)
	s.killServer(ctx, t, before.Holder)
	ended("server of the leader killed")
	leader := s.handedOver(ctx, t, before, 1)
	s.told(ctx, t, before.Holder, "Resigned", fmt.Sprintf("term %d", before.Term))
	s.told(ctx, t, leader, "Leads", fmt.Sprintf("term %d,", before.Term+1))
	check(t, s.WaitPodReady(ctx, before.Holder))
	if now := s.restarts(ctx, t, before.Holder); now != restarts && !s.replaced(ctx, t, before.Holder) {
		t.Errorf("containers restarted: %s, before %s", now, restarts)
	}
}

// replaced says that a member had what nobody acknowledged, and was cloned anew.
func (s *set) replaced(ctx context.Context, t *testing.T, pod string) bool {
	t.Helper()
	events, err := s.Events(ctx, pod)
	check(t, err)
	for _, e := range events {
		if e.Reason == "Reseed" || e.Reason == "Evicted" {
			t.Logf("%s %s: %s", pod, e.Reason, e.Message)
			return true
		}
	}
	return false
}

// leaderDeleted: the hook gives the Lease away first, and the member comes back as a replica.
func leaderDeleted(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	took := s.replace(ctx, t, before.Holder)
	ended("pod of the leader deleted")
	t.Logf("%s deleted, replicating again: %.1f s", before.Holder, took.Seconds())
	leader := s.handedOver(ctx, t, before, 1)
	s.told(ctx, t, before.Holder, "SwitchedOver", fmt.Sprintf("%s leads term %d", leader, before.Term+1))
}

// switchedOver: to the first ordinal, which the next row begins with, or from it.
func switchedOver(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	to := other(before.Holder)
	out, err := s.Exec(ctx, "db-2", "sidecar", "understudy", "switchover", "--to="+to)
	check(t, err)
	if want := fmt.Sprintf("%s leads, in place of %s", to, before.Holder); out != want {
		t.Errorf("switchover says %q, not %q", out, want)
	}
	ended("switchover")
	s.handedOver(ctx, t, before, 1)
	s.told(ctx, t, before.Holder, "SwitchedOver", fmt.Sprintf("%s leads term %d", to, before.Term+1))
}

// leads has a member lead.
func (s *set) leads(ctx context.Context, t *testing.T, member string) {
	t.Helper()
	if s.term(ctx, t).Holder == member {
		return
	}
	_, err := s.Exec(ctx, "db-2", "sidecar", "understudy", "switchover", "--to="+member)
	check(t, err)
	s.settled(ctx, t)
}

// rollingRestartOfLease: the leader is the last to restart, and gives the Lease away once.
func rollingRestartOfLease(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.leads(ctx, t, "db-0")
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	rollingRestart(ctx, t, s)
	ended("rolling restart of three")
	s.handedOver(ctx, t, before, 1)
}

// apiServerAwayShortly: the members promise to follow, and no write fails.
func apiServerAwayShortly(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	const renewed = "jsonpath={.spec.renewTime}"
	last, err := s.Kubectl(ctx, "get", "lease", "db", "-o", renewed)
	check(t, err)
	check(t, s.StopAPIServer(ctx))
	away := time.NewTimer(20 * time.Second)
	defer away.Stop()
	select {
	case <-away.C:
	case <-ctx.Done():
	}
	check(t, s.StartAPIServerAlone(ctx))
	check(t, s.wait(ctx, "a renewal of the Lease", func(ctx context.Context) error {
		if now, err := s.Kubectl(ctx, "get", "lease", "db", "-o", renewed); err != nil || now == last {
			return fmt.Errorf("it was renewed at %s (%w)", now, err)
		}
		return nil
	}))
	if n := ended("the API server away for 20 s"); n > 0 {
		t.Errorf("%d writes failed", n)
	}
	check(t, s.restartClients(ctx)) // of the name server, too, which the writer asks
	if now := s.term(ctx, t); now.Term != before.Term || now.Holder != before.Holder {
		t.Errorf("the Lease says %+v, before %+v", now, before)
	}
}

// leaderCutOff: understudy run kills its server at its permission's end, and the others elect.
func leaderCutOff(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	check(t, s.Isolate(ctx, before.Holder))
	defer func() { check(t, s.Heal(context.WithoutCancel(ctx))) }()
	ended("the leader cut off from everybody")
	leader := s.handedOver(ctx, t, before, 1)
	s.told(ctx, t, leader, "Leads", fmt.Sprintf("term %d,", before.Term+1))
	check(t, s.Heal(ctx))
}

// kubeletDead: nobody starts the containers again, nor says that the pod is not ready. The others elect
// all the same, and the heir takes the label off the pod of the old leader.
func kubeletDead(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	pod := before.Holder
	check(t, s.StopKubelet(ctx))
	dead := true
	defer func() {
		if dead {
			check(t, s.StartKubelet(context.WithoutCancel(ctx)))
		}
	}()
	killWhole(ctx, t, s, pod)
	check(t, s.wait(ctx, "the Service to lead to an heir", func(ctx context.Context) error {
		out, err := s.served(ctx)
		if to := strings.Fields(out); err == nil && (len(to) != 1 || to[0] == pod) {
			err = fmt.Errorf("it leads to %q", out)
		}
		return err
	}))
	time.Sleep(5 * time.Second) // writes go on before the kubelet is back: the longest pause shows it
	dead = false
	check(t, s.StartKubelet(ctx))
	ended("the leader killed whole, and its node's kubelet dead")
	s.handedOver(ctx, t, before, 1)
	check(t, s.WaitPodReady(ctx, pod))
}

// killWhole kills the sidecar, understudy run, and with it the server.
func killWhole(ctx context.Context, t *testing.T, s *set, pod string) {
	t.Helper()
	check(t, s.KillInContainer(ctx, pod, "sidecar", "SIGKILL"))
	check(t, s.KillInContainer(ctx, pod, "server", "SIGKILL"))
}

// leaderLost: server, sidecar and understudy run are killed in one moment, and the volume is gone. The
// others elect, and the pod's successor is cloned from one of them, also where it is the first
// ordinal.
func leaderLost(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.leads(ctx, t, "db-0")
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	pod := before.Holder
	killWhole(ctx, t, s, pod)
	s.loseVolume(ctx, t, ordinalIn(t, pod), "--force", "--grace-period=0")
	ended("the leader killed whole, with its volume")
	s.handedOver(ctx, t, before, 1)
	check(t, s.WaitPodReady(ctx, pod))
	log, err := s.Logs(ctx, pod, "init")
	if check(t, err); !strings.Contains(log, `"msg":"clone published"`) {
		t.Errorf("%s was not cloned:\n%s", pod, log)
	}
}

// leaseScaled: a leader whose pod is scaled away gives the Lease away. A set of none comes back, whoever
// was the last to lead.
func leaseScaled(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.leads(ctx, t, "db-2")
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	s.scale(ctx, t, 3, 2)
	ended("scaled down by the leader's ordinal")
	s.handedOver(ctx, t, before, 1)
	s.scale(ctx, t, 2, 3)
	s.settled(ctx, t)

	before = s.term(ctx, t)
	s.scale(ctx, t, 3, 0)
	none := s.term(ctx, t)
	s.scale(ctx, t, 0, 3)
	now := s.term(ctx, t)
	t.Logf("before %+v, with no pods %+v, and now %+v", before, none, now)
	if leader := s.primary(ctx, t); leader != now.Holder || now.Phase != "opened" || leader != before.Holder && now.Term <= before.Term {
		t.Errorf("%s leads, after %+v", leader, before)
	}
}

// madeInOrder: of a StatefulSet with the policy OrderedReady the first pods are ready without a leader,
// or that of the leader would never be made.
func madeInOrder(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.leads(ctx, t, "db-2")
	before := s.term(ctx, t)
	s.ends(ctx, t, func() {
		s.disown(ctx, t)
		_, err := s.Kubectl(ctx, "delete", "pod", "db-0", "db-1", "db-2", "--force", "--grace-period=0")
		check(t, err)
	})
	last := s.term(ctx, t)
	s.applyWith(ctx, t, "OrderedReady")
	s.ready(ctx, t, members)
	s.settled(ctx, t)
	if now := s.term(ctx, t); last.Holder == before.Holder && last.Phase == "opened" {
		s.told(ctx, t, "db-0", "PodMissing", "OrderedReady")
	} else {
		t.Logf("%s led, the pods' end left %+v, and now it is %+v", before.Holder, last, now)
	}
	s.disown(ctx, t)
	s.applyWith(ctx, t, "Parallel")
}

// disown deletes the StatefulSet, and leaves its pods.
func (s *set) disown(ctx context.Context, t *testing.T) {
	t.Helper()
	_, err := s.Kubectl(ctx, "delete", "statefulset", "db", "--cascade=orphan", "--wait=true")
	check(t, err)
}

// backAndAgain: the first ordinal ends the record before it opens by its ordinal, and begins the next
// term when all go by the Lease again, as docs/install.md says.
func backAndAgain(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.leads(ctx, t, "db-0")
	before, ended := s.term(ctx, t), s.watch(ctx, t)
	s.byOrdinal(ctx, t)
	ended("back to the first ordinal, a rolling update")
	if now := s.term(ctx, t); now.Phase != "ended" || now.Term != before.Term || now.Holder != "" {
		t.Errorf("the Lease says %+v, and term %d has ended", now, before.Term)
	}
	ended = s.watch(ctx, t)
	s.byLease(ctx, t)
	ended("to the Lease again, a rolling update")
	if now := s.term(ctx, t); now.Term != before.Term+1 || now.Holder != "db-0" {
		t.Errorf("the Lease says %+v after term %d", now, before.Term)
	}
}

// byOrdinal takes the component of the Lease away, and looks at what is left as at a set that never
// had it.
func (s *set) byOrdinal(ctx context.Context, t *testing.T) {
	t.Helper()
	s.lease = false
	check(t, s.Apply(ctx, s.ordinal))
	s.rolledOut(ctx, t)
	s.equal(ctx, t, members)
	s.roles(ctx, t, members)
	const to = `jsonpath={.spec.selector}`
	if out, err := s.Kubectl(ctx, "get", "service", "mysql-primary", "-o", to); err != nil || strings.Contains(out, "understudy/role") {
		t.Errorf("the Service for writes selects %s (%v)", out, err)
	}
}

// byLease has the set go by the Lease, and waits for its term.
func (s *set) byLease(ctx context.Context, t *testing.T) {
	t.Helper()
	s.lease = true
	check(t, s.Apply(ctx, s.overlay))
	s.rolledOut(ctx, t)
	s.settled(ctx, t)
}

func (s *set) rolledOut(ctx context.Context, t *testing.T) {
	t.Helper()
	_, err := s.Kubectl(ctx, "rollout", "status", "statefulset/db", "--timeout=240s")
	check(t, err)
	s.ready(ctx, t, members)
}

// movedToLease: a new set without the component gets it. The first term begins when the first ordinal,
// which restarts last, is back.
func movedToLease(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.delete(ctx, t)
	_, err := s.Kubectl(ctx, "delete", "pod/writer", "lease/db")
	check(t, err)
	for i := range members {
		_, err := s.Kubectl(ctx, "delete", "pvc", "data-"+name(i))
		check(t, err)
		check(t, s.FreshVolume(ctx, "data-"+name(i)))
	}
	s.lease = false
	check(t, s.Apply(ctx, s.ordinal))
	s.ready(ctx, t, members)
	s.write(ctx, t)
	ended := s.watch(ctx, t)
	s.byLease(ctx, t)
	ended("moved to the Lease, a rolling update")
	if now := s.term(ctx, t); now.Term != 1 || now.Holder != "db-0" {
		t.Errorf("the Lease says %+v", now)
	}
}
