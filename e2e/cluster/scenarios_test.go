package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func firstStart(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	begun := time.Now()
	check(t, s.Apply(ctx, s.overlay))
	s.ready(ctx, t, members)
	t.Logf("first start of three: %.1f s", time.Since(begun).Seconds())
	s.roles(ctx, t, members)
	out, err := s.Kubectl(ctx, "get", "pods", "-L", "understudy/role")
	check(t, err)
	t.Logf("kubectl get pods -L understudy/role:\n%s", out)
	s.write(ctx, t)
	lease, err := s.Kubectl(ctx, "get", "lease", "db", "-o", `jsonpath={.metadata.annotations.understudy/initialized}`)
	if check(t, err); !strings.Contains(lease, "db-0") {
		t.Errorf("the Lease says %q", lease)
	}
	s.told(ctx, t, "db-1", "CloneStarted", "cloning")
	s.told(ctx, t, "db-1", "CloneFinished", "MiB/s")
	s.told(ctx, t, "db-2", "CloneFinished", "MiB/s")
	s.told(ctx, t, "db-1", "RoleSet", "replica")
	s.told(ctx, t, "db-1", "Replication", "configure")
}

func scaling(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	begun := time.Now()
	s.scale(ctx, t, 3, 4)
	t.Logf("scale-up by one: %.1f s", time.Since(begun).Seconds())
	s.scale(ctx, t, 4, 5)
	s.equal(ctx, t, 5)
	s.roles(ctx, t, 5)
	s.scale(ctx, t, 5, 3)
	s.scale(ctx, t, 3, 5) // their volumes are still there: nothing is cloned
	s.equal(ctx, t, 5)
	log, err := s.Logs(ctx, "db-4", "init")
	if check(t, err); !strings.Contains(log, `"verdict":"keep"`) {
		t.Errorf("db-4 did not keep its data:\n%s", log)
	}
	s.scale(ctx, t, 5, 3)
}

// scaleByOne clones one member from those that run.
func scaleByOne(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	begun := time.Now()
	s.scale(ctx, t, 3, 4)
	t.Logf("scale-up by one: %.1f s", time.Since(begun).Seconds())
	s.told(ctx, t, "db-3", "CloneFinished", "MiB/s")
	s.equal(ctx, t, 4)
	s.roles(ctx, t, 4)
	s.scale(ctx, t, 4, 3)
}

func podsDeleted(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	for i := range members {
		took := s.replace(ctx, t, name(i))
		t.Logf("%s deleted, replicating again: %.1f s", name(i), took.Seconds())
		s.progress(ctx, t)
	}
	// Again, and as soon as the next server starts, which does not hear SIGTERM yet: the grace period is
	// longer than this waits.
	for range 2 {
		uid := s.uid(ctx, t, "db-2")
		_, err := s.Kubectl(ctx, "delete", "pod", "db-2", "--wait=false")
		check(t, err)
		s.gone(ctx, t, "db-2", uid)
		check(t, s.wait(ctx, "the server of db-2 to start", func(ctx context.Context) error {
			at, err := s.Kubectl(ctx, "get", "pod", "db-2", "--ignore-not-found", "-o", `jsonpath={.status.containerStatuses[?(@.name=="server")].state.running.startedAt}`)
			if err == nil && at == "" {
				err = errors.New("it has not been started")
			}
			return err
		}))
	}
	check(t, s.WaitPodReady(ctx, "db-2"))
	s.progress(ctx, t)
}

func podsForced(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	for i := range members {
		s.replace(ctx, t, name(i), "--force", "--grace-period=0")
		s.progress(ctx, t)
	}
}

func volumeDeleted(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.loseVolume(ctx, t, 2)
	check(t, s.WaitPodReady(ctx, "db-2"))
	log, err := s.Logs(ctx, "db-2", "init")
	if check(t, err); !strings.Contains(log, `"msg":"clone published"`) {
		t.Errorf("db-2 was not cloned:\n%s", log)
	}
}

func sidecarKilled(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	for i := range members {
		s.restarted(ctx, t, name(i), s.kills(ctx, t, name(i), "sidecar"))
		s.progress(ctx, t)
		check(t, s.WaitPodReady(ctx, name(i)))
	}
}

