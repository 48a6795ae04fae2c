package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Kubectl runs kubectl as the cluster's administrator in c's namespace (a later -n wins), and
// returns what it printed. The error wraps [exec.ExitError] and ends with what kubectl said.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.kubectl(ctx, nil, args...)
}

func (c *Cluster) kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	// Only the network is the node's: files that the arguments name are this machine's.
	command := append([]string{"-t", c.pid, "-n", "--", filepath.Join(c.places.bin, "kubectl"), "-n", c.Namespace}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", command...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(c.places.run, "admin.kubeconfig"),
		"KUBECACHEDIR="+filepath.Join(c.places.run, "kubectl"))
	cmd.Stdin = stdin
	return output(ctx, cmd)
}

// Apply applies a folder with a kustomization.
func (c *Cluster) Apply(ctx context.Context, dir string) error {
	if _, err := c.Kubectl(ctx, "apply", "-k", dir); err != nil {
		return fmt.Errorf("apply %s: %w", dir, err)
	}
	return nil
}

// ApplyText applies manifests, YAML or JSON.
func (c *Cluster) ApplyText(ctx context.Context, manifests string) error {
	if _, err := c.kubectl(ctx, strings.NewReader(manifests), "apply", "-f", "-"); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// Exec runs a command in a pod's container and returns what it printed. While the API server is
// down use [Cluster.ExecOnNode].
func (c *Cluster) Exec(ctx context.Context, pod, container string, command ...string) (string, error) {
	return c.ExecInput(ctx, nil, pod, container, command...)
}

// ExecInput is Exec for a command that reads stdin to its end.
func (c *Cluster) ExecInput(ctx context.Context, stdin io.Reader, pod, container string, command ...string) (string, error) {
	args := []string{"exec", pod, "-c", container}
	if stdin != nil {
		args = append(args, "-i")
	}
	return c.kubectl(ctx, stdin, append(append(args, "--"), command...)...)
}

// ExecOnNode is Exec past the API server and kubelet: containerd itself runs the command.
func (c *Cluster) ExecOnNode(ctx context.Context, pod, container string, command ...string) (string, error) {
	id, err := c.containerID(ctx, pod, container)
	if err != nil {
		return "", err
	}
	execID := fmt.Sprintf("exec-%d", time.Now().UnixNano())
	return c.ctr(ctx, append([]string{"tasks", "exec", "--exec-id", execID, id}, command...)...)
}

// WaitPodReady waits until the pod exists and is Ready, for as long as ctx allows. A pod that is on
// its way out may still be Ready: wait for its deletion first.
func (c *Cluster) WaitPodReady(ctx context.Context, pod string) error {
	return c.wait(ctx, "pod "+pod+" to be ready", func(ctx context.Context) error {
		const state = `jsonpath={.status.phase} {.status.conditions[?(@.type=="Ready")].status} {.metadata.deletionTimestamp}`
		out, err := c.Kubectl(ctx, "get", "pod", pod, "-o", state)
		if err != nil {
			return err
		}
		if fields := strings.Fields(out); len(fields) != 2 || fields[0] != "Running" || fields[1] != "True" {
			return fmt.Errorf("pod %s: phase, ready, deleted at: %s", pod, out)
		}
		return nil
	})
}

// Logs returns what a container has printed since it was last started.
func (c *Cluster) Logs(ctx context.Context, pod, container string) (string, error) {
	return c.Kubectl(ctx, "logs", pod, "-c", container)
}

// PreviousLogs returns what a container printed before it was last restarted.
func (c *Cluster) PreviousLogs(ctx context.Context, pod, container string) (string, error) {
	return c.Kubectl(ctx, "logs", pod, "-c", container, "--previous")
}

// Event is what a person sees of an event object.
type Event struct {
	Type    string // Normal or Warning
	Reason  string
	Object  string // kind/name
	Message string
	Source  string // the component that reported it
	Count   int    // how often it was seen
}

// Events returns the events of one object, such as a pod, in the order in which they were last
// seen; of all objects of the namespace if name is empty.
func (c *Cluster) Events(ctx context.Context, name string) ([]Event, error) {
	args := []string{"get", "events", "-o", "json", "--sort-by=.metadata.creationTimestamp"}
	if name != "" {
		args = append(args, "--field-selector", "involvedObject.name="+name)
	}
	out, err := c.Kubectl(ctx, args...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	var list struct {
		Items []struct {
			Type, Reason, Message string
			Count                 int
			ReportingComponent    string
			Source                struct{ Component string }
			InvolvedObject        struct{ Kind, Name string }
			Series                struct{ Count int }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	var events []Event
	for _, item := range list.Items {
		source := item.ReportingComponent
		if source == "" {
			source = item.Source.Component
		}
		events = append(events, Event{
			Type: item.Type, Reason: item.Reason, Message: item.Message, Source: source,
			Object: item.InvolvedObject.Kind + "/" + item.InvolvedObject.Name, Count: max(1, item.Count, item.Series.Count),
		})
	}
	return events, nil
}

// Dump writes everything that explains a failure to a folder below .cache/cluster/failures, which
// Down leaves alone, and the end of each part to tb's log. It is meant for a Cleanup that runs
// before Down's, if tb.Failed().
func (c *Cluster) Dump(ctx context.Context, tb testing.TB) {
	tb.Helper()
	// ctx may have ended: that may be the failure.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	dir := filepath.Join(c.places.cache, "failures", strings.ReplaceAll(tb.Name(), "/", "-"))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		tb.Errorf("dump: %v", err)
		return
	}
	part := func(name string, lines int, args ...string) string {
		out, err := c.Kubectl(ctx, args...)
		if err != nil {
			out += "\n" + err.Error()
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(out+"\n"), 0o600); err != nil {
			tb.Errorf("dump: %v", err)
		}
		if lines > 0 {
			tb.Logf("--- %s\n%s", name, lastLines(out, lines))
		}
		return out
	}
	part("pods", 50, "get", "pods,pvc,pv", "-o", "wide", "--show-labels")
	part("events", 80, "get", "events", "--sort-by=.metadata.creationTimestamp", "-o", "custom-columns="+
		"LAST:.lastTimestamp,TYPE:.type,REASON:.reason,OBJECT:.involvedObject.name,COUNT:.count,MESSAGE:.message")
	part("description", 0, "describe", "statefulsets,pods,pvc,leases,services,pdb")
	part("objects.yaml", 0, "get", "all,pvc,configmaps,leases", "-o", "yaml")
	const each = `jsonpath={range .items[*]}{.metadata.name}{range .status['initContainerStatuses','containerStatuses'][*]} {.name}:{.restartCount}{end}{"\n"}{end}`
	pods, err := c.Kubectl(ctx, "get", "pods", "-o", each)
	if err != nil {
		tb.Logf("dump: %v", err)
	}
	for line := range strings.Lines(pods) {
		fields := strings.Fields(line)
		for i := 1; i < len(fields); i++ {
			container, restarts, _ := strings.Cut(fields[i], ":")
			part(fields[0]+"-"+container+".log", 40, "logs", fields[0], "-c", container)
			if restarts != "0" {
				part(fields[0]+"-"+container+"-previous.log", 20, "logs", fields[0], "-c", container, "--previous")
			}
		}
	}
	for _, folder := range []string{"log", "audit"} {
		_ = os.RemoveAll(filepath.Join(dir, folder))
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(c.places.run, folder))); err != nil {
			tb.Logf("dump: %v", err)
		}
	}
	tb.Logf("all of it, and the components' logs: %s", dir)
}
