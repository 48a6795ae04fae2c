package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// smoke is one plain server: what the real manifests build upon, without us.
const smoke = `
apiVersion: v1
kind: Secret
metadata: {name: root}
stringData: {password: "it's \\ a secret"}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: mysql, port: 3306}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      securityContext:
        {runAsUser: 999, runAsGroup: 999, fsGroup: 999, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: server
        image: local/server-mariadb:1
        args: [--innodb-buffer-pool-size=16M]
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        env: [{name: MARIADB_ROOT_PASSWORD_FILE, value: /etc/root/password}]
        ports: [{name: mysql, containerPort: 3306}]
        readinessProbe: {tcpSocket: {port: mysql}, periodSeconds: 1}
        volumeMounts:
        - {name: data, mountPath: /var/lib/mysql, subPath: mysql}
        - {name: root, mountPath: /etc/root}
        - {name: tmp, mountPath: /tmp}
        - {name: run, mountPath: /run/mysqld}
      volumes:
      - {name: root, secret: {secretName: root}}
      - {name: tmp, emptyDir: {}}
      - {name: run, emptyDir: {}}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {storageClassName: local, accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Mi}}}
`

// TestSmoke sees every part of the cluster at work that the scenarios rely on.
func TestSmoke(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a node")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	step := stopwatch(t)
	c, err := Up(ctx)
	if err != nil {
		t.Fatal(err)
	}
	down := false
	t.Cleanup(func() {
		if t.Failed() {
			c.Dump(ctx, t)
		}
		if !down {
			check(t, c.Down(context.WithoutCancel(ctx)))
		}
	})
	step("up")
	check(t, c.CreateNamespace(ctx, "smoke"))
	check(t, c.AddVolumes(ctx, "pool-0"))
	check(t, c.ApplyText(ctx, smoke))
	check(t, c.WaitPodReady(ctx, "db-0"))
	step("a server is ready on an empty volume")
	sql(ctx, t, c, "CREATE DATABASE d; CREATE TABLE d.t (a INT); INSERT INTO d.t VALUES (42)")
	wantLog(ctx, t, c, "MariaDB init process done")

	_, err = c.Kubectl(ctx, "delete", "pod", "db-0")
	check(t, err)
	check(t, c.WaitPodReady(ctx, "db-0"))
	wantAnswer(ctx, t, c)
	step("its pod was deleted, its data is there")

	check(t, c.KillInContainer(ctx, "db-0", "server", "SIGKILL"))
	check(t, c.wait(ctx, "restart", func(ctx context.Context) error {
		_, err := c.PreviousLogs(ctx, "db-0", "server")
		return err
	}))
	check(t, c.WaitPodReady(ctx, "db-0"))
	wantAnswer(ctx, t, c)
	step("its process was killed, and restarted in place")

	check(t, c.StopAPIServer(ctx))
	if out, err := c.Kubectl(ctx, "get", "pods"); err == nil {
		t.Errorf("the API server is down and said %q", out)
	}
	if out, err := c.ExecOnNode(ctx, "db-0", "server", "id", "-u"); err != nil || out != "999" {
		t.Errorf("exec past the API server: %q, %v", out, err)
	}
	check(t, c.StartAPIServer(ctx))
	wantAnswer(ctx, t, c)
	step("the API server was away")
	check(t, c.RestartKubelet(ctx))
	wantAnswer(ctx, t, c)
	step("kubelet was restarted")

	wantPartition(ctx, t, c)
	step("partition and heal")
	wantAudit(ctx, t, c)
	step("audit log")
	wantFresh(ctx, t, c)
	step("a fresh volume after its claim was deleted")
	wantFull(ctx, t, c)
	step("a volume of a limited size")
	wantBuilt(ctx, t, c)
	step("an image from a Dockerfile")

	if t.Failed() {
		return
	}
	down = true
	check(t, c.Down(ctx))
	step("down, and nothing left")
}

// wantPartition has a client pod lose the server, and find it again.
func wantPartition(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	check(t, c.ApplyText(ctx, pod("client", `sleep 1000`, "")))
	check(t, c.WaitPodReady(ctx, "client"))
	reach := func() error {
		_, err := c.Exec(ctx, "client", "main", "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/db-0.db/3306; head -c 4 <&3")
		return err
	}
	check(t, reach())
	check(t, c.Partition(ctx, "client", "db-0"))
	if reach() == nil {
		t.Error("the client still reaches the server through a partition")
	}
	check(t, c.Heal(ctx))
	check(t, reach())
}

// wantAudit has a pod ask the API server with its token for what it may not have.
func wantAudit(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	check(t, c.ApplyText(ctx, pod("asker", "exec 3<>/dev/tcp/kubernetes.default/443 && sleep 1000", "")))
	check(t, c.WaitPodReady(ctx, "asker"))
	token, err := c.Exec(ctx, "asker", "main", "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
	check(t, err)
	if _, err := c.Kubectl(ctx, "--kubeconfig=/dev/null", "--server=https://10.244.0.1:6443", "--insecure-skip-tls-verify",
		"--token="+token, "get", "pod", "db-0"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("a pod's token was not refused: %v", err)
	}
	seen, err := c.AuditedVerbs()
	check(t, err)
	want := Access{User: "system:serviceaccount:smoke:default", Verb: "get", Resource: "pods", Namespace: "smoke", Name: "db-0"}
	if seen[want] != 1 {
		t.Errorf("audit log: want %+v once, have %+v", want, seen)
	}
}

// wantFresh deletes the server's claim with its pod: there is no other volume, so the next one must
// be the same, empty.
func wantFresh(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	_, err := c.Kubectl(ctx, "delete", "pvc", "data-db-0", "--wait=false")
	check(t, err)
	_, err = c.Kubectl(ctx, "delete", "pod", "db-0")
	check(t, err)
	check(t, c.FreshVolume(ctx, "data-db-0"))
	check(t, c.WaitPodReady(ctx, "db-0"))
	wantLog(ctx, t, c, "MariaDB init process done")
	if out := sql(ctx, t, c, "SHOW DATABASES"); strings.Contains(out, "d\n") {
		t.Errorf("the fresh volume has databases %q", out)
	}
	events, err := c.Events(ctx, "db-0")
	check(t, err)
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Reason == "Started" && e.Object == "Pod/db-0" }) {
		t.Errorf("no event says that the server was started: %+v", events)
	}
}