// serverKilled: it alone restarts, and replicates or takes writes again.
func serverKilled(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	for i := range members {
		before := s.kills(ctx, t, name(i), "server")
		s.restarted(ctx, t, name(i), before)
		check(t, s.WaitPodReady(ctx, name(i)))
		s.progress(ctx, t)
		for _, container := range []string{"init=", "sidecar="} {
			if value(s.restarts(ctx, t, name(i)), container) != value(before, container) {
				t.Errorf("%s: more than the server restarted: %s, before %s", name(i), s.restarts(ctx, t, name(i)), before)
			}
		}
	}
}

// value is what stands behind a key, up to the next blank.
func value(text, key string) string {
	_, rest, _ := strings.Cut(text, key)
	v, _, _ := strings.Cut(rest, " ")
	return v
}

func rollingRestart(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	_, err := s.Kubectl(ctx, "rollout", "restart", "statefulset/db")
	check(t, err)
	_, err = s.Kubectl(ctx, "rollout", "status", "statefulset/db", "--timeout=600s")
	check(t, err)
}

// imageUpdate moves the set to another image, member by member.
func imageUpdate(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	const other = "local/understudy:other"
	_, err := s.ctr(ctx, "images", "tag", "--force", "docker.io/"+s.understudy, "docker.io/"+other)
	check(t, err)
	_, err = s.Kubectl(ctx, "set", "image", "statefulset/db", "init="+other, "sidecar="+other)
	check(t, err)
	_, err = s.Kubectl(ctx, "rollout", "status", "statefulset/db", "--timeout=600s")
	check(t, err)
	for i := range members {
		out, err := s.Kubectl(ctx, "get", "pod", name(i), "-o", "jsonpath={.spec.initContainers[*].image}")
		if check(t, err); out != other+" "+other {
			t.Errorf("%s runs %s", name(i), out)
		}
	}
}

// loseVolume deletes the claim of a member, and its pod, and offers an empty volume. The claim goes
// when no pod has it: the controller may delete the pod first, and make one that takes the claim in
// between. flags are kubectl's, for the pod.
func (s *set) loseVolume(ctx context.Context, t *testing.T, ordinal int, flags ...string) {
	t.Helper()
	pod, claim := name(ordinal), "data-"+name(ordinal)
	uid, err := s.Kubectl(ctx, "get", "pvc", claim, "-o", "jsonpath={.metadata.uid}")
	check(t, err)
	_, err = s.Kubectl(ctx, "delete", "pvc", claim, "--wait=false")
	check(t, err)
	check(t, s.wait(ctx, "the claim "+claim+" to go", func(ctx context.Context) error {
		now, err := s.Kubectl(ctx, "get", "pvc", claim, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
		if err != nil || now != uid {
			return err
		}
		if _, err := s.Kubectl(ctx, append([]string{"delete", "pod", pod, "--ignore-not-found", "--wait=false"}, flags...)...); err != nil {
			return err
		}
		return fmt.Errorf("%s is still there", claim)
	}))
	check(t, s.FreshVolume(ctx, claim))
}

// crashLoop: writes go on, although the pod is not ready.
func crashLoop(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	for range 2 {
		before := s.kills(ctx, t, "db-0", "sidecar")
		s.progress(ctx, t)
		s.restarted(ctx, t, "db-0", before)
	}
	s.progress(ctx, t)
}

// wrongSecret: no data moves, and a person is told what to do.
func wrongSecret(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	good, err := s.Kubectl(ctx, "get", "secret", "db-secrets", "-o", "json")
	check(t, err)
	_, err = s.Kubectl(ctx, "patch", "secret", "db-secrets", "-p", `{"stringData":{"secret":"too short"}}`)
	check(t, err)
	s.loseVolume(ctx, t, 2)
	check(t, s.wait(ctx, "init to say what is wrong", func(ctx context.Context) error {
		const last = "jsonpath={.status.initContainerStatuses[0].state.terminated.message}{.status.initContainerStatuses[0].lastState.terminated.message}"
		out, err := s.Kubectl(ctx, "get", "pod", "db-2", "-o", last)
		if err == nil && !strings.Contains(out, "at least 32 are needed; make one with") {
			err = fmt.Errorf("the termination message is %q", out)
		}
		return err
	}))
	_, err = s.Kubectl(ctx, "delete", "secret", "db-secrets")
	check(t, err)
	uid := s.uid(ctx, t, "db-2")
	_, err = s.Kubectl(ctx, "delete", "pod", "db-2", "--wait=false")
	check(t, err)
	s.gone(ctx, t, "db-2", uid)
	s.told(ctx, t, "db-2", "FailedMount", "db-secrets")
	check(t, s.ApplyText(ctx, good))
	check(t, s.WaitPodReady(ctx, "db-2"))
}

// eviction: a second member may not leave while one is away.
func eviction(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	_, err := s.Kubectl(ctx, "cordon", s.places.node)
	check(t, err)
	uid := s.uid(ctx, t, "db-2")
	check(t, s.wait(ctx, "the budget to know that all members are ready", func(ctx context.Context) error { return s.evict(ctx, "db-2") }))
	s.gone(ctx, t, "db-2", uid) // its successor cannot be placed
	if err := s.evict(ctx, "db-1"); err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("the second eviction: %v", err)
	}
	_, err = s.Kubectl(ctx, "uncordon", s.places.node)
	check(t, err)
	check(t, s.WaitPodReady(ctx, "db-2"))
}

