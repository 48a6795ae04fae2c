package cluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const members = 3

// set is the StatefulSet under test, with a writer.
type set struct {
	*Cluster
	flavour
	// writing says that the writer runs: rows then compare what it was told with what is there.
	writing bool
}

// ledgerWriter inserts one number after the other through the Service for writes, and keeps those
// whose commit was acknowledged in a file, when that was in another, and what failed in a third. It
// goes on after every error, gives up what has no answer, rests while /tmp/pause is there, and leaves
// the processors to the others in between.
const ledgerWriter = `
export MYSQL_PWD=writer
n=0
while :; do
  if [ -e /tmp/pause ]; then touch /tmp/paused; sleep 0.2; continue; fi
  n=$((n + 1))
  begun=$EPOCHREALTIME
  if timeout 4 "$CLIENT" -h mysql-primary -uwriter --connect-timeout=2 shop -e "INSERT INTO ledger (n) VALUES ($n)" 2>/tmp/error; then
    echo "$n" >>/tmp/acknowledged
    echo "$EPOCHREALTIME" >>/tmp/times
  else
    echo "from $begun to $EPOCHREALTIME, status $?: $n: $(cat /tmp/error)" >>/tmp/failed
  fi
  sleep 0.05
done`

// writerPod obeys Pod Security "restricted".
func (f flavour) writerPod() string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: writer, labels: {app: writer}}, spec: {
  terminationGracePeriodSeconds: 0, automountServiceAccountToken: false,
  securityContext: {runAsUser: 999, runAsGroup: 999, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}},
  containers: [{name: main, image: %q, env: [{name: CLIENT, value: %s}], command: [bash, -c, %s],
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}},
    volumeMounts: [{name: tmp, mountPath: /tmp}]}],
  volumes: [{name: tmp, emptyDir: {}}]}}`, f.server, f.client, strconv.Quote(ledgerWriter))
}

// secretKeys are what the Secret holds.
var secretKeys = []string{"secret", "root-password", "replication-password", "sidecar-password", "clone-password"}

// secret makes the Secret as the manifests say.
func (s *set) secret(ctx context.Context, t *testing.T) {
	t.Helper()
	random := func() string {
		b := make([]byte, 24)
		_, _ = rand.Read(b)
		return base64.StdEncoding.EncodeToString(b)
	}
	args := []string{"create", "secret", "generic", "db-secrets"}
	for _, key := range secretKeys {
		args = append(args, "--from-literal="+key+"="+random())
	}
	_, err := s.Kubectl(ctx, args...)
	check(t, err)
}

// sql runs statements as root on one member.
func (s *set) sql(ctx context.Context, t *testing.T, pod, statements string) string {
	t.Helper()
	out, err := s.query(ctx, pod, statements)
	check(t, err)
	return out
}

func (s *set) query(ctx context.Context, pod, statements string) (string, error) {
	script := `MYSQL_PWD=$(cat /secret/root-password) exec ` + s.client + ` -h127.0.0.1 -uroot -N -B`
	return s.ExecInput(ctx, strings.NewReader(statements), pod, "server", "sh", "-c", script)
}

// ready waits for members 0 to n-1.
func (s *set) ready(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for i := range n {
		check(t, s.WaitPodReady(ctx, name(i)))
	}
}

func name(ordinal int) string { return fmt.Sprintf("db-%d", ordinal) }

// gone waits until a pod does not exist, or is another than the one with this uid.
func (s *set) gone(ctx context.Context, t *testing.T, pod, uid string) {
	t.Helper()
	check(t, s.wait(ctx, pod+" to go", func(ctx context.Context) error {
		out, err := s.Kubectl(ctx, "get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
		if err == nil && out == uid {
			err = fmt.Errorf("%s is still there", pod)
		}
		return err
	}))
}

func (s *set) uid(ctx context.Context, t *testing.T, pod string) string {
	t.Helper()
	out, err := s.Kubectl(ctx, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
	check(t, err)
	return out
}

// write starts the writer, with an account of its own: root may log in from within a pod only.
func (s *set) write(ctx context.Context, t *testing.T) {
	t.Helper()
	s.sql(ctx, t, s.primary(ctx, t), `CREATE DATABASE IF NOT EXISTS shop; CREATE TABLE IF NOT EXISTS shop.ledger (n INT PRIMARY KEY, at TIMESTAMP(6) DEFAULT NOW(6));
		CREATE USER IF NOT EXISTS writer@'%' IDENTIFIED BY 'writer'; GRANT SELECT, INSERT ON shop.* TO writer@'%';`)
	check(t, s.ApplyText(ctx, s.writerPod()))
	check(t, s.WaitPodReady(ctx, "writer"))
	s.writing = true
	s.progress(ctx, t)
}

// acknowledged is what the writer was told.
func (s *set) acknowledged(ctx context.Context, t *testing.T) []int {
	t.Helper()
	out, err := s.Exec(ctx, "writer", "main", "sh", "-c", "cat /tmp/acknowledged 2>/dev/null || true")
	check(t, err)
	return numbers(t, out)
}

func numbers(t *testing.T, text string) []int {
	t.Helper()
	var list []int
	for field := range strings.FieldsSeq(text) {
		n, err := strconv.Atoi(field)
		check(t, err)
		list = append(list, n)
	}
	return list
}

// pause stops the writer between two commits until the function that it returns is called.
func (s *set) pause(ctx context.Context, t *testing.T) (goOn func()) {
	t.Helper()
	_, err := s.Exec(ctx, "writer", "main", "touch", "/tmp/pause")
	check(t, err)
	check(t, s.wait(ctx, "the writer to rest", func(ctx context.Context) error {
		_, err := s.Exec(ctx, "writer", "main", "test", "-e", "/tmp/paused")
		return err
	}))
	return func() {
		_, err := s.Exec(context.WithoutCancel(ctx), "writer", "main", "rm", "-f", "/tmp/pause", "/tmp/paused")
		check(t, err)
	}
}

// progress waits until the writer has got another acknowledgement.
func (s *set) progress(ctx context.Context, t *testing.T) {
	t.Helper()
	before := len(s.acknowledged(ctx, t))
	check(t, s.wait(ctx, "another commit", func(ctx context.Context) error {
		out, err := s.Exec(ctx, "writer", "main", "sh", "-c", "wc -l </tmp/acknowledged; cat /tmp/error")
		if err != nil {
			return err
		}
		if count, rest, _ := strings.Cut(out, "\n"); count == strconv.Itoa(before) || count == "" {
			return fmt.Errorf("the writer stands still at %d: %s", before, rest)
		}
		return nil
	}))
}

// equal checks that every acknowledged commit is on each of the first n members, and that all hold
// the same.
func (s *set) equal(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	s.progress(ctx, t)
	want := s.acknowledged(ctx, t)
	last := want[len(want)-1]
	numbered := fmt.Sprintf("SELECT n FROM shop.ledger WHERE n <= %d ORDER BY n", last)
	sums := fmt.Sprintf("SELECT COUNT(*), SUM(CRC32(CONCAT(n, ' ', at))) FROM shop.ledger WHERE n <= %d", last)
	primary := s.primary(ctx, t)
	position := s.sql(ctx, t, primary, s.position)
	rows := numbers(t, s.sql(ctx, t, primary, numbered))
	sum := s.sql(ctx, t, primary, sums)
	for _, v := range want {
		if _, found := slices.BinarySearch(rows, v); !found {
			t.Errorf("commit %d was acknowledged, and the primary does not have it", v)
		}
	}
	for i := range n {
		if name(i) == primary {
			continue
		}
		if out := s.sql(ctx, t, name(i), fmt.Sprintf(s.reached, position)); out != "0" {
			t.Errorf("%s has not come to %s within a minute", name(i), position)
		}
		if got := numbers(t, s.sql(ctx, t, name(i), numbered)); !slices.Equal(got, rows) {
			t.Errorf("%s has %d rows, the primary %d", name(i), len(got), len(rows))
		}
		if got := s.sql(ctx, t, name(i), sums); got != sum {
			t.Errorf("%s holds other rows, by their checksum: %q, the primary %q", name(i), got, sum)
		}
		if out := s.sql(ctx, t, name(i), "SELECT "+s.readOnly); out != "1" {
			t.Errorf("%s is writable", name(i))
		}
	}
}

// roles checks what a person sees with kubectl get pods -L understudy/role.
func (s *set) roles(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	primary := s.primary(ctx, t)
	check(t, s.wait(ctx, "role labels", func(ctx context.Context) error {
		for i := range n {
			want := "replica"
			if name(i) == primary {
				want = "primary"
			}
			out, err := s.Kubectl(ctx, "get", "pod", name(i), "-o", `jsonpath={.metadata.labels.understudy/role}`)
			if err != nil {
				return err
			}
			if out != want {
				return fmt.Errorf("%s is labelled %q, not %q", name(i), out, want)
			}
		}
		return nil
	}))
}

// told waits for an Event of this reason about an object whose text holds all of what.
func (s *set) told(ctx context.Context, t *testing.T, object, reason string, what ...string) {
	t.Helper()
	check(t, s.wait(ctx, "an Event "+reason, func(ctx context.Context) error {
		events, err := s.Events(ctx, object)
		if err != nil {
			return err
		}
		for _, e := range events {
			missing := slices.ContainsFunc(what, func(w string) bool { return !strings.Contains(e.Message, w) })
			if e.Reason == reason && !missing {
				return nil
			}
		}
		return fmt.Errorf("%d Events of %s, none is %s with %q", len(events), object, reason, what)
	}))
}

// restarts is how often a container of a pod was restarted.
func (s *set) restarts(ctx context.Context, t *testing.T, pod string) string {
	t.Helper()
	out, err := s.restartsOf(ctx, pod)
	check(t, err)
	return out
}

// restartsOf is the same of a pod that may not be there yet.
func (s *set) restartsOf(ctx context.Context, pod string) (string, error) {
	return s.Kubectl(ctx, "get", "pod", pod, "-o",
		`jsonpath={range .status['initContainerStatuses','containerStatuses'][*]}{.name}={.restartCount} {end}`)
}

// kills kills a pod's container, and returns the pod's restarts before that.
func (s *set) kills(ctx context.Context, t *testing.T, pod, container string) (before string) {
	t.Helper()
	before = s.restarts(ctx, t, pod)
	check(t, s.KillInContainer(ctx, pod, container, "SIGKILL"))
	return before
}

// restarted waits until a container of the pod was restarted.
func (s *set) restarted(ctx context.Context, t *testing.T, pod, before string) {
	t.Helper()
	check(t, s.wait(ctx, "a restart in "+pod, func(ctx context.Context) error {
		now, err := s.restartsOf(ctx, pod)
		if err == nil && now == before {
			err = fmt.Errorf("no restart: %s", before)
		}
		return err
	}))
}

// scale sets the number of members and waits until they are ready, or gone.
func (s *set) scale(ctx context.Context, t *testing.T, from, to int) {
	t.Helper()
	_, err := s.Kubectl(ctx, "scale", "statefulset", "db", "--replicas="+strconv.Itoa(to))
	check(t, err)
	for i := to; i < from; i++ {
		s.gone(ctx, t, name(i), s.uidOrNone(ctx, name(i)))
	}
	s.ready(ctx, t, to)
}

func (s *set) uidOrNone(ctx context.Context, pod string) string {
	out, err := s.Kubectl(ctx, "get", "pod", pod, "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
	if err != nil || out == "" {
		return "none"
	}
	return out
}

// replace deletes a pod and waits until its successor is ready. It returns how long the member did
// not replicate.
func (s *set) replace(ctx context.Context, t *testing.T, pod string, flags ...string) time.Duration {
	t.Helper()
	begun := time.Now()
	uid := s.uid(ctx, t, pod)
	_, err := s.Kubectl(ctx, append([]string{"delete", "pod", pod, "--wait=false"}, flags...)...)
	check(t, err)
	s.gone(ctx, t, pod, uid)
	check(t, s.WaitPodReady(ctx, pod))
	return time.Since(begun)
}

// build makes the image of the program from its Dockerfile, with the failpoints at which init can
// be made to die, and gives it to the node.
func (s *set) build(ctx context.Context, t *testing.T) {
	t.Helper()
	top, err := filepath.Abs("../..")
	check(t, err)
	archive, err := Image{
		Name: s.understudy, Dockerfile: filepath.Join(top, "Dockerfile"), Context: top,
		Args: []string{"GO_IMAGE=local/golang:1", "BASE=" + s.base, "VERSION=test", "GOPROXY=off", "GOFLAGS=-mod=mod -tags=failpoint"},
	}.Build(ctx, t.TempDir())
	check(t, err)
	check(t, s.ImportImage(ctx, archive))
}
