package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// The rows that make init fail, on ordinal 2.

// patchInit changes the init container of ordinal 2 only. The pod has to be replaced for that.
func (s *set) patchInit(ctx context.Context, t *testing.T, fields string) {
	t.Helper()
	patch := `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}},"template":{"spec":{"initContainers":[{"name":"init",` + fields + `}]}}}}`
	_, err := s.Kubectl(ctx, "patch", "statefulset", "db", "--type=strategic", "-p", patch)
	check(t, err)
}

// changeInit does so, and waits until the pod has been replaced.
func (s *set) changeInit(ctx context.Context, t *testing.T, fields string) {
	t.Helper()
	uid := s.uid(ctx, t, "db-2")
	s.patchInit(ctx, t, fields)
	// The controller does so by itself; a member that does not come up is deleted more quickly by
	// hand.
	_, err := s.Kubectl(ctx, "delete", "pod", "db-2", "--ignore-not-found", "--wait=false")
	check(t, err)
	s.gone(ctx, t, "db-2", uid)
}

// likeTheOthers ends changeInit: fields are what takes the changes back.
func (s *set) likeTheOthers(ctx context.Context, t *testing.T, fields string) {
	t.Helper()
	s.changeInit(ctx, t, fields)
	check(t, s.WaitPodReady(ctx, "db-2"))
	_, err := s.Kubectl(ctx, "patch", "statefulset", "db", "--type=merge", "-p", `{"spec":{"updateStrategy":{"rollingUpdate":{"partition":0}}}}`)
	check(t, err)
	_, err = s.Kubectl(ctx, "rollout", "status", "statefulset/db", "--timeout=600s")
	check(t, err)
}

// initRestarted waits until the init container of db-2 has ended badly and was started again. Its pod
// has just been deleted, and the next one may not have been made.
func (s *set) initRestarted(ctx context.Context, t *testing.T) {
	t.Helper()
	check(t, s.wait(ctx, "init to fail", func(ctx context.Context) error {
		restarts, err := s.restartsOf(ctx, "db-2")
		if n := value(restarts, "init="); err == nil && (n == "" || n == "0") {
			err = fmt.Errorf("init was restarted %q times", n)
		}
		return err
	}))
}

// initKilled: init dies by SIGKILL in each phase, right after the journal says so; the image of
// this suite is built with the failpoints. What it leaves is thrown away or resumed by the next
// run.
func initKilled(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	dieAfter := func(phase string) string {
		return `"env":[{"name":"UNDERSTUDY_FAILPOINT","value":"after-journal-` + phase + `"}]`
	}
	s.patchInit(ctx, t, dieAfter("transferring"))
	s.loseVolume(ctx, t, 2)
	s.initRestarted(ctx, t)
	for _, phase := range []string{"extracted", "preparing", "prepared"} {
		s.changeInit(ctx, t, dieAfter(phase))
		s.initRestarted(ctx, t)
	}
	check(t, s.WaitPodReady(ctx, "db-2")) // what was prepared is resumed, and not killed again
	s.equal(ctx, t, members)
	s.patchInit(ctx, t, dieAfter("published"))
	s.loseVolume(ctx, t, 2)
	s.initRestarted(ctx, t)
	check(t, s.WaitPodReady(ctx, "db-2"))
	s.likeTheOthers(ctx, t, `"env":[{"name":"UNDERSTUDY_FAILPOINT","$patch":"delete"}]`)
}

// outOfMemory lets mariadb-backup have more than the container's limit, and then what init gives it
// by itself.
func outOfMemory(ctx context.Context, t *testing.T, s *set) {
	t.Helper()
	// Of a buffer pool of 8 GiB, the descriptors of the pages alone are more than the limit.
	s.patchInit(ctx, t, `"resources":{"requests":{"memory":"96Mi"},"limits":{"memory":"96Mi"}},
		"env":[{"name":"UNDERSTUDY_PREPARE_MEMORY","value":"8589934592"}]`)
	s.loseVolume(ctx, t, 2)
	s.initRestarted(ctx, t)
	log, err := s.PreviousLogs(ctx, "db-2", "init")
	if check(t, err); !strings.Contains(log, "signal: killed") {
		t.Errorf("the tool was not killed:\n%s", log)
	}
	s.likeTheOthers(ctx, t, `"resources":{"requests":{"memory":"1Gi"},"limits":{"memory":"1Gi"}},
		"env":[{"name":"UNDERSTUDY_PREPARE_MEMORY","$patch":"delete"}]`)
}