func (s *set) evict(ctx context.Context, pod string) error {
	body := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, pod, s.Namespace)
	_, err := s.kubectl(ctx, strings.NewReader(body), "create", "--raw", "/api/v1/namespaces/"+s.Namespace+"/pods/"+pod+"/eviction", "-f", "-")
	return err
}

func kubeletRestarted(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before := s.restarts(ctx, t, "db-0") + s.restarts(ctx, t, "db-1")
	check(t, s.RestartKubelet(ctx))
	s.progress(ctx, t)
	if after := s.restarts(ctx, t, "db-0") + s.restarts(ctx, t, "db-1"); after != before {
		t.Errorf("containers restarted: %s, before %s", after, before)
	}
}

func partition(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	check(t, s.Partition(ctx, "db-0", "db-1"))
	s.progress(ctx, t)
	// A replica whose source is away stays ready: its applier is well.
	check(t, s.WaitPodReady(ctx, "db-1"))
	check(t, s.Heal(ctx))
}

// apiServerAway: nothing restarts, no probe fails, writes and replication go on.
func apiServerAway(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	before := s.restarts(ctx, t, "db-0") + s.restarts(ctx, t, "db-1")
	// The number of commits, while nobody can be asked but the node.
	commits := func() int {
		out, err := s.ExecOnNode(ctx, "writer", "main", "sh", "-c", "cat /tmp/acknowledged")
		check(t, err)
		return len(numbers(t, out))
	}
	begun := len(s.acknowledged(ctx, t))
	check(t, s.StopAPIServer(ctx))
	away := time.NewTimer(2 * time.Minute)
	defer away.Stop()
	select {
	case <-away.C:
	case <-ctx.Done():
	}
	acknowledged := commits()
	if n := acknowledged - begun; n < 100 {
		t.Errorf("%d commits in two minutes", n)
	}
	check(t, s.wait(ctx, "commits after two minutes", func(context.Context) error {
		if n := commits() - acknowledged; n < 5 {
			return fmt.Errorf("%d commits", n)
		}
		return nil
	}))
	check(t, s.StartAPIServer(ctx))
	if after := s.restarts(ctx, t, "db-0") + s.restarts(ctx, t, "db-1"); after != before {
		t.Errorf("containers restarted: %s, before %s", after, before)
	}
}

// setDeleted: under either policy it comes back from its volumes.
func setDeleted(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	for _, policy := range []string{"OrderedReady", "Parallel"} {
		s.delete(ctx, t)
		s.applyWith(ctx, t, policy)
		s.ready(ctx, t, members)
		s.progress(ctx, t)
	}
}

// applyWith applies the set's manifests with this podManagementPolicy.
func (s *set) applyWith(ctx context.Context, t *testing.T, policy string) {
	t.Helper()
	manifests, err := s.Kubectl(ctx, "kustomize", s.overlay)
	check(t, err)
	check(t, s.ApplyText(ctx, strings.Replace(manifests, "podManagementPolicy: Parallel", "podManagementPolicy: "+policy, 1)))
}

// delete deletes the StatefulSet, and waits until its pods are gone.
func (s *set) delete(ctx context.Context, t *testing.T) {
	t.Helper()
	s.ends(ctx, t, func() {
		_, err := s.Kubectl(ctx, "delete", "statefulset", "db", "--wait=true")
		check(t, err)
	})
}