// wantFull fills a volume of 32 MiB.
func wantFull(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	check(t, c.AddLimitedVolume(ctx, "small", 32))
	const claim = `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: small},
		spec: {storageClassName: local, accessModes: [ReadWriteOnce], resources: {requests: {storage: 32Mi}}}}`
	check(t, c.ApplyText(ctx, claim))
	check(t, c.ApplyText(ctx, pod("filler", "sleep 1000", "small")))
	check(t, c.WaitPodReady(ctx, "filler"))
	if _, err := c.Exec(ctx, "filler", "main", "dd", "if=/dev/zero", "of=/volume/f", "bs=1M", "count=64"); err == nil ||
		!strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("64 MiB into 32: %v", err)
	}
	_, err := c.Kubectl(ctx, "delete", "pod/filler", "pvc/small", "--grace-period=1")
	check(t, err)
	check(t, c.FreshVolume(ctx, "small"))
	check(t, c.ApplyText(ctx, claim))
	check(t, c.ApplyText(ctx, pod("filler", "sleep 1000", "small")))
	check(t, c.WaitPodReady(ctx, "filler"))
	if out, err := c.Exec(ctx, "filler", "main", "ls", "-A", "/volume"); err != nil || out != "" {
		t.Errorf("the fresh limited volume has %q, %v", out, err)
	}
}

// wantBuilt builds a Dockerfile of two stages and runs the image.
func wantBuilt(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module hello\n\ngo 1.25\n",
		"main.go": "package main\n\nfunc main() { println(\"built here\") }\n",
		"Dockerfile": `ARG GO_IMAGE
ARG BASE
FROM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/go-build CGO_ENABLED=0 go build -trimpath -o /out/hello .
FROM ${BASE}
COPY --from=build /out/hello /usr/local/bin/hello
ENTRYPOINT ["hello"]
`,
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	archive, err := Image{
		Name: "local/hello:1", Dockerfile: filepath.Join(dir, "Dockerfile"), Context: dir,
		Args: []string{"GO_IMAGE=local/golang:1", "BASE=local/server-mariadb:1"},
	}.Build(ctx, dir)
	check(t, err)
	check(t, c.ImportImage(ctx, archive))
	check(t, c.ApplyText(ctx, strings.Replace(pod("hello", "hello && sleep 1000", ""), "local/server-mariadb:1", "local/hello:1", 1)))
	check(t, c.WaitPodReady(ctx, "hello"))
	if out, err := c.Logs(ctx, "hello", "main"); err != nil || out != "built here" {
		t.Errorf("the image says %q, %v", out, err)
	}
}

// pod is a pod that satisfies "restricted", with a volume at /volume if claim is not empty.
func pod(name, script, claim string) string {
	volumes, mounts := "", ""
	if claim != "" {
		volumes = "volumes: [{name: volume, persistentVolumeClaim: {claimName: " + claim + "}}]"
		mounts = "volumeMounts: [{name: volume, mountPath: /volume}]"
	}
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 999, runAsGroup: 999, fsGroup: 999, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: local/server-mariadb:1
    command: [bash, -c, ` + quote(script) + `]
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    ` + mounts + `
  ` + volumes + "\n"
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// sql runs statements as root in db-0's server. The password goes by standard input.
func sql(ctx context.Context, t *testing.T, c *Cluster, statements string) string {
	t.Helper()
	out, err := c.ExecInput(ctx, strings.NewReader(statements), "db-0", "server", "bash", "-c",
		`MYSQL_PWD=$(cat /etc/root/password) exec mariadb --host=127.0.0.1 --user=root --skip-column-names`)
	check(t, err)
	return out + "\n"
}

func wantAnswer(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	if out := sql(ctx, t, c, "SELECT a FROM d.t"); out != "42\n" {
		t.Errorf("SELECT a FROM d.t: %q", out)
	}
}

func wantLog(ctx context.Context, t *testing.T, c *Cluster, text string) {
	t.Helper()
	out, err := c.Logs(ctx, "db-0", "server")
	check(t, err)
	if !strings.Contains(out, text) {
		t.Errorf("the server's log does not say %q:\n%s", text, out)
	}
}

// check ends the test over an error, with the lines of this package that led to it.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", callers(), err)
	}
}

// callers are the places in this package's tests that called the function that calls it, the
// innermost first, as "heal_test.go:45 < table_test.go:120": helpers hide their own lines from the
// testing package.
func callers() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var lines []string
	for {
		f, more := frames.Next()
		if file := filepath.Base(f.File); strings.HasSuffix(file, "_test.go") {
			lines = append(lines, fmt.Sprintf("%s:%d", file, f.Line))
		}
		if !more {
			return strings.Join(lines, " < ")
		}
	}
}

// stopwatch returns a function that logs what has just been done and how long it took.
func stopwatch(t *testing.T) func(string) {
	t.Helper()
	last := time.Now()
	return func(done string) {
		t.Helper()
		t.Logf("%5.1f s  %s", time.Since(last).Seconds(), done)
		last = time.Now()
	}
}
