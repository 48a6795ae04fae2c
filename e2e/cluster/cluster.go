// Package cluster runs a real Kubernetes of one node for the end-to-end tests: etcd, the API
// server, the controllers, the scheduler, kubelet, kube-proxy, CoreDNS, containerd and runc, in
// pid, mount and network namespaces of their own. Only one kernel is shared with the machine: what
// containerd, runc and the CNI plugins do is what they do anywhere.
//
// It needs root, the Debian packages of packages.sh, the binary that build.sh makes and the images
// that images.sh makes. What it does not do: NetworkPolicy is accepted and not enforced, and there
// is only one node.
//
// Pods find images named local/NAME:TAG, whose archives lie below .cache/cluster/images when the
// node comes up, and volumes of the storage class "local", see [Cluster.AddVolumes]. Pod Security
// is enforced where a namespace asks for it.
package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// upTimeout bounds the start of the node, which takes six seconds on two idle cores.
	upTimeout = 5 * time.Minute
	// downTimeout bounds its end, which takes three.
	downTimeout = 2 * time.Minute
	// commandTimeout bounds any one command, kubectl's own --timeout included.
	commandTimeout = 10 * time.Minute
	// pollInterval is how long a wait rests between two looks.
	pollInterval = 200 * time.Millisecond
)

// Cluster is a node that is up. Its methods may be called from several goroutines.
type Cluster struct {
	// Namespace is the one that every method looks into.
	Namespace string
	places    places
	pid       string // of the node's init, as this machine counts
	before    footprint
}

// places are the names that vars.sh gives.
type places struct {
	module, run, bin, images, cache, cgroup, node string
}

// findPlaces asks vars.sh, after having found this module from the working directory, which is a
// package of it.
func findPlaces(ctx context.Context) (places, error) {
	dir, err := os.Getwd()
	if err != nil {
		return places{}, fmt.Errorf("find the module of the cluster: %w", err)
	}
	for !exists(filepath.Join(dir, "vars.sh")) {
		if dir == filepath.Dir(dir) {
			return places{}, errors.New("find the module of the cluster: no vars.sh in any parent of the working directory")
		}
		dir = filepath.Dir(dir)
	}
	const script = `. ./vars.sh && printf '%s\n' "$MODULE" "$RUN" "$BIN" "$IMAGES" "$CACHE" "$CGROUP" "$NODE"`
	out, err := output(ctx, exec.CommandContext(ctx, "bash", "-c", "cd '"+dir+"' && "+script))
	if err != nil {
		return places{}, fmt.Errorf("read vars.sh: %w", err)
	}
	v := strings.Split(out, "\n")
	return places{module: v[0], run: v[1], bin: v[2], images: v[3], cache: v[4], cgroup: v[5], node: v[6]}, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Up brings a fresh cluster up, after having taken down one that an earlier run may have left.
// Namespace is "default"; [Cluster.CreateNamespace] makes another.
func Up(ctx context.Context) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	p, err := findPlaces(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Namespace: "default", places: p}
	if _, err := p.script(ctx, "down.sh"); err != nil {
		return nil, fmt.Errorf("take an earlier cluster down: %w", err)
	}
	if c.before, err = takeFootprint(ctx, p); err != nil {
		return nil, err
	}
	if _, err := p.script(ctx, "up.sh"); err != nil {
		// Without its cause the error would be worth little: the logs stay.
		_, keepErr := p.script(context.WithoutCancel(ctx), "down.sh", "keep")
		return nil, errors.Join(fmt.Errorf("bring the cluster up: %w", err), keepErr)
	}
	pid, err := os.ReadFile(filepath.Join(p.run, "pid", "init"))
	if err != nil {
		return nil, fmt.Errorf("find the node's init: %w", err)
	}
	c.pid = strings.TrimSpace(string(pid))
	return c, nil
}

// Attach finds a cluster that is up, of an earlier process. Its Down does not know what was there
// before.
func Attach(ctx context.Context) (*Cluster, error) {
	p, err := findPlaces(ctx)
	if err != nil {
		return nil, err
	}
	pid, err := output(ctx, exec.CommandContext(ctx, "bash", "-c", ". '"+p.module+"/vars.sh' && node_pid"))
	if err != nil {
		return nil, fmt.Errorf("find a cluster that is up: %w", err)
	}
	return &Cluster{Namespace: "default", places: p, pid: strings.TrimSpace(pid)}, nil
}

// Down ends the cluster, and fails if anything of it is left on the machine: a process, mount,
// network interface, firewall rule, cgroup, loop device, changed sysctl or file. It may be called
// twice.
func (c *Cluster) Down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
	defer cancel()
	if _, err := c.places.script(ctx, "down.sh"); err != nil {
		return fmt.Errorf("take the cluster down: %w", err)
	}
	after, err := takeFootprint(ctx, c.places)
	if err != nil {
		return err
	}
	if diff := c.before.differences(after); len(diff) > 0 {
		return fmt.Errorf("take the cluster down: it left traces:\n%s", strings.Join(diff, "\n"))
	}
	return nil
}

// StateDir is where the running cluster keeps its state: log/COMPONENT.log, audit/audit.log. Down
// removes it.
func (c *Cluster) StateDir() string { return c.places.run }

// CreateNamespace makes a namespace in which Pod Security enforces "restricted", and has c look
// into it from now on.
func (c *Cluster) CreateNamespace(ctx context.Context, name string) error {
	manifest := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q, "labels": {
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}}}`, name)
	if err := c.ApplyText(ctx, manifest); err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	c.Namespace = name
	// Pods are refused until the controller has made their account.
	return c.wait(ctx, "service account of "+name, func(ctx context.Context) error {
		_, err := c.Kubectl(ctx, "get", "serviceaccount", "default")
		return err
	})
}

// script runs one of this module's scripts, on the machine itself.
func (p places) script(ctx context.Context, name string, args ...string) (string, error) {
	return output(ctx, exec.CommandContext(ctx, "bash", append([]string{filepath.Join(p.module, name)}, args...)...))
}

// node runs a command in the node's namespaces, and returns what it printed.
func (c *Cluster) node(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", c.pid, "-n", "-m", "-p", "--"}, args...)...)
	cmd.Stdin = stdin
	return output(ctx, cmd)
}

// ctr talks to the node's containerd, which also answers while the API server is down.
func (c *Cluster) ctr(ctx context.Context, args ...string) (string, error) {
	return c.node(ctx, nil, append([]string{"ctr", "-a", filepath.Join(c.places.run, "containerd.sock"), "-n", "k8s.io"}, args...)...)
}

// output runs a command and returns its standard output without the last newline. The error says
// what was run, ends with the standard error's last lines and wraps the [exec.ExitError].
func output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	text := strings.TrimSuffix(stdout.String(), "\n")
	if err == nil {
		return text, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = errors.Join(err, cause)
	}
	return text, fmt.Errorf("%s: %w: %s", shorten(strings.Join(cmd.Args, " "), 200), err, lastLines(stderr.String(), 20))
}

func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return text[:limit] + "… (" + strconv.Itoa(len(text)) + " bytes)"
}

func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}

// wait calls look until it returns nil or ctx ends; then the error is look's last one.
func (c *Cluster) wait(ctx context.Context, what string, look func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := look(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (%w)", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