// ends does what ends all pods, and waits until they are gone.
func (s *set) ends(ctx context.Context, t *testing.T, do func()) {
	t.Helper()
	uids := map[string]string{}
	for i := range members {
		uids[name(i)] = s.uid(ctx, t, name(i))
	}
	do()
	for pod, uid := range uids {
		s.gone(ctx, t, pod, uid)
	}
}

// beginAnew: with the set's mark on the Lease the first ordinal does not start empty; the mark
// removed, it does. The server's image is killed at its work once, and ends by a script that fails
// each time after that: what it leaves is moved aside, and it begins again, three times at most.
// Nobody gets in meanwhile.
func beginAnew(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	s.delete(ctx, t)
	_, err := s.Kubectl(ctx, "delete", "pod", "writer")
	check(t, err)
	for i := range members {
		_, err := s.Kubectl(ctx, "delete", "pvc", "data-"+name(i))
		check(t, err)
		check(t, s.FreshVolume(ctx, "data-"+name(i)))
	}
	_, err = s.Kubectl(ctx, "create", "configmap", "db-initdb",
		"--from-literal=10-first.sql=CREATE DATABASE initial; CREATE TABLE initial.t (a INT PRIMARY KEY); INSERT INTO initial.t VALUES (1);",
		"--from-literal=20-second.sql=INSERT INTO nowhere.t VALUES (2);")
	check(t, err)
	check(t, s.Apply(ctx, s.overlay))
	s.told(ctx, t, "db-0", "EmptyVolume", "kubectl -n "+s.Namespace+" annotate lease db understudy/initialized-")
	_, err = s.Kubectl(ctx, "annotate", "lease", "db", "understudy/initialized-")
	check(t, err)
	check(t, s.wait(ctx, "the image at work", func(ctx context.Context) error {
		log, err := s.Logs(ctx, "db-0", "server")
		if err != nil {
			return err
		}
		if !strings.Contains(log, "Database files initialized") {
			return fmt.Errorf("not yet: %s", log)
		}
		return s.KillInContainer(ctx, "db-0", "server", "SIGKILL")
	}))
	s.told(ctx, t, "db-0", "ImageInterrupted", "attempt 1 of 3", "exit code 137")
	s.told(ctx, t, "db-0", "MovedAside", "replaced-")
	s.told(ctx, t, "db-0", "ImageInterrupted", "attempt 2 of 3", "nowhere.t")
	s.told(ctx, t, "db-0", "NeedsHelp", "attempt 3 of 3", "nowhere.t")
	_, err = s.Kubectl(ctx, "patch", "configmap", "db-initdb", "--type=merge", "-p", `{"data":{"20-second.sql":"INSERT INTO initial.t VALUES (2);"}}`)
	check(t, err)
	uid := s.uid(ctx, t, "db-0")
	_, err = s.Kubectl(ctx, "delete", "pod", "db-0", "--wait=false")
	check(t, err)
	s.gone(ctx, t, "db-0", uid)
	s.ready(ctx, t, members)
	for i := range members {
		if got := s.sql(ctx, t, name(i), "SELECT COUNT(*) FROM initial.t"); got != "2" {
			t.Errorf("%s has %s rows of the initial data", name(i), got)
		}
	}
	s.write(ctx, t)
}

// leastPrivilege compares what the API server saw with what the Role grants.
func leastPrivilege(_ context.Context, t *testing.T, s *set) {
	t.Helper()
	seen, err := s.AuditedVerbs()
	check(t, err)
	used := map[string]bool{}
	for access := range seen {
		if access.User != "system:serviceaccount:"+s.Namespace+":db" {
			continue
		}
		what := access.Verb + " " + strings.TrimSuffix(access.Resource+"/"+access.Subresource, "/")
		used[what] = true
		switch what {
		case "get pods", "patch pods":
			if !strings.HasPrefix(access.Name, "db-") {
				t.Errorf("%+v", access)
			}
		case "get leases", "update leases", "get statefulsets":
			if access.Name != "db" {
				t.Errorf("%+v", access)
			}
		case "create pods/eviction":
			if access.Name != "db-2" && access.Name != "db-0" { // the one that was reseeded, and the one whose image was interrupted
				t.Errorf("%+v", access)
			}
		case "create events":
		default:
			t.Errorf("the Role grants no %s: %+v", what, access)
		}
	}
	for _, what := range []string{"get pods", "patch pods", "get leases", "update leases", "get statefulsets", "create events", "create pods/eviction"} {
		if !used[what] {
			t.Errorf("%s is granted, and was not used", what)
		}
	}
}
